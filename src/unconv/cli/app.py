"""The `unconv` command, put together from its groups. torch loads only when work begins."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from unconv.cli.groups import groups
from unconv.cli.progress import stoppable
from unconv.cli.streams import Output, use_own_streams
from unconv.errors import UnconvError
from unconv.files import Terminated, terminable


def _version(asked: bool) -> None:
    if asked:
        from unconv.version import __version__

        print(f"unconv {__version__}")
        raise typer.Exit


def _command(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Run convolution backwards: see what the units of a trained network respond to."""


def build(*packages: str) -> typer.Typer:
    """Return the command with every group that the files of some packages hold."""
    made = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
    made.callback()(_command)
    for group in (group for package in packages for group in groups(package)):
        for function in group.commands:
            made.command(rich_help_panel=group.heading)(stoppable(function))
    return made


app = build("unconv.cli.commands")


def main() -> None:
    """Run the command: exit status 0, 1 for what was refused, 2 for wrong usage, 130 and 143 for what was stopped."""
    # Threads that wait by spinning make small operations many times slower beside any other busy program.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    use_own_streams()
    try:
        with terminable():
            try:
                app()
            finally:
                if isinstance(sys.stdout, Output):
                    sys.stdout.settle()
    except UnconvError as error:
        print(f"unconv: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as stop:  # before the command has begun
        print("unconv: stopped.", file=sys.stderr)
        sys.exit(143 if isinstance(stop, Terminated) else 130)
