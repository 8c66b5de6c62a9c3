"""The layout of a picture in a TIFF file: its pages with their tags, the axes they form, and copies at lower resolutions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from unconv.pictures.tiff_pages import Page


def is_ome(description: str) -> bool:
    """Return whether a page's description is OME's."""
    return "<OME" in description or ":OME" in description


def is_imagej(description: str) -> bool:
    """Return whether a page's description is ImageJ's."""
    return description.startswith("ImageJ=") or re.search(r"^images=\d", description, re.MULTILINE) is not None


@dataclass(frozen=True, eq=False)
class TiffLayout:
    """The layout of a picture in a TIFF file.

    Attributes:
        pages: the picture's pages, in its order.
        names: the letters of the axes that the pages form, such as "TZC".
        reduced: (height, width) of each copy of the pages at a lower resolution.
        inside: True if each page holds its own copies; False if they follow as pages.
    """

    pages: tuple[Page, ...]
    names: str = ""
    reduced: tuple[tuple[int, int], ...] = ()
    inside: bool = False

    @property
    def plain(self) -> bool:
        """Whether any TIFF writer would lay the picture out like this, so that writing it anew loses nothing."""
        first = self.pages[0]
        described = is_ome(first.description) or is_imagej(first.description)
        named = any(name != "N" for name in self.names)
        # Pillow writes the last of 2 or 4 samples as alpha: no loss only where the file itself calls it that (extra 1 or 2).
        channels = first.samples in (1, 3) or first.extra[-1:] in ((1,), (2,)) or (first.photometric == 2 and not first.extra)
        return not (not channels or described or named or self.reduced or first.tiled or first.big)

    def fits(self, shape: tuple[int, ...], given: str) -> bool:
        """Return whether a picture of this shape has as many pages and channels; height and width may differ."""
        sizes = dict(zip(given, shape, strict=True))
        count = 1
        for axis, length in zip(given, shape, strict=True):
            count *= length if axis in "ND" else 1
        return count == len(self.pages) and sizes.get("C", 1) == self.pages[0].samples
