"""The `unconv` command, assembled from its groups. torch is imported only when work begins."""

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
    """Return the command with the groups defined in the files of these packages."""
    application = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
    application.callback()(_command)
    for group in (group for package in packages for group in groups(package)):
        for function in group.commands:
            application.command(rich_help_panel=group.heading)(stoppable(function))
    return application


app = build("unconv.cli.commands")


def main() -> None:
    """Run the command. Exit with 0, or 1 for an error, 2 for wrong usage, 130 after Ctrl-C, 143 after SIGTERM."""
    # OpenMP threads that wait by spinning make small operations many times slower beside any other busy program.
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
