"""Read and check the lists of tags in a TIFF file, one for each page, before any sample is decoded.

Files that were cut off, or that would keep a reader busy for ever, are refused here: each list, tag and strip must lie
inside the file, and their total size is bounded.

Source:
    Adobe, "TIFF Revision 6.0" (1992); "BigTIFF Design" (libtiff).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO, TypeAlias

from unconv.errors import counted

MOST_PAGES = 1 << 18
_MOST_TAGS = 4096  # of a page; TIFF defines some hundred
_MOST_SAMPLES = 4096  # of a pixel
_MOST_COPIES = 32  # of a page, each half as large as the one before
_MOST_TIMES, _MOST_MORE = (
    4,
    1 << 20,
)  # tags, and strips, may come to this many times the file plus so many bytes: pages may share some

# The types of a tag's values: bytes of each, and the letter of `struct` for integers.
_TYPES = {1: (1, "B"), 2: (1, ""), 3: (2, "H"), 4: (4, "I"), 5: (8, ""), 6: (1, "b"), 7: (1, "B"), 8: (2, "h"), 9: (4, "i")}
_TYPES |= {10: (8, ""), 11: (4, ""), 12: (8, ""), 13: (4, "I"), 16: (8, "Q"), 17: (8, "q"), 18: (8, "Q")}

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL, _DESCRIPTION = 256, 257, 258, 259, 262, 266, 270
_STARTS, _ORIENTATION, _SAMPLES, _ROWS, _LENGTHS, _PLANAR, _PREDICTOR = 273, 274, 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILE_STARTS, _TILE_LENGTHS, _KIND, _REDUCED = 322, 323, 324, 325, 339, 254
_DEPTH, _STK_PLANES = (
    32997,
    33629,
)  # SGI's tag for pages within a page; MetaMorph's for its planes, which it describes elsewhere
_SUBPAGES, _EXTRA = 330, 338
_READ = {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL, _STARTS, _ORIENTATION, _SAMPLES, _ROWS, _LENGTHS, _PLANAR}
_READ |= {_PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_STARTS, _TILE_LENGTHS, _KIND, _REDUCED, _DEPTH, _SUBPAGES, _EXTRA}
# Tags that are true only of the file that holds them: how its samples are stored, and offsets of lists of tags and of makers'
# own data. All others are kept for the file of the result.
_OF_THE_FILE = {
    *range(254, 269),
    *range(273, 282),
    284,
    *range(288, 294),
    301,
    *range(317, 320),
    *range(321, 348),
    *range(400, 436),
}
_OF_THE_FILE |= {*range(512, 533), *range(32995, 33000), 33421, 33422, 33560, *range(33628, 33632), *range(34361, 34363), 34412}
_OF_THE_FILE |= {34665, 34853, 37724, 40965, 43314, 50674, *range(50706, 50838), *range(50840, 50982)}
_LISTS = (13, 18)  # types of values that are offsets of lists of tags
_YCBCR = 6  # a photometric interpretation, which may store fewer samples of colour than of brightness

_Tags: TypeAlias = dict[int, tuple[int, ...]]
Tag: TypeAlias = tuple[int, int, int, bytes]
"""A tag's number, the type and the number of its values, and the values in the byte order of the file."""


