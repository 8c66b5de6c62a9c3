"""How a command ends when something stops it, and when nobody takes what it prints."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.test_cli import PICTURE, PROJECT, TINY, assert_all_links_resolve
from unconv.report.layer import Layer

CODE = "from unconv.cli import main; main()"
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(TINY)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 44, 3), dtype=np.uint8)).save(tmp_path / PICTURE)
    return tmp_path


PRINTING = {
    "help": ["--help"],
    "help of a command": ["project", "--help"],
    "version": ["--version"],
    "text": ["explain"],
    "json": ["explain", "--json"],
    "a table": ["size", "--input", "28", "--kernel", "3"],
    "completion": ["--show-completion"],
}


def ended(arguments, redirection, folder):
    """The command's status and its standard error, its output led elsewhere by the shell."""
    shell = f'"$@" {redirection}' if redirection.startswith(">") else f'{{ "$@"; echo "status $?" >&2; }} {redirection}'
    command = ["bash", "-c", shell, "bash", sys.executable, "-c", CODE, *arguments]
    settings = {"env": ENVIRONMENT | {"SHELL": "/bin/bash"}, "cwd": folder, "text": True, "timeout": 120}
    done = subprocess.run(command, capture_output=True, **settings)
    lines = done.stderr.splitlines()
    if lines and (status := re.fullmatch(r"status (\d+)", lines[-1])):
        return int(status[1]), lines[:-1]
    return done.returncode, lines


@pytest.mark.slow
@pytest.mark.parametrize("what", PRINTING)
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "| true"])
def test_output_that_nobody_takes_is_one_line_and_status_1(tmp_path, what, redirection):
    if redirection == ">/dev/full" and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    status, lines = ended(PRINTING[what], redirection, tmp_path)
    assert (status, len(lines)) == (1, 1)
    assert lines[0].startswith("unconv: output: standard output could not be written completely: ")


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_remarks_that_nobody_takes_change_nothing(tmp_path, redirection):
    assert ended(["explain"], f">out.txt {redirection}", tmp_path) == (0, [])
    assert (tmp_path / "out.txt").read_text().startswith("Transposed convolution")
    assert ended(["explain", "--at", "9,9"], f">out.txt {redirection}", tmp_path) == (1, [])


@pytest.mark.slow
def test_pages_are_written_also_where_the_last_line_is_not_taken(here):
    status, lines = ended([*PROJECT, "-q"], ">/dev/full", here)
    assert (status, len(lines)) == (1, 1)
    assert_all_links_resolve(here / "unconv-out")


