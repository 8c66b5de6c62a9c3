"""The table of what can be opened: one row for each way to write a network's name.

Dispatch, docstrings, `--help`, the error for a name that fits no row and the table in docs/opening.md are all made
from it. A row gives its function as a string, so that `unconv --help`, which reads this table, does not import torch.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
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
        form: how the user writes it; NAME, FILE and factory stand for the user's own words.
        function: "module:function" in unconv, imported when it is called. It takes the text after the colon (the
            entire spec if `form` begins with FILE) and the weights (str | None), and returns an `Opened`.
        extra: the extra of unconv to install for it; None if it needs none.
        help: one line: what is opened.
        untrained: the weights that the network has by default.
        trained: the names that may be passed as weights; "" if there are none.
        files: the endings of the files that may be passed as weights.
        example: a complete name, for the form that is shown first.
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
        """Return the function's argument if `spec` has this form, otherwise None."""
        pattern = re.escape(self.form).replace("NAME", ".+").replace("FILE", ".+").replace("factory", "[^:]*")
        if not re.fullmatch(pattern, spec, re.DOTALL):
            return None
        return spec if self.form.startswith("FILE") else spec.partition(":")[2]

    def open(self, argument: str, weights: str | None) -> Opened:
        """Open a model with this row's function; the function's module is imported only now."""
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
        "the network that the function returns; the file is run",
        "its own",
    ),
]
"""The rows, in the order in which they are tried and shown."""


def find_opener(spec: str) -> tuple[Opener, str]:
    """Return the row whose form `spec` has, and the argument for its function.

    Raises:
        UnconvError: no row fits.
    """
    for opener in OPENERS:
        argument = opener.argument(spec)
        if argument is not None:
            return opener, argument
    raise UnconvError(f"load: {spec!r} names no network. Pass {', '.join(_forms())}, or a torch.nn.Module.{_hint(spec)}")


def _hint(spec: str) -> str:
    """Return what to do about the usual mistakes, which the list of forms does not tell."""
    if spec.endswith((*TORCH_FILES, ".ckpt", ".h5")):
        return f' {spec} holds weights: pass it second, as in unconv.load("{OPENERS[1].example}", {spec!r}).'
    if spec.endswith(".py"):
        return f" Name the function that returns the network, too: {spec}:make, for example."
    from torchvision.models import list_models

    known = [OPENERS[0].form, *(f"torchvision:{name}" for name in list_models())]
    close = [name for name in known if name.partition(":")[2] == spec.lower()] or get_close_matches(spec, known, 3, 0.8)
    return f" Did you mean {', '.join(close)}?" if close else ""


def model_help() -> str:
    """List the ways to write a network's name, for `--help`."""
    *most, last = _forms()
    return f"{', '.join(most)}, or {last}."


def weights_help() -> str:
    """List what may be passed as weights, for `--help`."""
    torch_files = OPENERS[0].files
    others: dict[tuple[str, ...], list[str]] = {}
    for opener in OPENERS:
        if opener.files and opener.files != torch_files:
            others.setdefault(opener.files, []).append(opener.form)
    exceptions = "".join(f"; {_either(files)} for {' and '.join(forms)}" for files, forms in others.items())
    return f"A file {_either(torch_files)}{exceptions}; or DEFAULT, which downloads."


def lists_openers(function: _Documented) -> _Documented:
    """Add the table of forms to a function's docstring, where `help()` and a notebook show it."""
    width = max(len(opener.form) for opener in OPENERS) + 2
    lines = [f"    {opener.form:{width}}{opener.help}" for opener in OPENERS]
    function.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Networks:", *lines])
    return function


def _forms() -> list[str]:
    return [f"{opener.form} ({opener.example})" if opener.example else opener.form for opener in OPENERS]


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
