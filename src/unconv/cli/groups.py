"""Groups of commands: every file in `commands` that defines a `GROUP` appears in `unconv --help`."""

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
        heading: the heading of the panel.
        position: the position of the panel among the others.
    """

    heading: str
    position: int
    commands: list[Callable[..., Any]] = field(default_factory=list)

    def command(self, function: _Command) -> _Command:
        """Add a function to this group as a command, under its own name."""
        self.commands.append(function)
        return function


def groups(package: str) -> Iterator[Group]:
    """Return the groups in a package's files, sorted by position; groups of several files with one heading are joined."""
    names = [module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__)]
    modules = (importlib.import_module(f"{package}.{name}") for name in names)
    joined: dict[tuple[int, str], Group] = {}
    for group in (vars(module).get("GROUP") for module in modules):
        if isinstance(group, Group):
            target = joined.setdefault((group.position, group.heading), Group(group.heading, group.position))
            target.commands.extend(group.commands)
    yield from (joined[key] for key in sorted(joined))