STOPPED = """
import os, signal, sys, time
from unconv.report.layer import Layer
from unconv.cli import main
first, second = (getattr(signal, name) for name in sys.argv.pop(1).split())
take, finished, taken = Layer.take, Layer.finished, []
def stop(layer, arrival):
    take(layer, arrival)
    taken.append(arrival)
    if len(taken) == 6:
        os.kill(os.getpid(), first)
        time.sleep(1)
def again(layer):
    if len(taken) == 6:
        os.kill(os.getpid(), second)
        os.kill(os.getpid(), second)
        time.sleep(0.1)
    return finished(layer)
Layer.take, Layer.finished = stop, again
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "status"),
    [("SIGINT SIGINT", 130), ("SIGTERM SIGTERM", 143), ("SIGTERM SIGINT", None), ("SIGINT SIGTERM", None)],
)
def test_a_signal_leaves_whole_pages_and_the_next_ones_do_not_change_that(here, signals, status):
    command = [sys.executable, "-c", STOPPED, signals, *PROJECT, "-q", "-o", "out", "--channels", "all"]
    done = subprocess.run(command, cwd=here, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == status or (status is None and done.returncode in (130, 143))
    assert done.stderr == "unconv: stopped. out/index.html leads to the pages written until then.\n"
    assert_all_links_resolve(here / "out")
    layers = json.loads((here / "out" / "numbers.json").read_text())["layers"]
    assert [len(layer["units"]) for layer in layers] == [4, 2]
    assert not [path for path in here.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_before_the_first_unit_says_so_and_leaves_what_was_there(here, unconv_command, monkeypatch, number, status):
    unconv_command(*PROJECT, "-o", "out")
    before = {path: path.read_bytes() for path in (here / "out").rglob("*") if path.is_file()}
    monkeypatch.setattr(Layer, "take", lambda *_: signal.raise_signal(number))
    assert unconv_command(*PROJECT, "-q", "-o", "out", "--at", "4") == (status, "", "unconv: stopped.\n")
    assert {path: path.read_bytes() for path in (here / "out").rglob("*") if path.is_file()} == before
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", [("explain",), ("places", "tiny.py:make"), ("check", "tiny.py:make")])
def test_every_command_ends_alike_when_it_is_stopped(here, unconv_command, monkeypatch, number, status, command):
    monkeypatch.setattr("unconv.load", lambda *_: signal.raise_signal(number))
    monkeypatch.setattr("unconv.explain.explanation.Illustration.text", lambda *_: signal.raise_signal(number))
    assert unconv_command(*command) == (status, "", "unconv: stopped.\n")


@pytest.mark.parametrize("path", ["a" * 256, "tiny.py", "tiny.py/pages", "/proc/self/pages", "read-only"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_network_is_opened(here, unconv_command, monkeypatch, path):
    (here / "read-only").mkdir(mode=0o555)
    monkeypatch.setattr("unconv.load", None)
    status, out, err = unconv_command(*PROJECT, "-o", path)
    assert (status, out, len(err.splitlines())) == (1, "", 1) and err.startswith("unconv: write: ")
    assert sorted(found.name for found in here.iterdir()) == sorted([PICTURE, "read-only", "tiny.py"])


@pytest.mark.parametrize("path", [f"{'a' * 252}.png", "tiny.py/a.png", "/proc/self/a.png", "read-only.png", "folder.png"])
def test_a_file_that_cannot_be_written_is_refused_in_one_line(here, unconv_command, path):
    (here / "read-only.png").write_text("mine")
    (here / "read-only.png").chmod(0o444)
    (here / "folder.png").mkdir()
    for command in (("explain",), ("deblur", PICTURE, "--psf", "disk:2", "--overwrite")):
        status, out, err = unconv_command(*command, "-o", path)
        assert (status, out, len(err.splitlines())) == (1, "", 1) and err.startswith("unconv: write: ")
    assert len(list(here.iterdir())) == 4 and (here / "read-only.png").read_text() == "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ("deblur", "a" * 300, "--psf", "disk:2"),
        ("deblur", PICTURE, "--psf", "a" * 300),
        ("project", "tiny.py:make", "a" * 300),
        ("project", "tiny.py:make", PICTURE, "--weights", "a" * 300 + ".pth"),
        ("places", "a" * 300 + ".py:make"),
        ("places", "onnx:" + "a" * 300),
        ("places", "keras:" + "a" * 300),
        ("check", "tiny.py:make", "a" * 300),
    ],
    ids=range(8),
)
def test_an_over_long_name_of_what_is_read_is_refused(here, unconv_command, arguments):
    status, out, err = unconv_command(*arguments)
    assert (status in (1, 2), out) == (True, "")
    assert err.startswith("unconv: ") and len(err.splitlines()) == 1 if status == 1 else "neither a file nor a formula" in err


def test_explain_says_what_it_replaced(here, unconv_command):
    assert unconv_command("explain", "-o", "a.txt")[1] == "wrote a.txt\n"
    assert unconv_command("explain", "-o", "a.txt")[1] == "replaced a.txt\n"


def test_a_disk_that_is_full_is_one_line(here, unconv_command, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    for command in (("explain", "-o", "a.png"), (*PROJECT, "-q", "-o", "out")):
        status, out, err = unconv_command(*command)
        assert (status, out) == (1, "")
        assert re.fullmatch(r"unconv: write: cannot write .*: No space left on device\. Make room, or .*\n", err)
    assert {found.name for found in here.iterdir()} - {"__pycache__"} == {PICTURE, "tiny.py"}
