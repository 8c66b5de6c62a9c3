"""Results of traces are written whole or not at all, and never over what is read."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from cases.traces import segy
from unconv.errors import TraceError, UnconvError, WriteError
from unconv.traces import open_traces


@pytest.fixture(params=["npy", "segy"])
def path(tmp_path, request):
    if request.param == "segy":
        pytest.importorskip("segyio", reason="needs the extra seismic")
        return segy(tmp_path / "a", np.ones((20, 500), np.float32))
    np.save(tmp_path / "a.npy", np.ones((20, 500), np.int16))
    return (tmp_path / "a.npy").rename(tmp_path / "a")


def names(folder):
    return sorted(each.name for each in folder.iterdir())


def test_the_input_is_never_the_output(path, tmp_path):
    (tmp_path / "soft").symlink_to("a")
    os.link(path, tmp_path / "hard")
    before = path.read_bytes()
    for name in ("a", "soft", "hard", "./a"):
        with open_traces(path) as traces, pytest.raises(WriteError, match="is the input file"):
            with traces.rewritten(tmp_path / name):
                raise AssertionError
    assert path.read_bytes() == before and names(tmp_path) == ["a", "hard", "soft"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError, OSError(errno.ENOENT, "mine")])
def test_a_run_that_stops_leaves_the_old_file_and_its_own_error(path, tmp_path, stop):
    (tmp_path / "out").write_bytes(b"old")
    with open_traces(path) as traces, pytest.raises(stop if isinstance(stop, type) else FileNotFoundError):
        with traces.rewritten(tmp_path / "out") as writer:
            writer.put(0, np.zeros((3, 500)))
            raise stop
    assert names(tmp_path) == ["a", "out"] and (tmp_path / "out").read_bytes() == b"old"


def test_a_full_disk_at_the_end_leaves_no_file(path, tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_traces(path) as traces, pytest.raises(WriteError, match=r"No space left on device\. Make room"):
        with traces.rewritten(tmp_path / "out") as writer:
            writer.put(0, np.zeros((3, 500)))
            monkeypatch.setattr("os.fsync", full)
    assert names(tmp_path) == ["a"]


LIMITED = """
import resource, signal, sys
import numpy as np
from unconv.traces import open_traces
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
with open_traces("a") as traces, traces.rewritten("out") as writer:
    writer.put(0, np.zeros((20, 500)))
"""


def test_a_file_too_large_is_said_and_leaves_no_file(path, tmp_path):
    done = subprocess.run([sys.executable, "-c", LIMITED], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "WriteError: write: cannot write out: File too large." in done.stderr
    assert names(tmp_path) == ["a"]


KILLED = """
import os, signal
import numpy as np
from unconv.traces import open_traces
with open_traces("a") as traces, traces.rewritten("out") as writer:
    writer.put(0, np.zeros((3, 500)))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_leaves_a_hidden_file_that_the_next_one_removes(path, tmp_path):
    before = path.read_bytes()
    (tmp_path / "out").write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, timeout=60)
    assert done.returncode == -signal.SIGKILL
    (rest,) = {*names(tmp_path)} - {"a", "out"}
    assert rest.startswith(".out.") and rest.endswith(".partial")
    assert path.read_bytes() == before and (tmp_path / "out").read_bytes() == b"old"
    with open_traces(path) as traces, traces.rewritten(tmp_path / "out"):
        pass
    assert names(tmp_path) == ["a", "out"]


OTHER = {
    "a JPEG": (
        b"\xff\xd8\xff\xe0\0\x10JFIF" + np.random.default_rng(0).bytes(5000),
        "is of an unknown kind, but SEG-Y",
    ),
    "text": (b"Call me Ishmael. " * 300, "is of an unknown kind, but SEG-Y, miniSEED, SAC or .npy was needed"),
    "zeros": (bytes(5000), "is of an unknown kind"),
    "nothing": (b"", "is empty, but SEG-Y, miniSEED, SAC or .npy was needed"),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_files_are_refused(tmp_path, name):
    content, words = OTHER[name]
    (tmp_path / "a.sgy").write_bytes(content)
    with pytest.raises(TraceError, match=words):
        open_traces(tmp_path / "a.sgy")


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path, "is a folder, but a file was needed"),
        (tmp_path / "pipe", "is a device or a pipe"),
        (tmp_path / "absent", "No such file or directory"),
        (tmp_path / "a\0b", "cannot read"),
    ):
        with pytest.raises(TraceError, match=words):
            open_traces(path)


def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "segyio", None)
    path = segy(tmp_path / "a.sgy", np.ones((2, 5)))
    with pytest.raises(UnconvError, match=r'segyio cannot be imported .* Install it with pip install "unconv\[seismic\]"'):
        open_traces(path)
