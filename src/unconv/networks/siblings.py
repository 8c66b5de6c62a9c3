"""Imports of modules beside a file while it runs; `sys.path` and `sys.modules` are restored afterwards."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

_OURS = {*sys.stdlib_module_names, "torch", "torchvision", "numpy", "PIL", "unconv", "keras"}
"""Modules that are never loaded a second time, even if a file beside the user's has the same name."""


@contextmanager
def importing_beside(path: Path) -> Iterator[str]:
    """Let a file import its siblings, and yield the module name to load it under.

    In a package (a folder with `__init__.py`) this is its full dotted name, so that relative imports work. Modules
    of the same names that the program has loaded from elsewhere are set aside and restored afterwards.
    """
    # Climb to the outermost package: its parent folder is what must be on the path for the full name to resolve.
    folder = Path(os.path.abspath(path)).parent
    root, name = folder, path.stem
    while (root / "__init__.py").is_file() and root.name.isidentifier() and root != root.parent:
        root, name = root.parent, f"{root.name}.{name}"
    folders = [str(folder)] if root == folder else [str(folder), str(root)]
    packaged = root != folder
    names = {name for path in folders for name in _importable(Path(path))} - _OURS
    hidden = _set_aside(names)
    loaded, paths = set(sys.modules), list(sys.path)
    sys.path[:0] = folders
    importlib.invalidate_caches()
    try:
        yield name if packaged else f"unconv_factory_{path.stem}"
    finally:
        sys.path[:] = paths
        for module in [key for key in sys.modules if key not in loaded and key.partition(".")[0] in names]:
            if _lies_in(sys.modules[module], folders):
                del sys.modules[module]
        sys.modules.update(hidden)


def _importable(folder: Path) -> set[str]:
    """Return the names that can be imported from a folder."""
    try:
        entries = list(os.scandir(folder))
    except OSError:  # a folder that may be entered but not listed
        return set()
    return {entry.name.removesuffix(".py") for entry in entries if entry.name.endswith(".py") or entry.is_dir()}


def _set_aside(names: set[str]) -> dict[str, ModuleType]:
    """Remove modules and their submodules from `sys.modules`, and return them."""
    keys = {key for key in sys.modules if key.partition(".")[0] in names}
    return {key: sys.modules.pop(key) for key in keys}


def _lies_in(module: ModuleType | None, folders: list[str]) -> bool:
    """Whether a module was loaded from one of the folders."""
    file = getattr(module, "__file__", None)
    paths = [file] if file else list(getattr(module, "__path__", []))
    return any(str(os.path.abspath(path)).startswith(folder + os.sep) for path in paths for folder in folders)
