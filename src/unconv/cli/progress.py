"""Progress on standard error: a bar that moves, remarks, and how a run was stopped."""

from __future__ import annotations

import atexit
import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from functools import wraps
from pathlib import Path
from typing import Any

import typer

from unconv.errors import printable
from unconv.files import Terminated, ignore_stops
from unconv.progress import Progress

_EARLIEST = 2.0  # seconds after which the time left is told
_LEAST = 0.005  # share of the work that is done by then


@contextmanager
def show_progress(quiet: bool, begun: str = "recording") -> Iterator[Progress]:
    """Show a progress bar on standard error, if that is a terminal; `begun`: what is done before the first report."""
    if quiet or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}", style="progress.remaining"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, clock = bar.add_task(begun, total=None, left=""), TimeLeft()

        def update(what: str, done: float, total: int) -> None:
            left = clock.left(done / total) if total else ""  # without a total the bar only shows that it is alive
            bar.update(task, description=printable(what) or "done", completed=done, total=total or None, left=left)

        yield update


class TimeLeft:
    """How long the rest will take, by what was done since the first report: the recording before it tells nothing.

    Args:
        now: the time, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began: tuple[float, float] | None = None  # when, and what share was done then

    def left(self, share: float) -> str:
        """Return "1:05 left", or "more than a day left"; "" while too little is done to tell."""
        began, before = self._began = self._began or (self._now(), share)
        spent, done = self._now() - began, share - before
        if spent < _EARLIEST or done < _LEAST or share >= 1:
            return ""
        seconds = round(spent / done * (1 - share))
        if seconds >= 24 * 3600:
            return "more than a day left"
        minutes, hours = seconds // 60 % 60, seconds // 3600
        clock = f"{hours}:{minutes:02d}:{seconds % 60:02d}" if hours else f"{minutes}:{seconds % 60:02d}"
        return f"{clock} left"


@contextmanager
def leading_to(out: Path) -> Iterator[None]:
    """Name the pages that a run has written in `out`, which are whole, if Ctrl-C or SIGTERM stops it."""
    index = out / "index.html"
    before = _identity(index)
    try:
        yield
    except KeyboardInterrupt as stop:
        written = _identity(index) not in (before, None)
        raise type(stop)(f" {index} leads to what was written until then." if written else "") from None


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from one that was there before; None if there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_mtime_ns


def stoppable(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that Ctrl-C ends with status 130 and SIGTERM with 143, and one line."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt as stop:
            ignore_stops()  # one is enough
            atexit.register(ignore_stops)  # also for what others do at Python's end; what is registered last comes first
            print(f"unconv: stopped.{stop}", file=sys.stderr)
            raise typer.Exit(143 if isinstance(stop, Terminated) else 130) from None

    return run


@contextmanager
def hushed(quiet: bool) -> Iterator[None]:
    """Keep what libraries print while they download and open a network from standard error; errors still come."""
    with redirect_stderr(io.StringIO()) if quiet else nullcontext():
        yield


def remark(text: str, quiet: bool) -> None:
    """Print a line on standard error that is neither a result nor an error."""
    if not quiet:
        shown = printable(text, keep="\n")
        print(f"unconv: {shown}", file=sys.stderr)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None, right: bool = False) -> None:
    """Print a table as wide as the terminal; at a fixed width into a file or another program.

    Args:
        headings: of the columns.
        rows: a text for each column. They may hold names out of files: nothing in them is markup or steers the terminal.
        title: a line above.
        right: whether all columns but the first are numbers, and stand at the right.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=None if title is None else Text(printable(title)), title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if right and number else "left")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 140).print(table)
