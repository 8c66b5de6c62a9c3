"""List the pictures in tar files, as WebDataset writes them; they are read by offset, without unpacking the files."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

from unconv.errors import PictureError
from unconv.scan.listed import Entry, Pictures, is_picture

_LONGEST_LABEL = 1000  # bytes of a member that holds a class


def tars(files: Sequence[Path], where: str) -> Pictures:
    """List the pictures in some tar files; a member `NAME.cls` beside a picture `NAME.jpg`, or else its folder, is its label.

    If a file is cut off, the pictures before the cut are listed, and `faults` says so.

    Raises:
        PictureError: a file is compressed, so that nothing in it can be read by offset, or is not a tar file.
    """
    entries, faults, other_files = list[Entry](), list[str](), 0
    for file in files:
        listed, labels, fault, left_out = _listed(file, f"{file.name}/" if len(files) > 1 else "")
        other_files += left_out
        entries += [entry._replace(label=labels.get(_stem(entry.key), entry.label)) for entry in listed]
        faults += [fault] if fault else []
    keys = [entry.key for entry in entries]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise PictureError(f"pictures: {where} holds {twice} twice; each picture was needed once. Give one another name.")
    return Pictures("tar", where, entries, read_member, tuple(faults), other_files)


def read_member(entry: Entry) -> bytes:
    """Return the content of a picture in a tar file.

    Raises:
        PictureError: the file is gone, or ends inside the picture.
    """
    try:
        with open(entry.source, "rb") as file:
            file.seek(entry.offset)
            data = file.read(entry.length)
    except OSError as error:
        raise PictureError(f"pictures: {entry.source} cannot be read: {error.strerror or error}.") from error
    if len(data) < entry.length:
        raise PictureError(f"pictures: {entry.key} is cut off: {entry.source} ends after {len(data)} of {entry.length} bytes.")
    return data


def _listed(file: Path, prefix: str) -> tuple[list[Entry], dict[str, str], str, int]:
    """Return a tar file's pictures, the labels by stem, what is wrong with the file, and the number of other files."""
    entries, labels, other_files, complete = list[Entry](), dict[str, str](), 0, False
    with _opened(file) as tar, file.open("rb") as raw:
        size, member = os.stat(file).st_size, None
        while True:
            try:
                member = tar.next()
            except (tarfile.TarError, OSError, EOFError) as error:
                return (
                    entries,
                    labels,
                    f"{file}: damaged after {entries[-1].key if entries else 'its start'}: {error}",
                    other_files,
                )
            if member is None:
                break
            if not member.isreg() or member.issparse():
                continue
            key = f"{prefix}{member.name.removeprefix('./')}"
            if is_picture(member.name):
                label = key.removeprefix(prefix).partition("/")[0] if "/" in key.removeprefix(prefix) else None
                entries.append(Entry(key, str(file), member.offset_data, member.size, label))
            elif member.name.endswith((".cls", ".cls.txt")) and member.size <= _LONGEST_LABEL:
                raw.seek(member.offset_data)
                labels[_stem(key)] = raw.read(member.size).decode(errors="replace").strip()
            else:
                other_files += 1
            complete = member.offset_data + -(-member.size // 512) * 512 <= size
        raw.seek(tar.offset)  # a complete tar has an empty block where the next header would be
        ended = raw.read(512) == bytes(512)
    fault = (
        ""
        if complete and ended
        else f"{file}: its end is missing; what came after {entries[-1].key if entries else 'its start'} is lost"
    )
    return entries, labels, fault, other_files


def _opened(file: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(file, "r:")
    except tarfile.ReadError as error:
        with file.open("rb") as raw:
            start = raw.read(6)
        program = next((name for magic, name in _PACKED if start.startswith(magic)), None)
        if program:
            raise PictureError(
                f"pictures: {file} is compressed by {program}, so that no picture in it can be read by itself. Decompress it "
                f"once: {program} -dk {file.name}"
            ) from error
        raise PictureError(f"pictures: {file} is not a tar file, or its start is damaged: {error}.") from error
    except OSError as error:
        raise PictureError(f"pictures: {file} cannot be read: {error.strerror or error}.") from error


_PACKED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))


def _stem(key: str) -> str:
    """Return a name up to the first dot of its last part, by which WebDataset groups files."""
    folder, slash, last = key.rpartition("/")
    return folder + slash + last.partition(".")[0]
