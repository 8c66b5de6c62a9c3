"""Run the code of the pages on transposed convolution: `python docs/write_steps.py`.

Every ```python block is run, in order, in one namespace. The ```text block after it is replaced by what it printed, and the
pictures that it saves go to docs/images; those of the Chinese page have Chinese words, which needs a font with them.
`write_deconvolution.py` does the same for the pages on deconvolution.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from unconv.explain.explanation import Illustration

DOCS = Path(__file__).parent
PAGES = ("transposed-convolution.md", "transposed-convolution.zh-CN.md")
_BLOCK = re.compile(r"```python\n(.*?)```(\n\n```text\n(.*?)```)?", re.S)


def executed(page: str, folder: Path, names: dict[str, Any] | None = None) -> str:
    """Return the page with its current outputs; pictures go to `folder`/images, and the code's variables to `names`."""
    names = {} if names is None else names

    def run(block: re.Match[str]) -> str:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(block[1], page, "exec"), names)
        if block[2] is None:
            assert not printed.getvalue(), f"{page}: no ```text block shows what this prints:\n{block[1]}"
            return block[0]
        return f"```python\n{block[1]}```\n\n```text\n{printed.getvalue()}```"

    (folder / "images").mkdir(exist_ok=True)
    # The code saves its pictures relative to the working directory.
    before = Path.cwd()
    os.chdir(folder)
    try:
        return _BLOCK.sub(run, (DOCS / page).read_text())
    finally:
        os.chdir(before)


@contextmanager
def in_chinese() -> Iterator[None]:
    """Have explanations saved with Chinese words, under names such as ones.zh-CN.png: a page shows what its reader reads."""
    save = Illustration.save

    def saved(self: Any, path: str, **options: Any) -> None:
        save(self.in_language("zh"), Path(path).with_suffix(".zh-CN" + Path(path).suffix), **options)

    Illustration.save = saved  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Illustration.save = save  # type: ignore[method-assign]


if __name__ == "__main__":
    english, chinese = PAGES
    (DOCS / english).write_text(executed(english, DOCS))
    with in_chinese():
        (DOCS / chinese).write_text(executed(chinese, DOCS))
