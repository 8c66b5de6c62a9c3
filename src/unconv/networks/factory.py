"""Networks built by a function in a Python file: the only way of opening a model that runs the user's code."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from torch import nn

from unconv.errors import ModelError, UnconvError, nearest
from unconv.networks.live import input_size, is_live, is_state_dict, unwrap
from unconv.networks.opened import Opened
from unconv.networks.siblings import importing_beside
from unconv.networks.weights import with_weights

_LIBRARIES = re.compile(r"[/\\](site|dist)-packages[/\\]|[/\\]unconv[/\\]networks[/\\]|^<|[/\\]importlib[/\\]")


def open_factory(spec: str, weights: str | None) -> Opened:
    """Run a Python file and open the module that its function returns; `spec` is "FILE.py:factory".

    The file may import modules beside it, and modules of its package by relative imports. Weights from a file
    replace the module's own. What the file prints goes to standard error.
    """
    file, _, factory = spec.rpartition(":")
    path = Path(file)
    if not os.path.isfile(path):
        raise UnconvError(f"load: there is no file {path}. Pass FILE.py:factory.")
    with redirect_stdout(sys.stderr), importing_beside(path) as name:
        model = _call(path, factory, _run(path, name))
    opened = Opened(unwrap(model), f"{path.name}:{factory}", "the factory's own", None, input_size(model))
    if not hasattr(model, "graph_signature"):
        opened.module.eval()
    return with_weights(opened, weights) if weights else opened


def _run(path: Path, name: str) -> Any:
    """Run a file as the module `name`, and return it."""
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None and specification.loader is not None
    namespace = importlib.util.module_from_spec(specification)
    sys.modules[name] = namespace  # dataclasses look up their module there
    try:
        specification.loader.exec_module(namespace)
    except (Exception, SystemExit) as error:  # whatever the user's file raises
        hint = (
            f" For relative imports, put an empty __init__.py into {path.parent}."
            if "relative import" in str(error) and not (path.parent / "__init__.py").is_file()
            else ""
        )
        raise ModelError(
            f"load: {path} cannot be run: {_summary(error)}. Fix the file so that it can be imported.{hint}"
        ) from error
    return namespace


def _call(path: Path, factory: str, namespace: Any) -> Any:
    """Return the result of the file's function `factory`, or the live module of that name."""
    make, title = getattr(namespace, factory, None), f"{path.name}:{factory}"
    if is_live(make):
        return make
    if not callable(make):
        names = [name for name in vars(namespace) if not name.startswith("__")]
        raise UnconvError(f"load: {path} has no function {factory!r}. Did you mean {nearest(factory, names)}?")
    _refuse_arguments(title, factory, make)
    try:
        result = make()
    except (Exception, SystemExit) as error:  # whatever the user's function raises
        raise ModelError(
            f"load: {title} raised {_summary(error)}. Fix it so that {factory}() returns a torch.nn.Module."
        ) from error
    if not is_live(result):
        raise ModelError(
            f"load: {title} returned {_kind(result)}, but a torch.nn.Module was needed. {_remedy(factory, result)}"
        )
    return result


def _remedy(factory: str, result: Any) -> str:
    if isinstance(result, type) and issubclass(result, nn.Module):
        return f"Return an instance from {factory}: {result.__name__}(..)."
    parts = result.values() if isinstance(result, Mapping) else result if isinstance(result, tuple | list) else ()
    if any(is_live(part) for part in parts):
        return f"Return only the network from {factory}."
    if is_state_dict(result):
        return f"Build the network in {factory}, load these weights into it, and return it."
    return f"Return the network itself from {factory}."


def _kind(result: Any) -> str:
    if isinstance(result, type):
        return f"the class {result.__name__}"
    if is_state_dict(result):
        return "a state dict"
    inside = (
        f" of {', '.join(type(part).__name__ for part in result[:3])}" if isinstance(result, tuple | list) and result else ""
    )
    return f"{type(result).__name__}{inside}"


def _refuse_arguments(title: str, factory: str, make: Callable[..., Any]) -> None:
    """Refuse a function that cannot be called without arguments."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # some classes of torch have no signature
        return
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind not in variable]
    if needed:
        raise ModelError(
            f"load: {title} needs arguments ({', '.join(needed)}), but it is called without any. Add a function to the "
            f"file: def mine(): return {factory}(..), and pass FILE.py:mine."
        )


def _summary(error: BaseException) -> str:
    """Return the error in one line, with the last line of its traceback that is in no library: the user's own code."""
    text = " ".join(str(error).split())[:300].rstrip(".")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _LIBRARIES.search(f.filename)]
    where = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
    return f"{type(error).__name__}{f': {text}' if text else ''}{where}"
