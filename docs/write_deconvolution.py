"""Run the code of the page on deconvolution, and draw its pictures: `python docs/write_deconvolution.py`.

Only the English page is run. The blocks of the Chinese page are the same, and get the same outputs. The pictures are drawn from
the variables of the page's code.
"""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from unconv.pictures.draw import grid

DOCS = Path(__file__).parent
PAGE = "deconvolution.md"
_SIDE, _LINE, _GREYS = 256, 26, 96


def pictures(names: Mapping[str, Any], images: Path) -> None:
    """Draw the page's pictures from the variables of its code."""
    photograph = names["sharp"].comparison()
    photograph.resize((2 * photograph.width, 2 * photograph.height), Image.Resampling.BICUBIC).quantize(200).save(
        images / "telephone.png", optimize=True
    )
    first = {"truth": "truth", "observed": "observed", "adjoint": "adjoint", "inverse": "1/H", "similar": "deblur"}
    _write({caption: names[name] for name, caption in first.items()}, 5, images / "adjoint-and-inverse.png")
    _write({"observed": names["observed"], **names["restored"]}, 4, images / "deblurred.png")
    ends = {f'boundary="{name}"': picture for name, picture in names["ends"].items()}
    _write({"observed": names["photo"], **ends}, 3, images / "boundary.png")


def _write(tiles: Mapping[str, Tensor], columns: int, path: Path) -> None:
    """Write pictures of 0 to 255 with their names above, in few greys, which keeps the file small."""
    named = [_named(name, picture) for name, picture in tiles.items()]
    grid(named, columns, 8).convert("L").quantize(_GREYS, dither=Image.Dither.NONE).save(path, optimize=True)


def _named(name: str, picture: Tensor) -> Image.Image:
    shown = Image.fromarray(picture.clamp(0, 255).round().byte().numpy())
    shown = shown.resize((_SIDE, round(_SIDE * shown.height / shown.width)), Image.Resampling.BICUBIC)
    tile = Image.new("L", (_SIDE, shown.height + _LINE), 255)
    tile.paste(shown, (0, _LINE))
    ImageDraw.Draw(tile).text((2, _LINE // 2), name, 0, ImageFont.load_default(16), anchor="lm")
    return tile


if __name__ == "__main__":
    names: dict[str, Any] = {}
    (DOCS / PAGE).write_text(runpy.run_path(str(DOCS / "write_steps.py"))["executed"](PAGE, DOCS, names))
    runpy.run_path(str(DOCS / "write_chinese.py"))["refresh"]("deconvolution")
    pictures(names, DOCS / "images")
    (DOCS / "phone.jpg").unlink()
