"""What a TIFF file's description tells of its pages: how many there are to be, and which axes they make.

Three programs' descriptions are read: ImageJ's, OME's, and that of the library tifffile. What they announce is counted
against the pages that came, before memory is taken for any of it.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TypeAlias

from unconv.pictures.tiff_layout import is_imagej, is_ome
from unconv.pictures.tiff_pages import MOST_PAGES, Page

_IMAGEJ = re.compile(r"^(images|frames|slices|channels)=(\d{1,9})[ \t\r]*$", re.MULTILINE)
_SHAPED = re.compile(r'^\{.{0,100}?"shape": ?\[([\d, ]{1,300})\]')
_NAMED = re.compile(r'"axes": ?"([A-Z]{1,20})"')
_ELEMENT = r"<(?:\w+:)?{}\b([^<>]*)>"
# Begins where a word does, so that a long text of no sense takes time in proportion to its length.
_ATTRIBUTE = re.compile(r"""(?<![\w:])([\w:]+)\s*=\s*["']([^"'<>]*)["']""")

Stack: TypeAlias = tuple[list[Page], tuple[int, ...], str]
"""Pages, the lengths of the axes that they make, and what these are."""


def arranged(pages: list[Page], size: int, name: str) -> Stack:
    """Return the pages of the one stack in a file, in its order, the lengths of the axes that they make, and what these are.

    Axes of one page are left out. The others are T, Z and C, or as the library tifffile calls them; N is one of which the
    file says nothing.

    Copies of reduced size are left out. Pages that stand behind another without tags of their own are found.

    Args:
        size: bytes of the file.
        name: the file's, which OME's description may call it.

    Raises:
        ValueError: other pages came than were announced, or some lie in other files.
    """
    kept = [page for page in pages if not page.index or not page.reduced]
    description = kept[0].description
    if is_ome(description):
        return _ome(kept, _uncommented(description), name)
    if is_imagej(description):
        return _imagej(kept, dict(_IMAGEJ.findall(description)), size)
    if _SHAPED.match(description):
        return _shaped(kept, size)
    return kept, *_unnamed(len(kept))


def _unnamed(count: int) -> tuple[tuple[int, ...], str]:
    return ((count,), "N") if count > 1 else ((), "")


def _imagej(pages: list[Page], told: dict[str, str], size: int) -> Stack:
    """Return an ImageJ stack: pages of time, then depth, then channels."""
    count = int(told.get("images", len(pages)))
    lengths = {"T": int(told.get("frames", 1)), "Z": int(told.get("slices", 1)), "C": int(told.get("channels", 1))}
    long = {axis: length for axis, length in lengths.items() if length > 1}
    named = (tuple(long.values()), "".join(long))
    return _counted(pages, count, size), *(named if math.prod(named[0]) == count else _unnamed(count))


def _shaped(pages: list[Page], size: int) -> Stack:
    """Return a stack of tifffile's, whose description holds the shape of all pages together."""
    counts: list[int] = []
    lead: tuple[int, ...] = ()
    letters = ""
    for page in pages:
        found = _SHAPED.match(page.description)
        if found is None:
            continue
        shape = tuple(int(part) for part in found[1].split(",") if part.strip().isdecimal() and len(part) < 12)
        count, rest = divmod(math.prod(shape), page.height * page.width * page.samples)
        axes = next((n for n in range(len(shape) + 1) if math.prod(shape[:n]) == count), None)
        if rest or axes is None:
            raise ValueError(
                f"its description tells of {str(shape)[:60]}, but page {page.index} is {(page.height, page.width)}"
            )
        counts.append(count)
        told = _NAMED.search(page.description)
        names = told[1].replace("Q", "N") if told and len(told[1]) == len(shape) else "N" * len(shape)
        lead = tuple(length for length in shape[:axes] if length > 1)
        letters = "".join(name for name, length in zip(names, shape[:axes], strict=False) if length > 1)
    named = (lead, letters) if len(counts) == 1 else _unnamed(sum(counts))
    return _counted(pages, sum(counts), size), *named


