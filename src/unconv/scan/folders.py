"""List pictures that are files: in a folder, in a list of paths, or in a text file of paths."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from unconv.errors import PictureError
from unconv.scan.listed import Entry, Pictures, is_picture


def folder(root: Path) -> Pictures:
    """List the pictures below a folder, sorted by path; a picture's label is the subfolder of `root` that holds it."""
    entries, left_out = list[Entry](), 0
    for path in _walked(root):
        if not is_picture(path):
            left_out += 1
            continue
        label = path.partition("/")[0] if "/" in path else None
        entries.append(Entry(path, os.path.join(root, path), 0, _size(os.path.join(root, path)), label))
    return Pictures("folder", str(root), entries, read_file, left_out=left_out)


def paths(files: Sequence[Path]) -> Pictures:
    """List some files in the order given; a picture's key is its path from the folder that all have in common."""
    absolute = [os.path.abspath(file) for file in files]
    shared = os.path.commonpath([os.path.dirname(path) for path in absolute]) if absolute else ""
    keys = [os.path.relpath(path, shared).replace(os.sep, "/") for path in absolute]
    _refuse_twice(keys, "the list of pictures")
    entries = [Entry(key, path, 0, _size(path), None) for key, path in zip(keys, absolute, strict=True)]
    return Pictures("list of paths", "", entries, read_file)


def list_file(file: Path) -> Pictures:
    """List the pictures in a text file: on each line a path relative to its folder, and perhaps a tab or space and a label."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PictureError(
            f"pictures: {file} cannot be read as a list of pictures, one per line: {error}. "
            "Pass a folder, a text file in UTF-8, a .tar, a .parquet or a .npy."
        ) from error
    entries = []
    for line in filter(None, (line.strip() for line in lines)):
        path, label = _labelled(line, file.parent)
        entries.append(Entry(path, os.path.join(file.parent, path), 0, _size(os.path.join(file.parent, path)), label))
    _refuse_twice([entry.key for entry in entries], str(file))
    return Pictures("list file", str(file), entries, read_file)


def read_file(entry: Entry) -> bytes:
    """Return the content of a picture's file.

    Raises:
        PictureError: the file is gone, or cannot be read.
    """
    try:
        with open(entry.source, "rb") as file:
            return file.read()
    except OSError as error:
        raise PictureError(f"pictures: {entry.key} cannot be read: {error.strerror or error}.") from error


def _walked(root: Path) -> Iterator[str]:
    """Yield the files below a folder, sorted by path; hidden ones are left out, and links to a folder seen before."""
    files, waiting, visited = [], [("", os.path.realpath(root))], {os.path.realpath(root)}
    while waiting:
        below, folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise PictureError(f"pictures: the folder {folder} cannot be listed: {error.strerror or error}.") from error
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{below}{entry.name}"
            if not entry.is_dir():
                files.append(name)
            elif (real := os.path.realpath(entry.path)) not in visited:
                visited.add(real)
                waiting.append((f"{name}/", entry.path))
    yield from sorted(files)


def _size(path: str) -> int:
    """Return a file's length; -1 if it is missing, which is reported when it is read."""
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return -1


def _labelled(line: str, folder: Path) -> tuple[str, str | None]:
    if "\t" in line:
        path, _, label = line.partition("\t")
        return path.strip(), label.strip() or None
    if " " not in line or (folder / line).exists():
        return line, None
    path, _, label = line.rpartition(" ")
    return (path, label) if is_picture(path) else (line, None)


def _refuse_twice(keys: Sequence[str], where: str) -> None:
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise PictureError(f"pictures: {where} names {twice} twice; each picture was needed once. Leave one out.")
