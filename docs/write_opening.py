"""Write the table in docs/opening.md from the table of openers: `python docs/write_opening.py`."""

from __future__ import annotations

import re
from pathlib import Path

from unconv.networks.openers import KERAS_FILES, OPENERS, TORCH_FILES

HEAD = """| spec | opens | needs | weights: none | weights: a name | weights: a file |
|---|---|---|---|---|---|
"""


def table() -> str:
    """All rows, and those of live models, which have no name to be opened by."""
    rows = [(f"`{o.form}`", o.help, o.extra, o.untrained, o.trained, o.files) for o in OPENERS]
    rows += [
        ("a live `nn.Module`", "itself; `DataParallel` and `torch.compile` are taken off", None, "as given", "", TORCH_FILES),
        ("a live Keras model", "itself", "keras", "as given", "", KERAS_FILES),
    ]
    return HEAD + "".join(
        f"| {form} | {help} | {f'`unconv[{extra}]`' if extra else ''} | {untrained} | {trained} | "
        f"{', '.join(f'`{ending}`' for ending in files)} |\n".replace("  |", " |")
        for form, help, extra, untrained, trained, files in rows
    )


def written(page: str) -> str:
    """The page with the table as it is now."""
    return re.sub(r"\| spec \|.*?\n(?=\n)", lambda _: table(), page, count=1, flags=re.S)


if __name__ == "__main__":
    path = Path(__file__).with_name("opening.md")
    path.write_text(written(path.read_text()))
