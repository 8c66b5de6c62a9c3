"""What several files of tests use."""

from __future__ import annotations

import re
import signal
import sys

import pytest

from unconv import cli


def pytest_collection_modifyitems(items):
    """A test named by an object's address has another name in every process, and the processes do not agree."""
    if named := [item.nodeid for item in items if re.search(r" at 0x[0-9a-f]{6}", item.nodeid)]:
        raise pytest.UsageError("give these tests names without an object's address: " + ", ".join(named))


def pytest_configure():
    """Stop at SIGINT even where pytest was started in the background of a shell, which has it ignored from then on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def signals_are_left_as_they_were():
    """A test that leaves a signal ignored lets tests of stopping fail that come after it in the same process."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.fixture
def unconv_command(monkeypatch, capsys):
    """Runs the command in this process; returns its exit status, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["unconv", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        return status, *capsys.readouterr()

    return run
