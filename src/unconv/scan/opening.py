"""Open whatever a user names as pictures; each kind of file is one row of a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from unconv.errors import DtypeError, PictureError
from unconv.scan.arrays import npy, npz, stack
from unconv.scan.datasets import dataset
from unconv.scan.folders import folder, list_file, paths
from unconv.scan.listed import Pictures, is_picture
from unconv.scan.parquet_files import parquet_files
from unconv.scan.tars import tars

_OF_FILES = {".tar": tars, ".parquet": parquet_files}
_OF_FILE = {".npy": npy, ".npz": npz, ".txt": list_file, ".lst": list_file, ".tsv": list_file, ".csv": list_file}


def open_pictures(source: Any) -> Pictures:
    """List the pictures that `source` names.

    Args:
        source: a folder of pictures, of .tar or of .parquet files; one such file, or a .npy, .npz or text file; a list of
            files; an array or tensor with one picture per row; a data set with a length.

    Raises:
        PictureError: there is no picture, or the file is of an unknown kind.
        DtypeError: the source is none of these.
    """
    if isinstance(source, Pictures):
        return source
    if isinstance(source, str | Path):
        return _named(Path(source))
    if isinstance(source, np.ndarray | Tensor):
        return stack(source if isinstance(source, np.ndarray) else source.detach().cpu().numpy(), "")
    if isinstance(source, Sequence) and source and all(isinstance(item, str | Path) for item in source):
        return _several([Path(item) for item in source])
    if isinstance(source, Sequence) and not source:
        raise PictureError("pictures: an empty list came, but pictures were needed. Pass some.")
    return dataset(source)


def _named(path: Path) -> Pictures:
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise PictureError(f"pictures: there is no folder and no file {path}. Check the path.")
    kind = path.suffix.lower()
    if kind in _OF_FILES:
        return _OF_FILES[kind]([path], str(path))
    if kind in _OF_FILE:
        return _OF_FILE[kind](path)
    if path.name.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")):
        return tars([path], str(path))  # raises an error that says how to decompress it
    if is_picture(path.name):
        return paths([path])
    known = ", ".join([*_OF_FILES, *_OF_FILE])
    raise PictureError(f"pictures: {path} is of no kind that holds pictures. Pass a folder, or a file {known}.")


def _folder(path: Path) -> Pictures:
    """List a folder's pictures; if it has none, those in its tar or Parquet files."""
    pictures = folder(path)
    if pictures.entries:
        return pictures
    for suffix, opener in _OF_FILES.items():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() == suffix)
        if files:
            return opener(files, str(path))
    return pictures


def _several(files: list[Path]) -> Pictures:
    kinds = {file.suffix.lower() for file in files}
    if len(kinds) == 1 and (kind := kinds.pop()) in _OF_FILES:
        return _OF_FILES[kind](sorted(files), "")
    folders = [str(file) for file in files if file.is_dir()]
    if folders:
        raise DtypeError(f"pictures: {folders[0]} is a folder among several names; pass one folder, or files.")
    return paths(files)
