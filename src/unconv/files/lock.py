"""Locks on open files: the system gives them back when a process ends, however it ends."""

from __future__ import annotations

import errno
import sys


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed, or until the process ends; False if another process holds the lock.

    Where the system or the file system knows no such locks (Windows, some of the network), every call succeeds.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
