"""Pictures in tar files, as WebDataset writes them: found once, then read at their place, without unpacking."""

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

    A file that is cut off gives the pictures before the cut, and says so in `faults`.

    Raises:
        PictureError: a file is packed, so that nothing in it can be read at its place, or is no tar.
    """
    entries, faults, others = list[Entry](), list[str](), 0
    for file in files:
        found, labels, fault, left_out = _listed(file, f"{file.name}/" if len(files) > 1 else "")
        others += left_out
        entries += [entry._replace(label=labels.get(_stem(entry.key), entry.label)) for entry in found]
        faults += [fault] if fault else []
    keys = [entry.key for entry in entries]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise PictureError(f"pictures: {where} holds {twice} twice; each picture was needed once. Give one another name.")
    return Pictures("tar", where, entries, read_member, tuple(faults), others)


def read_member(entry: Entry) -> bytes:
    """Return the content of a picture in a tar file.

    Raises:
        PictureError: the file is gone, or ends within the picture.
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
    """Return the pictures in a tar file, labels by the start of names, what is wrong with its end, and how many are none."""
    entries, labels, others, whole = list[Entry](), dict[str, str](), 0, False
    with _opened(file) as tar, file.open("rb") as raw:
        size, member = os.stat(file).st_size, None
        while True:
            try:
                member = tar.next()
            except (tarfile.TarError, OSError, EOFError) as error:
                return entries, labels, f"{file}: damaged behind {entries[-1].key if entries else 'its start'}: {error}", others
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
                others += 1
            whole = member.offset_data + -(-member.size // 512) * 512 <= size
        raw.seek(tar.offset)  # where the next header would be: a whole tar has an empty block there
        ended = raw.read(512) == bytes(512)
    fault = (
        ""
        if whole and ended
        else f"{file}: its end is missing; what came behind {entries[-1].key if entries else 'its start'} is lost"
    )
    return entries, labels, fault, others


def _opened(file: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(file, "r:")
    except tarfile.ReadError as error:
        with file.open("rb") as raw:
            start = raw.read(6)
        packed = next((name for magic, name in _PACKED if start.startswith(magic)), None)
        if packed:
            raise PictureError(
                f"pictures: {file} is packed by {packed}, so that no picture in it can be read by itself. Unpack it once: "
                f"{packed} -dk {file.name}"
            ) from error
        raise PictureError(f"pictures: {file} is no tar file, or is damaged from its start: {error}.") from error
    except OSError as error:
        raise PictureError(f"pictures: {file} cannot be read: {error.strerror or error}.") from error


_PACKED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))


def _stem(key: str) -> str:
    """Return a name up to the first dot of its last part, as WebDataset groups files."""
    folder, slash, last = key.rpartition("/")
    return folder + slash + last.partition(".")[0]
