"""The table of what can be opened: one row for each way to write a network's name.

Dispatch, docstrings, `--help`, the error for a name that fits no row and the table in docs/opening.md are all made
from it. A row names its function in quotes, so that the table, and `unconv --help` with it, loads no torch.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from unconv.errors import UnconvError

if TYPE_CHECKING:
    from unconv.networks.opened import Opened

TORCH_FILES = (".safetensors", ".pth", ".pt")
KERAS_FILES = (".keras", ".weights.h5")

_Documented = TypeVar("_Documented", bound=Callable[..., object])


@dataclass(frozen=True)
class Opener:
    """One way to write a network's name, and the function that opens it.

    Args:
        form: as the user writes it, where NAME, FILE and factory stand for the user's own words.
        function: "module:function" of ours, imported when it is called. It takes what stands after the colon (all
            that was written, if `form` begins with FILE) and the weights (str | None), and returns an `Opened`.
        extra: the extra of ours to install for it; None if it needs none.
        help: one line: what is opened.
        untrained: the weights that the network has if none are asked for.
        trained: the names that may be asked for as weights; "" if there are none.
        files: the endings of the files that may be asked for as weights.
        example: a whole name, for the form that is shown first.
    """

    form: str
    function: str
    extra: str | None
    help: str
    untrained: str
    trained: str = ""
    files: tuple[str, ...] = TORCH_FILES
    example: str = ""

    def argument(self, spec: str) -> str | None:
        """Return the argument for the function if `spec` is written in this form; None if it is not."""
        pattern = re.escape(self.form).replace("NAME", ".+").replace("FILE", ".+").replace("factory", "[^:]*")
        if not re.fullmatch(pattern, spec, re.DOTALL):
            return None
        return spec if self.form.startswith("FILE") else spec.partition(":")[2]

    def open(self, argument: str, weights: str | None) -> Opened:
        """Open a model by the function; its module is imported only now."""
        module, _, name = self.function.partition(":")
        opened: Opened = getattr(importlib.import_module(module), name)(argument, weights)
        return opened


OPENERS = [
    Opener("unconv:caltech", "unconv.networks.caltech:open_caltech", None, "the network in the box", "as shipped"),
    Opener(
        "torchvision:NAME",
        "unconv.networks.torchvision:open_torchvision",
        None,
        "a model of torchvision",
        "random",
        "`DEFAULT`, or torchvision's names",
        example="torchvision:vgg16",
    ),
    Opener(
        "timm:NAME",
        "unconv.networks.timm:open_timm",
        "timm",
        "a model of timm",
        "random",
        "`DEFAULT`, or a tag such as `a1_in1k`",
    ),
    Opener(
        "keras:NAME",
        "unconv.networks.keras.opening:open_keras",
        "keras",
        "one of `keras.applications`",
        "random",
        "`DEFAULT` (ImageNet's)",
        KERAS_FILES,
    ),
    Opener(
        "FILE.keras",
        "unconv.networks.keras.opening:open_keras_file",
        "keras",
        "a saved Keras model",
        "those in the file",
        files=KERAS_FILES,
    ),
    Opener("onnx:FILE", "unconv.networks.onnx.opening:open_onnx", "onnx", "an ONNX file", "those in the file", files=()),
    Opener(
        "FILE.py:factory",
        "unconv.networks.factory:open_factory",
        None,
        "what the function returns; the file is run",
        "its own",
    ),
]
"""In the order in which they are tried and shown."""


def find_opener(spec: str) -> tuple[Opener, str]:
    """Find the row in whose form `spec` is written, and the argument for its function.

    Raises:
        UnconvError: no row fits.
    """
    for opener in OPENERS:
        argument = opener.argument(spec)
        if argument is not None:
            return opener, argument
    hint = f' {spec} holds weights: pass it second, as in unconv.load("{OPENERS[1].example}", {spec!r}).'
    known = f"load: {spec!r} names no network. Pass {', '.join(_forms())}, or a torch.nn.Module."
    raise UnconvError(known + (hint if spec.endswith((*TORCH_FILES, ".ckpt", ".h5")) else ""))


def model_help() -> str:
    """List the ways to write a network's name, for `--help`."""
    *most, last = _forms()
    return f"{', '.join(most)}, or {last}."


def weights_help() -> str:
    """List what may be passed as weights, for `--help`."""
    usual = OPENERS[0].files
    others: dict[tuple[str, ...], list[str]] = {}
    for opener in OPENERS:
        if opener.files and opener.files != usual:
            others.setdefault(opener.files, []).append(opener.form)
    exceptions = "".join(f"; {_either(files)} for {' and '.join(forms)}" for files, forms in others.items())
    return f"A file {_either(usual)}{exceptions}; or DEFAULT, which downloads."


def lists_openers(function: _Documented) -> _Documented:
    """Add the whole table to a function's docstring, where `help()` and a notebook show it."""
    width = max(len(opener.form) for opener in OPENERS) + 2
    lines = [f"    {opener.form:{width}}{opener.help}" for opener in OPENERS]
    function.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Networks:", *lines])
    return function


def _forms() -> list[str]:
    return [f"{opener.form} ({opener.example})" if opener.example else opener.form for opener in OPENERS]


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
