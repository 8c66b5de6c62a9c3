"""Writing files: whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from unconv.errors import UnconvError


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: to a temporary name beside it, then moved."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except ValueError as error:
        raise UnconvError(f"write: {str(path)!r} can be no file's name: {error}. Choose another.") from error
    except OSError as error:
        raise UnconvError(f"write: cannot write {path}: {error.strerror}. Choose another folder.") from error
    finally:
        if partial.is_file():
            partial.unlink()
