"""Run the code of the tutorial, which also saves its pictures: `python docs/write_tutorial.py`.

Only the English page is run; the Chinese page gets the same blocks and outputs.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from write_chinese import refresh
from write_steps import DOCS, executed

NAME = "tutorial"


def in_few_colours(path: Path) -> None:
    """Rewrite a picture in 256 colours, dithered: a third of its size, and photographs stay smooth."""
    with Image.open(path) as picture:
        image = picture.convert("RGB")
    palette = image.quantize(256, Image.Quantize.MEDIANCUT)
    image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


if __name__ == "__main__":
    (DOCS / f"{NAME}.md").write_text(executed(f"{NAME}.md", DOCS))
    in_few_colours(DOCS / "images" / f"{NAME}-layers.png")
    refresh(NAME)
