"""Two folders exchanged in one step, where the system can."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


def exchanged(new: Path, old: Path) -> bool:
    """Exchange two folders in one step, unless somebody would notice that `old` has become another one; False if not.

    The new one gets the mode of the old one. Owners must agree, and the program must not work within the old one.
    """
    if sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None, use_errno=True), "renameat2"):
        return False
    ours, theirs = new.stat(), old.stat()
    if (ours.st_uid, ours.st_gid) != (theirs.st_uid, theirs.st_gid) or _works_in(old):
        return False
    shutil.copymode(old, new)
    return bool(library.renameat2(_HERE, os.fsencode(new), _HERE, os.fsencode(old), _EXCHANGE) == 0)


def _works_in(folder: Path) -> bool:
    try:
        here = Path.cwd()
    except OSError:  # it has been deleted
        return False
    return here == folder or folder in here.parents
