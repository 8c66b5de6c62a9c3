"""What several files of tests use."""

from __future__ import annotations

import sys

import pytest

from unconv import cli


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
