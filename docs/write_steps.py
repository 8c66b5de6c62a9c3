"""Run the code of the pages on transposed convolution: `python docs/write_steps.py`.

Every ```python block is run, in order, in one namespace; the ```text block after it gets what it printed, and the pictures
that it saves land in docs/images. Of the pages on deconvolution: `write_deconvolution.py`.
"""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
PAGES = ("transposed-convolution.md", "transposed-convolution.zh-CN.md")
_BLOCK = re.compile(r"```python\n(.*?)```(\n\n```text\n(.*?)```)?", re.S)


def executed(page: str, folder: Path, names: dict[str, Any] | None = None) -> str:
    """The page with its outputs as they are now; pictures go to `folder`/images, what the code defines to `names`."""
    names = {} if names is None else names

    def run(block: re.Match[str]) -> str:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(block[1], page, "exec"), names)
        if block[2] is None:
            assert not printed.getvalue(), f"{page}: nothing shows what this prints:\n{block[1]}"
            return block[0]
        return f"```python\n{block[1]}```\n\n```text\n{printed.getvalue()}```"

    (folder / "images").mkdir(exist_ok=True)
    before = Path.cwd()
    os.chdir(folder)
    try:
        return _BLOCK.sub(run, (DOCS / page).read_text())
    finally:
        os.chdir(before)


if __name__ == "__main__":
    for name in PAGES:
        (DOCS / name).write_text(executed(name, DOCS))
