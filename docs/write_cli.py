"""Write docs/cli.md from the command itself, and the Chinese page that leads to it: `python docs/write_cli.py`.

A command or a group that has no words in `CHINESE` yet stops the script and the test.
"""

from __future__ import annotations

import re
from pathlib import Path

import typer

from unconv.cli.app import app
from unconv.cli.groups import groups

HEAD = """# The `unconv` command

[中文](cli.zh-CN.md)

Exit status: 0 done; 1 refused, with one line that says what came, what was needed and what to do; 2 wrong usage; 130 stopped by
Ctrl-C and 143 by SIGTERM; whatever was written until then is complete.

A file or a folder of pages appears complete or not at all, whatever stops the program: earlier pages stay until the new ones
are ready. In a folder, the command replaces only files that an earlier run has listed in `numbers.json` there; if any other
file has the name of a page, it refuses. `explain -o` replaces the file that it names, `deblur` does so only with `--force`. A
replaced file keeps its mode, and a symbolic link keeps leading to the file, which is replaced. Two runs cannot write to the
same folder at the same time. If standard output does not take a result (a full disk, a reader that has gone), the exit status
is 1.

Progress and remarks go to standard error; `-q` leaves them out. This page is written by `docs/write_cli.py`.

`unconv --version` prints the version, and `unconv COMMAND --help` the text below. `unconv --install-completion` makes your
shell complete commands, options and choices such as methods; `unconv --show-completion` prints what it would install.
"""

CHINESE_HEAD = """# `unconv` 命令

[English](cli.md)

本页说明各组命令是做什么的；每条命令的全部参数和选项见[英文页面](cli.md)，它由程序的 `--help` 生成。
点击命令名，可跳到英文页面的相应小节。

退出状态：0 表示完成；1 表示拒绝执行，并用一行说明收到了什么、需要什么、该怎么改；2 表示用法错误；
按 Ctrl-C 停止时为 130，被 SIGTERM 停止时为 143，此时已写出的内容都是完整的。

无论程序因何停止，文件或网页文件夹要么完整写出，要么完全没有。进度和提示写到标准错误输出，可用 `-q` 关掉；
许多命令加上 `--json`，就把所有数值打印到标准输出。

`unconv --version` 打印版本，`unconv COMMAND --help` 打印某条命令的说明。
`unconv --install-completion` 让 shell 自动补全命令、选项和可选的值（例如方法名）。
"""
CHINESE = {
    "Networks": ("网络", "投影训练好的网络中的单元，检查结果是否可信，测量速度。可以先试 `unconv demo`，不需要下载任何东西。"),
    "Data sets": ("数据集", "扫描整个数据集，找出每个单元激活最强的图片，再画成图、做成网站。"),
    "Operations": ("单个运算", "一步一步解释转置卷积和反池化，列出可能的输出大小。"),
    "Signals and pictures": ("图片", "反卷积：从模糊的图片估计清晰的图片。"),
    "Measured signals": ("实测信号", "反卷积：地震道、超声扫描、通信信道、房间里的语音。"),
    "demo": "用自带的网络投影三张照片，写成可以直接打开的网页",
    "places": "列出网络的位置：有哪些可以查看，其中的单元能看到图片的多大一块",
    "project": "显示图片中的哪些结构引起网络单元的激活，写成一个网页文件夹",
    "check": "说明一个网络能否反向运行、到哪里为止，并在这个网络上检验各条性质",
    "bench": "测量每秒能投影多少个单元，以及达到机器极限的百分之几",
    "index": "扫描数据集；中途停止后，再次运行会接着做",
    "top": "列出使某个单元激活最强的图片",
    "figure": "把若干单元画成图：投影与图像块并排",
    "site": "写成网站，每个单元一页",
    "serve": "启动实时页面：放入图片，点选单元",
    "explain": "解释转置卷积或反池化：文字、图片、动画，或带滑块的网页",
    "size": "列出转置卷积所有可能的输出大小，以及 torch、Keras、ONNX 的写法",
    "deblur": "去除图片的模糊：已知点扩散函数，或由图片估计",
    "equalize": "均衡：由接收到的采样值恢复符号和比特；信道可以已知、由训练序列估计，或盲估计",
    "dereverb": "去混响：从房间里录下的语音中去掉混响",
    "cepstrum": "求录音的倒谱：找出回声和基音，并可去掉单个回声",
    "spikes": "从地震道中找出尖脉冲：位置、强度、可靠程度",
    "receiver-function": "由三分量记录求接收函数",
    "echoes": "从超声扫描中找出回波：时延、强度、深度",
}


def reference() -> str:
    """Return the whole page."""
    commands = typer.main.get_command(app).commands
    parts = [HEAD]
    for group in groups("unconv.cli.commands"):
        parts.append(f"## {group.heading}\n")
        names = [function.__name__.replace("_", "-") for function in group.commands]
        parts += [described(name, commands[name]) for name in names]
    return "\n".join(parts)


def chinese() -> str:
    """Return the page in Chinese: what the groups are for, and where each command is described."""
    commands = typer.main.get_command(app).commands
    parts = [CHINESE_HEAD]
    for group in groups("unconv.cli.commands"):
        heading, purpose = CHINESE[group.heading]
        names = [function.__name__.replace("_", "-") for function in group.commands]
        rows = [f"| [`unconv {name}`](cli.md#{anchor(name, commands[name])}) | {CHINESE[name]} |" for name in names]
        parts.append("\n".join([f"## {heading}\n\n{purpose}\n\n| 命令 | 做什么 |\n|---|---|", *rows, ""]))
    return "\n".join(parts)


def anchor(name: str, command) -> str:
    """Return the anchor of a command's section, as GitHub makes it of the heading."""
    return re.sub(r"[^\w -]", "", usage(name, command).lower()).replace(" ", "-")


def usage(name: str, command) -> str:
    """Return how a command is called."""
    arguments = [p.name.upper() for p in command.params if p.param_type_name == "argument"]
    return " ".join(["unconv", name, *arguments, "[OPTIONS]"])


def described(name: str, command) -> str:
    """Return the section of one command."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    rows = [(f"`{p.name.upper()}`", p.help, "") for p in arguments]
    rows += [(f"`{', '.join(p.opts)}`", p.help, default(p)) for p in options]
    lines = "\n".join(f"| {what} | {text} | {value} |" for what, text, value in rows)
    return f"### `{usage(name, command)}`\n\n{command.help}\n\n| | what | default |\n|---|---|---|\n{lines}\n"


def default(option) -> str:
    """Return an option's default as one would type it."""
    return "" if option.default in (None, False, [], ()) else f"`{option.default}`"


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(reference())
    Path(__file__).with_name("cli.zh-CN.md").write_text(chinese())
