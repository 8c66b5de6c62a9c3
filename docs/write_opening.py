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
KEYS = {"averages": AVERAGES, "what was trained": TRAINED}
# What the program says of its openers, in Chinese; a phrase that is missing here stops the script and the test.
CHINESE = {
    "": "",
    "spec": "写法",
    "opens": "打开什么",
    "needs": "需要安装",
    "weights: none": "不给权重",
    "weights: a name": "权重为名称",
    "weights: a file": "权重为文件",
    "averages": "平均",
    "what was trained": "训练得到的权重",
    "the network in the box": "自带的网络",
    "a model of torchvision": "torchvision 的模型",
    "a model of timm": "timm 的模型",
    "one of `keras.applications`": "`keras.applications` 中的网络",
    "a saved Keras model": "保存的 Keras 模型",
    "an ONNX file": "ONNX 文件",
    "what the function returns; the file is run": "函数返回的网络；文件会被运行",
    "a live `nn.Module`": "程序里的 `nn.Module`",
    "itself; `DataParallel` and `torch.compile` are taken off": "它本身；去掉 `DataParallel` 和 `torch.compile` 的外壳",
    "an `ExportedProgram`": "`ExportedProgram`",
    "what `torch.export` made, with its modules' names": "`torch.export` 的结果，保留各模块的名字",
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
    """All rows, and those of live models, which have no name to be opened by."""
    rows = [(f"`{o.form}`", o.help, o.extra, o.untrained, o.trained, o.files) for o in OPENERS]
    rows += [
        ("a live `nn.Module`", "itself; `DataParallel` and `torch.compile` are taken off", None, "as given", "", TORCH_FILES),
        ("an `ExportedProgram`", "what `torch.export` made, with its modules' names", None, "as given", "", TORCH_FILES),
        ("a live Keras model", "itself", "keras", "as given", "", KERAS_FILES),
    ]
    lines = [[said(cell, words) for cell in HEAD], ["---"] * len(HEAD)]
    for form, help, extra, untrained, trained, files in rows:
        needs, endings = f"`unconv[{extra}]`" if extra else "", listed(files, words)
        shown = form if form.startswith("`") else said(form, words)
        lines.append([shown, said(help, words), needs, said(untrained, words), said(trained, words), endings])
    made = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return made.replace("  |", " |").replace("| --- | --- | --- | --- | --- | --- |", "|---|---|---|---|---|---|")


def said(phrase: str, words: dict[str, str]) -> str:
    """The phrase in the page's language."""
    return words[phrase] if words else phrase


def listed(names: tuple[str, ...], words: dict[str, str]) -> str:
    """Names of code, one after the other."""
    return ("、" if words else ", ").join(f"`{name}`" for name in names)


def keys(words: dict[str, str]) -> str:
    """The lists of keys that a checkpoint's weights are found under, in the order in which they are taken."""
    if words:
        return "".join(f"- {words[name]}：{listed(found, words)}。\n" for name, found in KEYS.items())
    lines = [f"- {name}: {listed(found, words)}." for name, found in KEYS.items()]
    return "\n".join(textwrap.fill(line, 132, subsequent_indent="  ", break_on_hyphens=False) for line in lines) + "\n"


def written(page: str, name: str = "opening.md") -> str:
    """The page with the table and the lists as they are now."""
    words = PAGES[name]
    head, first = said(HEAD[0], words), said(next(iter(KEYS)), words)
    page = re.sub(rf"\| {head} \|.*?\n(?=\n)", lambda _: table(words), page, count=1, flags=re.S)
    return re.sub(rf"- {first}[:：].*?\n(?=\n)", lambda _: keys(words), page, count=1, flags=re.S)


if __name__ == "__main__":
    for name in PAGES:
        (DOCS / name).write_text(written((DOCS / name).read_text(), name))
    runpy.run_path(str(DOCS / "write_chinese.py"))["refresh"]("opening")
