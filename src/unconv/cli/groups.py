"""Groups of commands: a file here that holds one is found by its name, `GROUP`, and stands in `unconv --help`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Group:
    """Commands under one heading of `--help`, in the order in which they are defined.

    Args:
        heading: of the panel.
        position: of the panel among the others.
    """

    heading: str
    position: int
    commands: list[Callable[..., Any]] = field(default_factory=list)

    def command(self, function: _Command) -> _Command:
        """Make a function a command of this group, under its own name."""
        self.commands.append(function)
        return function


def groups(package: str) -> Iterator[Group]:
    """Return the groups in a package's files, by their position; what files put under one heading stands together."""
    names = [module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__)]
    modules = (importlib.import_module(f"{package}.{name}") for name in names)
    found: dict[tuple[int, str], Group] = {}
    for group in (vars(module).get("GROUP") for module in modules):
        if isinstance(group, Group):
            whole = found.setdefault((group.position, group.heading), Group(group.heading, group.position))
            whole.commands.extend(group.commands)
    yield from (found[key] for key in sorted(found))
