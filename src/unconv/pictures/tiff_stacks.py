"""Read from a TIFF file's description how many pages it should have, and which axes they form.

The descriptions of three programs are read: ImageJ's, OME's, and that of the library tifffile. The pages that they
announce are compared with those in the file before any memory is allocated.
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
# It may begin only at the start of a word, so that matching a long text of nonsense takes linear time.
_ATTRIBUTE = re.compile(r"""(?<![\w:])([\w:]+)\s*=\s*["']([^"'<>]*)["']""")

Stack: TypeAlias = tuple[list[Page], tuple[int, ...], str]
"""Pages, the lengths of the axes that they form, and the letters of these axes."""


def arranged(pages: list[Page], size: int, name: str) -> Stack:
    """Return the pages of the one stack in a file in the stack's order, the lengths of the axes they form, and their letters.

    Axes of length 1 are left out. The others are T, Z and C, or those of the library tifffile; N is an axis that the file
    does not name. Copies at reduced size are left out. Pages without tags of their own, which follow another, are included.

    Args:
        size: bytes of the file.
        name: the file's name, by which OME's description may refer to it.

    Raises:
        ValueError: the pages are not those announced, or some lie in other files.
    """
    stack = [page for page in pages if not page.index or not page.reduced]
    description = stack[0].description
    if is_ome(description):
        return _ome(stack, _uncommented(description), name)
    if is_imagej(description):
        return _imagej(stack, dict(_IMAGEJ.findall(description)), size)
    if _SHAPED.match(description):
        return _shaped(stack, size)
    return stack, *_unnamed(len(stack))


def _unnamed(count: int) -> tuple[tuple[int, ...], str]:
    return ((count,), "N") if count > 1 else ((), "")


def _imagej(pages: list[Page], counts: dict[str, str], size: int) -> Stack:
    """Return the stack of an ImageJ file, whose channels vary fastest, then depth, then time."""
    count = int(counts.get("images", len(pages)))
    lengths = {"T": int(counts.get("frames", 1)), "Z": int(counts.get("slices", 1)), "C": int(counts.get("channels", 1))}
    longer = {axis: length for axis, length in lengths.items() if length > 1}
    axes = (tuple(longer.values()), "".join(longer))
    return _counted(pages, count, size), *(axes if math.prod(axes[0]) == count else _unnamed(count))


def _shaped(pages: list[Page], size: int) -> Stack:
    """Return the stack of a file by tifffile, whose description holds the shape of all pages together."""
    counts: list[int] = []
    lengths: tuple[int, ...] = ()
    letters = ""
    for page in pages:
        match = _SHAPED.match(page.description)
        if match is None:
            continue
        shape = tuple(int(part) for part in match[1].split(",") if part.strip().isdecimal() and len(part) < 12)
        count, remainder = divmod(math.prod(shape), page.height * page.width * page.samples)
        # The leading axes that count the pages: those whose lengths multiply to the number of pages.
        axes = next((n for n in range(len(shape) + 1) if math.prod(shape[:n]) == count), None)
        if remainder or axes is None:
            raise ValueError(
                f"its description announces {str(shape)[:60]}, but page {page.index} is {(page.height, page.width)}"
            )
        counts.append(count)
        axes_match = _NAMED.search(page.description)
        names = axes_match[1].replace("Q", "N") if axes_match and len(axes_match[1]) == len(shape) else "N" * len(shape)
        lengths = tuple(length for length in shape[:axes] if length > 1)
        letters = "".join(name for name, length in zip(names, shape[:axes], strict=False) if length > 1)
    named = (lengths, letters) if len(counts) == 1 else _unnamed(sum(counts))
    return _counted(pages, sum(counts), size), *named


def _counted(pages: list[Page], count: int, size: int) -> list[Page]:
    """Return `count` pages: those in the file, or those that follow its only page without tags of their own.

    ImageJ and tifffile write large stacks in that way: one list of tags, then the samples of all pages in a row.
    """
    if count == len(pages):
        return pages
    (first, *others) = pages
    step = sum(first.stored(index) for index in range(len(first.starts)))
    ends = [start + first.stored(index) for index, start in enumerate(first.starts)]
    contiguous = first.compression == 1 and not first.tiled and ends[:-1] == list(first.starts[1:])
    if others or not contiguous or not 1 <= count <= MOST_PAGES or first.starts[0] + count * step > size:
        raise ValueError(f"its description announces {count} pages, but it holds {len(pages)}")
    return [replace(first, starts=tuple(start + step * k for start in first.starts)) for k in range(count)]


def _ome(pages: list[Page], xml: str, name: str) -> Stack:
    """Return the planes of a file by OME, in the order of its description.

    Source:
        OME, "OME-TIFF specification", version 6: TiffData.
    """
    pictures = _elements(xml, "Pixels")
    if len(pictures) != 1 or _elements(xml, "BinaryOnly"):
        raise ValueError(f"its OME description holds {len(pictures)} pictures, but one, described in this file, was needed")
    (pixels,) = pictures
    sizes = {axis: pixels.get(f"Size{axis}", "") for axis in "CZT"}
    order = [axis for axis in pixels.get("DimensionOrder", "") if axis in "CZT"]
    if not all(size.isdecimal() and len(size) < 10 for size in sizes.values()):
        raise ValueError(f"its OME description gives the sizes of its picture as {str(sizes)[:80]}, but integers were needed")
    lengths = {axis: int(size) for axis, size in sizes.items()}
    if lengths["C"] % pages[0].samples == 0:  # a pixel of red, green and blue is three channels of one plane
        lengths["C"] //= pages[0].samples
    count = math.prod(lengths.values())
    if sorted(order) != sorted("CZT") or count != len(pages):
        raise ValueError(
            f"its OME description announces {count} planes, but it holds {len(pages)}; others may lie in other files"
        )
    indices = _page_indices(xml, order, lengths, name)
    if sorted(indices) != list(range(count)):
        raise ValueError(f"its OME description does not give each of its {count} planes one page of its own")
    letters = [axis for axis in reversed(order) if lengths[axis] > 1]
    return [pages[index] for index in indices], tuple(lengths[axis] for axis in letters), "".join(letters)


def _uncommented(xml: str) -> str:
    """Return XML without comments; one without an end extends to the end of the text."""
    first, *others = xml.split("<!--")
    return first + "".join(other.partition("-->")[2] for other in others)


def _page_indices(xml: str, order: list[str], lengths: dict[str, int], name: str) -> list[int]:
    """Return the index of each plane's page; the first axis in `order` varies fastest."""
    count = math.prod(lengths.values())
    parts = re.split(_ELEMENT.format("TiffData"), xml)
    if len(parts) == 1:
        return list(range(count))
    root = re.search(_ELEMENT.format("OME"), xml)
    identity = dict(_ATTRIBUTE.findall(root[1])).get("UUID") if root else None
    indices, assigned = [-1] * count, 0
    for attributes, content in zip(parts[1::2], parts[2::2], strict=True):
        values = dict(_ATTRIBUTE.findall(attributes))
        _refuse_elsewhere("" if attributes.endswith("/") else content, identity, name)
        numbers = {key: int(value) for key, value in values.items() if value.isdecimal() and len(value) < 10}
        # The index of the first plane, in mixed radix: the axis that varies fastest has the stride 1.
        first, stride = 0, 1
        for axis in order:
            first += stride * numbers.get(f"First{axis}", 0)
            stride *= lengths[axis]
        page = numbers.get("IFD", 0)
        planes = numbers.get("PlaneCount", 1 if "IFD" in numbers else count - first)
        assigned += planes
        if first + planes > count or page + planes > count or assigned > count:
            raise ValueError(f"its OME description assigns {planes} planes from plane {first} on, but there are {count}")
        indices[first : first + planes] = range(page, page + planes)
    return indices


def _refuse_elsewhere(content: str, identity: str | None, name: str) -> None:
    """Refuse planes that the description assigns to another file, even if this one has as many pages."""
    match = re.match(r"\s*<(?:\w+:)?UUID\b([^<>]*)>([^<]*)<", content)
    if match is None:
        return
    file, unique = dict(_ATTRIBUTE.findall(match[1])).get("FileName", name), match[2].strip()
    if unique != identity if identity else file != name:
        raise ValueError(f"planes of it lie in another file, {file[:80]!r}. Save them in one file, or read that one")


def _elements(xml: str, element: str) -> list[dict[str, str]]:
    return [dict(_ATTRIBUTE.findall(attributes)) for attributes in re.findall(_ELEMENT.format(element), xml)]
