"""Write the table in docs/opening.md from the table of openers, and the lists of keys: `python docs/write_opening.py`."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from unconv.networks.checkpoints import AVERAGES, TRAINED
from unconv.networks.openers import KERAS_FILES, OPENERS, TORCH_FILES

HEAD = """| spec | opens | needs | weights: none | weights: a name | weights: a file |
|---|---|---|---|---|---|
"""

KEYS = {"averages": AVERAGES, "what was trained": TRAINED}


def table() -> str:
    """All rows, and those of live models, which have no name to be opened by."""
    rows = [(f"`{o.form}`", o.help, o.extra, o.untrained, o.trained, o.files) for o in OPENERS]
    rows += [
        ("a live `nn.Module`", "itself; `DataParallel` and `torch.compile` are taken off", None, "as given", "", TORCH_FILES),
        ("an `ExportedProgram`", "what `torch.export` made, with its modules' names", None, "as given", "", TORCH_FILES),
        ("a live Keras model", "itself", "keras", "as given", "", KERAS_FILES),
    ]
    return HEAD + "".join(
        f"| {form} | {help} | {f'`unconv[{extra}]`' if extra else ''} | {untrained} | {trained} | "
        f"{', '.join(f'`{ending}`' for ending in files)} |\n".replace("  |", " |")
        for form, help, extra, untrained, trained, files in rows
    )


def keys() -> str:
    """The lists of keys that a checkpoint's weights are found under, in the order in which they are taken."""
    lines = [f"- {name}: {', '.join(f'`{key}`' for key in found)}." for name, found in KEYS.items()]
    return "\n".join(textwrap.fill(line, 132, subsequent_indent="  ", break_on_hyphens=False) for line in lines) + "\n"


def written(page: str) -> str:
    """The page with the table and the lists as they are now."""
    page = re.sub(r"\| spec \|.*?\n(?=\n)", lambda _: table(), page, count=1, flags=re.S)
    return re.sub(r"- averages: .*?\n(?=\n)", lambda _: keys(), page, count=1, flags=re.S)


if __name__ == "__main__":
    path = Path(__file__).with_name("opening.md")
    path.write_text(written(path.read_text()))