@dataclass(frozen=True)
class Page:
    """A page of a TIFF file, as its tags describe it.

    Attributes:
        index: the page's number in the file, from 0.
        order: byte order as in `struct`, "<" or ">".
        samples: the number of samples per pixel.
        bits: the bits of each sample.
        kinds: the SampleFormat of each sample: 1 unsigned, 2 signed, 3 floating, 4 unknown, 5 and 6 complex.
        planar: whether each sample of the pixels has a plane of its own.
        segment: (rows, columns) of a strip or tile.
        starts, lengths: offset and length in bytes of each strip or tile; row by row, and plane by plane if `planar`.
        reduced: whether the page is a copy at a lower resolution.
        description: the text of tag 270.
        extra: the kinds of the samples beyond grey or RGB: 1 and 2 alpha, 0 unspecified.
        subpages: offsets of the lists of tags of its reduced copies.
        tags: the tags that do not describe how samples are stored.
        big: whether the file is BigTIFF.
    """

    index: int
    order: str
    width: int
    height: int
    samples: int
    bits: tuple[int, ...]
    kinds: tuple[int, ...]
    compression: int
    photometric: int
    predictor: int
    planar: bool
    tiled: bool
    segment: tuple[int, int]
    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    orientation: int
    reduced: bool
    reversed_bits: bool
    description: str
    extra: tuple[int, ...] = ()
    subpages: tuple[int, ...] = ()
    tags: tuple[Tag, ...] = field(default=(), repr=False)
    big: bool = False

    @property
    def raw(self) -> bool:
        """Whether it is the first page of a camera's raw file: a preview of other pages, or samples of a colour mosaic."""
        return (self.reduced and bool(self.subpages)) or self.photometric in (32803, 34892)

    @property
    def nbytes(self) -> int:
        """The bytes of the decoded page, or of its complete tiles if these are more."""
        pixel = sum(max(1, -(-bits // 8)) for bits in self.bits)
        return max(self.height * self.width * pixel, len(self.starts) * self.stored(0) if self.tiled else 0)

    def rows(self, index: int) -> int:
        """Return the number of rows of strip or tile `index`; the last strip of a plane may have fewer than the others."""
        height = self.segment[0]
        if self.tiled:
            return height
        at = index % -(-self.height // height)
        return min(height, self.height - at * height)

    def stored(self, index: int) -> int:
        """Return the number of bytes of strip or tile `index` once decompressed."""
        bits = self.bits[0] if self.planar else sum(self.bits)
        return self.rows(index) * -(-self.segment[1] * bits // 8)


def is_tiff(start: bytes) -> bool:
    """Return whether a file that begins with `start` is TIFF or BigTIFF."""
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_pages(file: BinaryIO, size: int) -> list[Page]:
    """Return the pages of a TIFF or BigTIFF file of `size` bytes.

    Raises:
        ValueError: it announces what it does not hold, its pages form a circle, or they are more than any picture has.
    """
    start = file.read(16)
    order = {b"II": "<", b"MM": ">"}[start[:2]]
    big = start[2:4] in (b"+\0", b"\0+")
    offset = _number(start[8:16] if big else start[4:8], order)
    pages: list[Page] = []
    visited: set[int] = set()
    budget = _MOST_TIMES * size + _MOST_MORE
    tag_bytes = strip_bytes = 0
    while offset:
        if offset in visited or len(pages) >= MOST_PAGES:
            raise ValueError(f"its pages form a circle, or are more than {MOST_PAGES}")
        visited.add(offset)
        tags, others, cost, offset = _directory(file, size, offset, order, big)
        # The bytes of all lists are summed: a small file could otherwise point to the same bytes from thousands of pages.
        tag_bytes += cost
        pages.append(_page(len(pages), order, tags, others, size, big))
        strip_bytes += sum(pages[-1].lengths)
        if tag_bytes > budget or strip_bytes > budget:
            raise ValueError(f"its pages claim {max(tag_bytes, strip_bytes)} bytes, but it holds {size}")
    if not pages:
        raise ValueError("it holds no page")
    return pages


def _number(raw: bytes, order: str) -> int:
    return int.from_bytes(raw, "little" if order == "<" else "big")


def read_reduced(file: BinaryIO, size: int, page: Page) -> list[Page]:
    """Return the reduced copies of a page, which have lists of tags of their own; none if one of them is damaged."""
    try:
        directories = [_directory(file, size, offset, page.order, page.big) for offset in page.subpages[:_MOST_COPIES]]
        return [_page(page.index, page.order, tags, [], size, page.big) for tags, _, _, _ in directories]
    except ValueError:  # not an error, since the copies are never decoded but computed anew
        return []


def _directory(file: BinaryIO, size: int, at: int, order: str, big: bool) -> tuple[_Tags, list[Tag], int, int]:
    """Return from the list of tags at `at`: the tags used here, the others, their total bytes, and the next list's offset."""
    width, entry, offset = (8, 20, 8) if big else (2, 12, 4)
    count = _number(_bytes(file, size, at, width), order)
    if count > _MOST_TAGS:
        raise ValueError(f"one of its pages has {count} tags, but at most {_MOST_TAGS} are allowed")
    raw = _bytes(file, size, at + width, count * entry + offset)
    tags: _Tags = {}
    others: list[Tag] = []
    cost = width + len(raw)
    for tag, kind, values in _entries(raw[:-offset], entry, order):
        length, letter = _TYPES.get(kind, (0, ""))
        number = _number(values[:-offset], order)
        needed = length * number
        value = values[-offset:][:needed]
        if needed > offset:  # values too long for the entry itself: it holds their offset
            start = _number(values[-offset:], order)
            if start + needed > size:
                raise ValueError(f"the values of tag {tag}, {needed} bytes at {start}, lie beyond its end at {size}")
            cost += needed
            value = _bytes(file, size, start, needed)
        if tag in _READ and letter:
            tags[tag] = struct.unpack(f"{order}{number}{letter}", value)
        elif length and kind not in _LISTS and tag not in _OF_THE_FILE:
            others.append((tag, kind, number, value))
        elif tag == _STK_PLANES and number > 1:
            raise ValueError(f"it is a MetaMorph stack of {number} planes, which are not read. Save it as plain or OME-TIFF")
    return tags, others, cost, _number(raw[-offset:], order)


def described(tags: Iterable[Tag]) -> str:
    """Return the text of the first description (tag 270) among tags; "" if there is none."""
    texts = (value for tag, kind, _, value in tags if tag == _DESCRIPTION and kind in (1, 2, 7))
    text = next(texts, b"").split(b"\0")[0]
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _bytes(file: BinaryIO, size: int, at: int, count: int) -> bytes:
    if at + count > size:
        raise ValueError(f"one of its pages, at {at}, lies beyond its end at {size}")
    file.seek(at)
    return file.read(count)


def _entries(raw: bytes, entry: int, order: str) -> Iterator[tuple[int, int, bytes]]:
    for at in range(0, len(raw), entry):
        yield *struct.unpack_from(f"{order}HH", raw, at), raw[at + 4 : at + entry]


def _page(index: int, order: str, tags: _Tags, others: list[Tag], size: int, big: bool) -> Page:
    """Return a page from its tags, with the standard's defaults, checked for consistency."""

    def one(tag: int, default: int | None = None) -> int:
        value = next(iter(tags.get(tag, ())), default)
        if value is None or value < 0:
            raise ValueError(f"its page {index} lacks tag {tag}")
        return value

    width, height, samples = one(_WIDTH), one(_HEIGHT), one(_SAMPLES, 1)
    bits, kinds = (_each(tags.get(tag, (1,)), samples) for tag in (_BITS, _KIND))
    if 0 in (width, height) or not 1 <= samples <= _MOST_SAMPLES or not all(1 <= depth <= 128 for depth in bits):
        raise ValueError(
            f"its page {index} is {height} x {width} pixels with {samples} samples of {bits[:4]} bits, which is not possible"
        )
    if one(_DEPTH, 1) > 1:
        raise ValueError(
            f"its page {index} holds {one(_DEPTH)} pages in one, which are not read. Save each as a page of its own"
        )
    tiled = _TILE_STARTS in tags or _TILE_WIDTH in tags
    rows = one(_TILE_HEIGHT) if tiled else min(one(_ROWS, height), height)
    columns = one(_TILE_WIDTH) if tiled else width
    # A tile may be larger than a small picture, but only so much: memory is allocated for complete tiles.
    if rows < 1 or columns < 1 or rows * columns > 16 * width * height + _MOST_MORE:
        raise ValueError(f"its page {index} of {height} x {width} pixels is cut into strips or tiles of {rows} x {columns}")
    starts, lengths = tags.get(_TILE_STARTS if tiled else _STARTS, ()), tags.get(_TILE_LENGTHS if tiled else _LENGTHS, ())
    page = Page(
        index, order, width, height, samples, bits, kinds, one(_COMPRESSION, 1), one(_PHOTOMETRIC, 0 if samples < 3 else 2),
        one(_PREDICTOR, 1), one(_PLANAR, 1) == 2 and samples > 1, tiled, (rows, columns), starts, lengths,
        one(_ORIENTATION, 1), bool(one(_REDUCED, 0) & 1), one(_FILL, 1) == 2, described(others),
        tags.get(_EXTRA, ()), tags.get(_SUBPAGES, ()), tuple(others), big,
    )  # fmt: skip
    if page.compression == 1 and not lengths and len(starts) == 1:  # some writers leave the length of a single strip out
        return _within(Page(**{**vars(page), "lengths": (page.stored(0),)}), size)
    return _within(page, size)


@lru_cache(32)  # all pages share one tuple, which saves memory in files of many pages
def _each(values: tuple[int, ...], samples: int) -> tuple[int, ...]:
    return values * samples if len(values) == 1 and samples <= _MOST_SAMPLES else values


def _within(page: Page, size: int) -> Page:
    """Return the page if the file holds all its strips or tiles.

    Raises:
        ValueError: one is missing, lies beyond the file's end, or is shorter than its samples.
    """
    rows, columns = page.segment
    planes = page.samples if page.planar else 1
    count = math.ceil(page.height / rows) * math.ceil(page.width / columns) * planes
    name = f"its page {page.index}"
    if len(page.bits) != page.samples or len(page.kinds) != page.samples:
        raise ValueError(
            f"{name} has SamplesPerPixel {page.samples}, but {counted(len(page.bits), 'depth')} and "
            f"{counted(len(page.kinds), 'sample format')}"
        )
    if (len(page.starts), len(page.lengths)) != (count, count):
        raise ValueError(f"{name} lists {len(page.starts)} of its strips or tiles, but {count} were needed")
    for index, (start, length) in enumerate(zip(page.starts, page.lengths, strict=True)):
        if start < 8 or length < 1:
            raise ValueError(f"strip or tile {index} of {name} holds no samples")
        if start + length > size:
            raise ValueError(f"strip or tile {index} of {name}, {length} bytes at {start}, lies beyond its end at {size}")
        if page.compression == 1 and page.photometric != _YCBCR and length < page.stored(index):
            raise ValueError(f"strip or tile {index} of {name} holds {length} of {page.stored(index)} bytes")
    return page
