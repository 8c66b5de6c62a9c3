"""Networks that a function in a Python file makes: the one way to open a model that runs the user's code."""

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
from unconv.networks.weights import loaded

_LIBRARIES = re.compile(r"[/\\](site|dist)-packages[/\\]|[/\\]unconv[/\\]networks[/\\]|^<|[/\\]importlib[/\\]")


def open_factory(spec: str, weights: str | None) -> Opened:
    """Run a file and open the module that its function makes; `spec` is "FILE.py:factory".

    The file may import what lies beside it, and by relative imports what is in its package. Weights from a file
    replace the module's own. What the file prints goes to standard error.
    """
    file, _, factory = spec.rpartition(":")
    path = Path(file)
    if not os.path.isfile(path):
        raise UnconvError(f"load: there is no file {path}. Pass FILE.py:factory.")
    with redirect_stdout(sys.stderr), importing_beside(path) as name:
        made = _made(path, factory, _run(path, name))
    opened = Opened(unwrap(made), f"{path.name}:{factory}", "the factory's own", None, input_size(made))
    if not hasattr(made, "graph_signature"):
        opened.module.eval()
    return loaded(opened, weights) if weights else opened


def _run(path: Path, name: str) -> Any:
    """Run a file as the module `name`, and return it."""
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None and specification.loader is not None
    namespace = importlib.util.module_from_spec(specification)
    sys.modules[name] = namespace  # dataclasses look their module up there
    try:
        specification.loader.exec_module(namespace)
    except (Exception, SystemExit) as error:  # whatever the user's file raises
        beside = (
            f" For relative imports put an empty __init__.py into {path.parent}."
            if "relative import" in str(error) and not (path.parent / "__init__.py").is_file()
            else ""
        )
        raise ModelError(f"load: {path} cannot be run: {_words(error)}. Mend it so that it can be imported.{beside}") from error
    return namespace


def _made(path: Path, factory: str, namespace: Any) -> Any:
    """Return what the function `factory` of a file returns, or the module that is called so."""
    make, called = getattr(namespace, factory, None), f"{path.name}:{factory}"
    if is_live(make):
        return make
    if not callable(make):
        names = [name for name in vars(namespace) if not name.startswith("__")]
        raise UnconvError(f"load: {path} has no function {factory!r}. Did you mean {nearest(factory, names)}?")
    _refuse_arguments(called, factory, make)
    try:
        made = make()
    except (Exception, SystemExit) as error:  # whatever the user's function raises
        raise ModelError(
            f"load: {called} raised {_words(error)}. Mend it so that {factory}() returns a torch.nn.Module."
        ) from error
    if not is_live(made):
        raise ModelError(f"load: {called} returned {_kind(made)}; a torch.nn.Module was needed. {_way_out(factory, made)}")
    return made


def _way_out(factory: str, made: Any) -> str:
    if isinstance(made, type) and issubclass(made, nn.Module):
        return f"Let {factory} return {made.__name__}(..), an object of the class."
    parts = made.values() if isinstance(made, Mapping) else made if isinstance(made, tuple | list) else ()
    if any(is_live(part) for part in parts):
        return f"Let {factory} return the network alone."
    if is_state_dict(made):
        return f"Let {factory} build the network, load them into it, and return it."
    return f"Let {factory} return the network itself."


def _kind(made: Any) -> str:
    if isinstance(made, type):
        return f"the class {made.__name__}"
    if is_state_dict(made):
        return "a state dict"
    inside = f" of {', '.join(type(part).__name__ for part in made[:3])}" if isinstance(made, tuple | list) and made else ""
    return f"{type(made).__name__}{inside}"


def _refuse_arguments(called: str, factory: str, make: Callable[..., Any]) -> None:
    """Refuse a function that cannot be called without arguments."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # torch has classes without one
        return
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind not in variable]
    if needed:
        raise ModelError(
            f"load: {called} needs arguments ({', '.join(needed)}), but a function without any was needed. Add one to the "
            f"file: def mine(): return {factory}(..), and pass FILE.py:mine."
        )


def _words(error: BaseException) -> str:
    """Return in one line what was raised, and by which line of the last file on the way that is no library's."""
    text = " ".join(str(error).split())[:300].rstrip(".")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _LIBRARIES.search(f.filename)]
    where = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
    return f"{type(error).__name__}{f': {text}' if text else ''}{where}"
