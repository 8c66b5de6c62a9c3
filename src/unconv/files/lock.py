"""Lock open files; the system releases the locks when the process ends, however it ends."""

from __future__ import annotations

import errno
import sys


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed or the process ends. Return False if another process has locked it.

    If the system or the file system has no such locks (Windows, some network drives), every call succeeds.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
