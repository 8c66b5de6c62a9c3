"""Write the table of openers and the lists of keys into both pages on opening a model: `python docs/write_opening.py`."""

from __future__ import annotations

import re
import runpy
import textwrap
from pathlib import Path

from unconv.networks.checkpoints import AVERAGES, TRAINED
from unconv.networks.openers import KERAS_FILES, OPENERS, TORCH_FILES

DOCS = Path(__file__).parent
HEAD = ("spec", "opens", "needs", "weights: none", "weights: a name", "weights: a file")
KEYS = {"averages": AVERAGES, "trained weights": TRAINED}
# The words of the table in Chinese; a phrase that is missing here stops the script and its test.
CHINESE = {
    "": "",
    "spec": "写法",
    "opens": "打开什么",
    "needs": "需要安装",
    "weights: none": "不给权重",
    "weights: a name": "权重为名称",
    "weights: a file": "权重为文件",
    "averages": "平均",
    "trained weights": "训练得到的权重",
    "the network in the box": "自带的网络",
    "a model of torchvision": "torchvision 的模型",
    "a model of timm": "timm 的模型",
    "one of `keras.applications`": "`keras.applications` 中的网络",
    "a saved Keras model": "保存的 Keras 模型",
    "an ONNX file": "ONNX 文件",
    "the network that the function returns; the file is run": "函数返回的网络；文件会被运行",
    "a live `nn.Module`": "程序里的 `nn.Module`",
    "itself, without `DataParallel` and `torch.compile`": "它本身，去掉 `DataParallel` 和 `torch.compile` 的外壳",
    "an `ExportedProgram`": "`ExportedProgram`",
    "a program of `torch.export`, with its modules' names": "`torch.export` 的程序，保留各模块的名字",
    "a live Keras model": "程序里的 Keras 模型",
    "itself": "它本身",
    "as shipped": "自带的",
    "random": "随机",
    "those in the file": "文件中的",
    "its own": "它自己的",
    "as given": "模型现有的",
    "`DEFAULT`, or torchvision's names": "`DEFAULT`，或 torchvision 的名称",
    "`DEFAULT`, or a tag such as `a1_in1k`": "`DEFAULT`，或标签，如 `a1_in1k`",
    "`DEFAULT` (ImageNet's)": "`DEFAULT`（ImageNet 的权重）",
}
PAGES = {"opening.md": {}, "opening.zh-CN.md": CHINESE}


def table(words: dict[str, str]) -> str:
    """Return the table: the openers' rows, and those of live models, which are passed without a name."""
    rows = [(f"`{o.form}`", o.help, o.extra, o.untrained, o.trained, o.files) for o in OPENERS]
    rows += [
        ("a live `nn.Module`", "itself, without `DataParallel` and `torch.compile`", None, "as given", "", TORCH_FILES),
        ("an `ExportedProgram`", "a program of `torch.export`, with its modules' names", None, "as given", "", TORCH_FILES),
        ("a live Keras model", "itself", "keras", "as given", "", KERAS_FILES),
    ]
    lines = [[translated(cell, words) for cell in HEAD], ["---"] * len(HEAD)]
    for form, help, extra, untrained, trained, files in rows:
        needs, endings = f"`unconv[{extra}]`" if extra else "", listed(files, words)
        shown = form if form.startswith("`") else translated(form, words)
        cells = [translated(cell, words) for cell in (help, untrained, trained)]
        lines.append([shown, cells[0], needs, *cells[1:], endings])
    rendered = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return rendered.replace("  |", " |").replace("| --- | --- | --- | --- | --- | --- |", "|---|---|---|---|---|---|")


def translated(phrase: str, words: dict[str, str]) -> str:
    """Return the phrase in the page's language."""
    return words[phrase] if words else phrase


def listed(names: tuple[str, ...], words: dict[str, str]) -> str:
    """Return names as code, with the page's comma between them."""
    return ("、" if words else ", ").join(f"`{name}`" for name in names)


def keys(words: dict[str, str]) -> str:
    """Return the lists of keys that lead to a checkpoint's weights, in order of preference."""
    if words:
        return "".join(f"- {words[name]}：{listed(names, words)}。\n" for name, names in KEYS.items())
    lines = [f"- {name}: {listed(names, words)}." for name, names in KEYS.items()]
    return "\n".join(textwrap.fill(line, 132, subsequent_indent="  ", break_on_hyphens=False) for line in lines) + "\n"


def written(page: str, name: str = "opening.md") -> str:
    """Return the page with the current table and lists."""
    words = PAGES[name]
    head, first = translated(HEAD[0], words), translated(next(iter(KEYS)), words)
    page = re.sub(rf"\| {head} \|.*?\n(?=\n)", lambda _: table(words), page, count=1, flags=re.S)
    return re.sub(rf"- {first}[:：].*?\n(?=\n)", lambda _: keys(words), page, count=1, flags=re.S)


if __name__ == "__main__":
    for name in PAGES:
        (DOCS / name).write_text(written((DOCS / name).read_text(), name))
    runpy.run_path(str(DOCS / "write_chinese.py"))["refresh"]("opening")
