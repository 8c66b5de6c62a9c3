"""Show progress on standard error: a bar, remarks, and a line if the run is stopped."""

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

_EARLIEST = 2.0  # seconds before a remaining time is shown
_LEAST = 0.005  # share of the work that must be done by then


@contextmanager
def show_progress(quiet: bool, begun: str = "recording") -> Iterator[Progress]:
    """Show a progress bar on standard error if that is a terminal; `begun` describes the work before the first report."""
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
            left = clock.left(done / total) if total else ""  # without a total the bar only shows that work is going on
            bar.update(task, description=printable(what) or "done", completed=done, total=total or None, left=left)

        yield update


class TimeLeft:
    """Estimate the remaining time from the work done since the first report; the recording before it has another speed.

    Args:
        now: returns the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._start: tuple[float, float] | None = None  # the time, and the share done by then

    def left(self, share: float) -> str:
        """Return "1:05 left", or "more than a day left"; "" while too little is done for an estimate."""
        start, before = self._start = self._start or (self._now(), share)
        spent, done = self._now() - start, share - before
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
    """If Ctrl-C or SIGTERM stops the block, name the complete pages that it has written in `out`."""
    index = out / "index.html"
    before = _identity(index)
    try:
        yield
    except KeyboardInterrupt as stop:
        written = _identity(index) not in (before, None)
        raise type(stop)(f" {index} leads to the pages written until then." if written else "") from None


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what distinguishes a file from an earlier one of the same name; None if there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_mtime_ns


def stoppable(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that ends with one line and status 130 after Ctrl-C, 143 after SIGTERM."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt as stop:
            ignore_stops()  # one is enough: the program is ending
            atexit.register(ignore_stops)  # registered last, so it runs before the exit handlers of libraries
            print(f"unconv: stopped.{stop}", file=sys.stderr)
            raise typer.Exit(143 if isinstance(stop, Terminated) else 130) from None

    return run


@contextmanager
def hushed(quiet: bool) -> Iterator[None]:
    """With `quiet`, suppress what libraries print on standard error while they open a network; errors still come."""
    with redirect_stderr(io.StringIO()) if quiet else nullcontext():
        yield


def remark(text: str, quiet: bool) -> None:
    """Print a line on standard error that is neither a result nor an error."""
    if not quiet:
        shown = printable(text, keep="\n")
        print(f"unconv: {shown}", file=sys.stderr)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None, right: bool = False) -> None:
    """Print a table as wide as the terminal, or with a fixed width into a file or another program.

    Args:
        headings: the headings of the columns.
        rows: one text per column. Texts may come from files: no markup or control character in them takes effect.
        title: a line above the table.
        right: whether all columns except the first are numbers, aligned on the right.
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
