"""Run the code of the page on spikes, and write its pictures: `UNCONV_DATA=... python docs/write_spikes.py`.

Only the English page is run; the Chinese page gets its blocks and outputs.
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
    """Draw the pictures of the page from the variables of its code."""
    known = names["known"]
    times = np.arange(500) / 500
    row = 1
    parts = (names["traces"][row], known.spikes[row], known.deviation[row], known.refit[row])
    (images / "spikes.png").write_bytes(spikes_picture(*parts, times))
    scan, echoes = names["scan"], names["echoes"]
    content = echoes_picture(
        scan[None], np.arange(400) / 100e6, echoes.delays[None], echoes.amplitudes[None], echoes.refit[None]
    )
    (images / "echoes.png").write_bytes(content)


if __name__ == "__main__":
    names: dict[str, Any] = {}
    page = runpy.run_path(str(DOCS / "write_steps.py"))["executed"](PAGE, DOCS, names)
    (DOCS / PAGE).write_text(page)
    pictures(names, DOCS / "images")
    runpy.run_path(str(DOCS / "write_chinese.py"))["refresh"]("spikes")
