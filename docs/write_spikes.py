"""Run the code of the pages on spikes, and make their pictures: `UNCONV_DATA=... python docs/write_spikes.py`.

The English page is run; the blocks of the Chinese one are the same, and get the same outputs.
"""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unconv.render.traces import echoes_picture, spikes_picture

DOCS = Path(__file__).parent
PAGE = "spikes.md"


def pictures(names: Mapping[str, Any], images: Path) -> None:
    """The pictures, of what the page's code has made."""
    known = names["known"]
    times = np.arange(500) / 500
    row = 1
    parts = (names["traces"][row], known.spikes[row], known.deviation[row], known.refit[row])
    (images / "spikes.png").write_bytes(spikes_picture(*parts, times))
    scan, echoes = names["scan"], names["echoes"]
    drawn = echoes_picture(scan[None], np.arange(400) / 100e6, echoes.delays[None], echoes.amplitudes[None], echoes.refit[None])
    (images / "echoes.png").write_bytes(drawn)


if __name__ == "__main__":
    made: dict[str, Any] = {}
    page = runpy.run_path(str(DOCS / "write_steps.py"))["executed"](PAGE, DOCS, made)
    (DOCS / PAGE).write_text(page)
    pictures(made, DOCS / "images")
    runpy.run_path(str(DOCS / "write_chinese.py"))["refresh"]("spikes")
