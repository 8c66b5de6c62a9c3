"""Zip archives from strangers: every byte accounted for, expansion bounded, all checksums verified."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from unconv.networks.model_files import Unfit, size_of

_MOST_MEMBERS = 200_000
_MOST_EXPANSION = 100  # bytes per byte of a compressed member; DEFLATE can reach 1032
_ENCRYPTED, _DESCRIPTOR, _UTF8 = 0x1, 0x8, 0x800
# Fixed bytes of a local header, a directory entry, the end record, and the zip64 end record with its locator.
_HEADER, _ENTRY, _END, _END64 = 30, 46, 22, 76
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Member:
    """A member of an archive.

    Args:
        start: offset of its bytes in the file.
        stored: its bytes in the file.
        size: its bytes once expanded.
    """

    info: zipfile.ZipInfo
    start: int
    stored: int
    size: int


def open_zip(file: BinaryIO) -> tuple[zipfile.ZipFile, dict[str, Member]]:
    """Check an archive's structure and return it with its members, by name.

    Raises:
        Unfit: it is no archive; it has bytes between, before or after its members, two members of one name, or a
            path that leads outside; or a member expands too much.
    """
    # By offset, not in the order of the directory: only then can gaps and overlaps be seen between neighbours.
    try:
        archive = zipfile.ZipFile(file)
        infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    except (zipfile.BadZipFile, ValueError, LookupError, NotImplementedError, OSError, EOFError) as error:
        raise Unfit("it is not a complete zip archive") from error
    if len(infos) > _MOST_MEMBERS:
        raise Unfit(f"it has {len(infos):,} members")
    members: dict[str, Member] = {}
    for info in infos:
        _refuse_oddness(info)
        if info.filename in members:
            raise Unfit(f"it has two members called {info.filename!r}")
        start = info.header_offset + _HEADER + _lengths(file, info)
        members[info.filename] = Member(info, start, info.compress_size, info.file_size)
    _refuse_gaps(file, archive, list(members.values()))
    return archive, members


def _refuse_oddness(info: zipfile.ZipInfo) -> None:
    name = info.filename
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or "\\" in name or "\0" in info.orig_filename or {"", ".", ".."} & {*parts}:
        raise Unfit(f"the path of its member {name!r} leads outside the archive")
    if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unfit(f"its member {name!r} is encrypted, or compressed by an unusual method")
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise Unfit(f"its member {name!r} is not compressed but announces two different sizes")
    if info.file_size > max(_MOST_EXPANSION * info.compress_size, _CHUNK):
        raise Unfit(f"its member {name!r} expands from {info.compress_size:,} bytes to {info.file_size:,}")


def _lengths(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Return the length of the name and the extra field, from the member's own header: the directory's may differ."""
    file.seek(max(info.header_offset, 0))
    header = file.read(_HEADER)
    if info.header_offset < 0 or len(header) < _HEADER or header[:4] != b"PK\x03\x04":
        raise Unfit(f"its member {info.filename!r} is not where the archive's directory says")
    return int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _refuse_gaps(file: BinaryIO, archive: zipfile.ZipFile, members: list[Member]) -> None:
    """Refuse bytes that belong to no member, which could hide anything, and members that overlap."""
    at = 0
    for index, member in enumerate(members):
        if member.info.header_offset != at:
            raise Unfit(f"there are bytes before its member {member.info.filename!r} that belong to no member")
        end = member.start + member.stored
        at = members[index + 1].info.header_offset if index + 1 < len(members) else archive.start_dir
        # A data descriptor may follow: 3 fields of 4 bytes, or 8 in zip64 for two of them, with or without a signature.
        descriptor = (0, 12, 16, 20, 24) if member.info.flag_bits & _DESCRIPTOR else (0,)
        if at - end not in descriptor:
            raise Unfit(f"its member {member.info.filename!r} does not end where the next begins")
    listed = sum(_ENTRY + len(_raw(member.info)) + len(member.info.extra) + len(member.info.comment) for member in members)
    rest = size_of(file) - archive.start_dir - listed
    if archive.comment or rest not in (_END, _END + _END64):
        raise Unfit("there are bytes after its last member that belong to no member")


def _raw(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437", "replace")


def verify(file: BinaryIO, archive: zipfile.ZipFile, members: dict[str, Member]) -> None:
    """Verify the checksum of every member.

    Raises:
        Unfit: a member differs from its checksum.
    """
    for name, member in members.items():
        if member.info.compress_type == zipfile.ZIP_STORED:
            intact = _checksum(file, member) == member.info.CRC
        else:
            intact = _expands(archive, member)
        if not intact:
            raise Unfit(f"its member {name!r} differs from its checksum")


def _checksum(file: BinaryIO, member: Member) -> int:
    file.seek(member.start)
    crc, left = 0, member.stored
    while left and (chunk := file.read(min(left, _CHUNK))):
        crc = zlib.crc32(chunk, crc)
        left -= len(chunk)
    return crc


def _expands(archive: zipfile.ZipFile, member: Member) -> bool:
    try:
        with archive.open(member.info) as expanded:
            count = 0
            while chunk := expanded.read(_CHUNK):
                count += len(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError):
        return False
    return count == member.size
