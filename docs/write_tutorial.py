"""Run the code of the tutorial, which also makes its pictures: `python docs/write_tutorial.py`.

The English page is run; the Chinese one gets the same blocks and outputs.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from write_chinese import refresh
from write_steps import DOCS, executed

NAME = "tutorial"


def in_few_colours(path: Path) -> None:
    """Write a picture anew in 256 colours, dithered: a third of its size, and photographs stay smooth."""
    with Image.open(path) as picture:
        drawn = picture.convert("RGB")
    palette = drawn.quantize(256, Image.Quantize.MEDIANCUT)
    drawn.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


if __name__ == "__main__":
    (DOCS / f"{NAME}.md").write_text(executed(f"{NAME}.md", DOCS))
    in_few_colours(DOCS / "images" / f"{NAME}-layers.png")
    refresh(NAME)
