"""How a TIFF file holds a picture: its pages with their tags, the axes that they make, and copies at lower resolutions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from unconv.pictures.tiff_pages import Page


def is_ome(description: str) -> bool:
    """Whether a description is OME's."""
    return "<OME" in description or ":OME" in description


def is_imagej(description: str) -> bool:
    """Whether a description is ImageJ's."""
    return description.startswith("ImageJ=") or re.search(r"^images=\d", description, re.MULTILINE) is not None


@dataclass(frozen=True, eq=False)
class TiffLayout:
    """How a TIFF file holds a picture.

    Attributes:
        pages: of the picture, in its order.
        names: of the axes that they make, such as "TZC".
        reduced: the sizes of the copies of the pages at lower resolutions.
        inside: the copies belong to each page; else they follow as pages.
    """

    pages: tuple[Page, ...]
    names: str = ""
    reduced: tuple[tuple[int, int], ...] = ()
    inside: bool = False

    @property
    def plain(self) -> bool:
        """Whether any writer of TIFF would lay it out like this, compressed or not: nothing is lost by it."""
        first = self.pages[0]
        told = is_ome(first.description) or is_imagej(first.description)
        named = any(name != "N" for name in self.names)
        channels = first.samples in (1, 3) or first.extra[-1:] in ((1,), (2,)) or (first.photometric == 2 and not first.extra)
        return not (not channels or told or named or self.reduced or first.tiled or first.big)

    def fits(self, shape: tuple[int, ...], given: str) -> bool:
        """Whether a picture of this shape has its pages and channels, if not its height and width."""
        sizes = dict(zip(given, shape, strict=True))
        count = 1
        for axis, length in zip(given, shape, strict=True):
            count *= length if axis in "ND" else 1
        return count == len(self.pages) and sizes.get("C", 1) == self.pages[0].samples