def _counted(pages: list[Page], count: int, size: int) -> list[Page]:
    """Return `count` pages: those that came, or those that stand without tags behind the one that did."""
    if count == len(pages):
        return pages
    (first, *others) = pages
    step = sum(first.stored(index) for index in range(len(first.starts)))
    ends = [start + first.stored(index) for index, start in enumerate(first.starts)]
    behind = first.compression == 1 and not first.tiled and ends[:-1] == list(first.starts[1:])
    if others or not behind or not 1 <= count <= MOST_PAGES or first.starts[0] + count * step > size:
        raise ValueError(f"its description announces {count} pages, but it holds {len(pages)}")
    return [replace(first, starts=tuple(start + step * k for start in first.starts)) for k in range(count)]


def _ome(pages: list[Page], xml: str, name: str) -> Stack:
    """Return the planes that OME's description puts in order.

    Source:
        OME, "OME-TIFF specification", version 6: TiffData.
    """
    found = _elements(xml, "Pixels")
    if len(found) != 1 or _elements(xml, "BinaryOnly"):
        raise ValueError(f"its OME description tells of {len(found)} pictures; one, described in this file, was needed")
    (pixels,) = found
    sizes = {axis: pixels.get(f"Size{axis}", "") for axis in "CZT"}
    order = [axis for axis in pixels.get("DimensionOrder", "") if axis in "CZT"]
    if not all(size.isdecimal() and len(size) < 10 for size in sizes.values()):
        raise ValueError(f"its OME description does not tell the sizes of its picture, but {str(sizes)[:80]}")
    lengths = {axis: int(size) for axis, size in sizes.items()}
    if lengths["C"] % pages[0].samples == 0:  # a pixel of red, green and blue is three channels of one plane
        lengths["C"] //= pages[0].samples
    count = math.prod(lengths.values())
    if sorted(order) != sorted("CZT") or count != len(pages):
        raise ValueError(f"its OME description announces {count} planes, but it holds {len(pages)}; others may lie elsewhere")
    places = _places(xml, order, lengths, name)
    if sorted(places) != list(range(count)):
        raise ValueError(f"its OME description leaves some of its {count} planes without a page, or with one of two")
    letters = [axis for axis in reversed(order) if lengths[axis] > 1]
    return [pages[place] for place in places], tuple(lengths[axis] for axis in letters), "".join(letters)


def _uncommented(xml: str) -> str:
    """Return the text without comments; one without an end reaches to the text's end."""
    first, *others = xml.split("<!--")
    return first + "".join(other.partition("-->")[2] for other in others)


def _places(xml: str, order: list[str], lengths: dict[str, int], name: str) -> list[int]:
    """Return the page of each plane, the axis that comes first in `order` running fastest."""
    count = math.prod(lengths.values())
    parts = re.split(_ELEMENT.format("TiffData"), xml)
    if len(parts) == 1:
        return list(range(count))
    own = re.search(_ELEMENT.format("OME"), xml)
    identity = dict(_ATTRIBUTE.findall(own[1])).get("UUID") if own else None
    places, named = [-1] * count, 0
    for attributes, inside in zip(parts[1::2], parts[2::2], strict=True):
        told = dict(_ATTRIBUTE.findall(attributes))
        _refuse_elsewhere("" if attributes.endswith("/") else inside, identity, name)
        numbers = {key: int(value) for key, value in told.items() if value.isdecimal() and len(value) < 10}
        first, at = 0, 1
        for axis in order:
            first += at * numbers.get(f"First{axis}", 0)
            at *= lengths[axis]
        page = numbers.get("IFD", 0)
        planes = numbers.get("PlaneCount", 1 if "IFD" in numbers else count - first)
        named += planes
        if first + planes > count or page + planes > count or named > count:
            raise ValueError(f"its OME description puts {planes} planes behind plane {first}, but there are {count}")
        places[first : first + planes] = range(page, page + planes)
    return places


def _refuse_elsewhere(inside: str, identity: str | None, name: str) -> None:
    """Refuse planes that lie in another file, whatever this one holds in their place."""
    found = re.match(r"\s*<(?:\w+:)?UUID\b([^<>]*)>([^<]*)<", inside)
    if found is None:
        return
    file, unique = dict(_ATTRIBUTE.findall(found[1])).get("FileName", name), found[2].strip()
    if unique != identity if identity else file != name:
        raise ValueError(f"planes of it lie in another file, {file[:80]!r}. Save them in one file, or read that one")


def _elements(xml: str, element: str) -> list[dict[str, str]]:
    return [dict(_ATTRIBUTE.findall(attributes)) for attributes in re.findall(_ELEMENT.format(element), xml)]
