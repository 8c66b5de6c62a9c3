"""One file: whole or not at all, whatever stops the writing, and nothing else touched."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from unconv.errors import WriteError
from unconv.files import file_names, refuse_unwritable, whole_file, write
from unconv.files.names import hidden_name


def test_a_file_appears_with_its_folders_and_nothing_beside_it(tmp_path):
    write(tmp_path / "a" / "b.txt", b"new")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"new"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_replaced_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    path.chmod(mode)
    write(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", mode)


def test_a_link_stays_and_the_file_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "target.txt").write_bytes(b"old")
    for name, target in (("link", "far/target.txt"), ("chain", "link"), ("dangling", "far/absent.txt")):
        (tmp_path / name).symlink_to(target)
        write(tmp_path / name, name.encode())
        assert (tmp_path / name).is_symlink() and (tmp_path / name).read_bytes() == name.encode()
    assert (tmp_path / "far" / "target.txt").read_bytes() == b"chain"
    assert len(list((tmp_path / "far").iterdir())) == 2


STEPS = ["os.open", "os.fsync", "os.chmod", "os.replace"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, MemoryError, OSError(errno.ENOSPC, "No space left on device")])
def test_what_stops_the_writing_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch, step, stop):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def fail(*_arguments, **_options):
        raise stop

    monkeypatch.setattr(step, fail)
    with pytest.raises(WriteError if isinstance(stop, OSError) else stop):
        write(path, b"new")
    monkeypatch.undo()
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("a.txt", b"old")]


KILLED = """
import os, sys
from pathlib import Path
from unconv.files import write
module, name = {step!r}.split(".")
def die(*_arguments, **_options):
    os._exit(9)
setattr(os, name, die)
write(Path("a.txt"), b"new")
"""


@pytest.mark.parametrize("step", STEPS[1:])
def test_the_rest_of_a_killed_process_goes_with_the_next_writing(tmp_path, step):
    (tmp_path / "a.txt").write_bytes(b"old")
    (tmp_path / ".a.txt.mine.partial").write_bytes(b"the user's")
    done = subprocess.run([sys.executable, "-c", KILLED.format(step=step)], cwd=tmp_path, timeout=60)
    assert done.returncode == 9
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 3
    write(tmp_path / "a.txt", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.txt.mine.partial", "a.txt"]


def test_the_file_that_another_process_writes_just_now_is_no_rest(tmp_path):
    import fcntl

    partial = tmp_path / ".a.txt.0123456789abcdef.partial"
    with partial.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write(tmp_path / "a.txt", b"new")
        assert partial.exists()
    write(tmp_path / "a.txt", b"new")
    assert not partial.exists()


@pytest.mark.parametrize("length", [200, 240, 255])
@pytest.mark.parametrize("letter", ["a", "é"])
def test_the_longest_names_can_be_written(tmp_path, length, letter):
    name = letter * ((length - 4) // len(letter.encode())) + ".txt"
    write(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(os.fsencode(hidden_name(name, ".0123456789abcdef.partial"))) <= 255


def unwritable(folder: Path) -> dict[str, tuple[Path, str]]:
    """Paths that cannot be written, and what is said of them."""
    (folder / "file").write_bytes(b"mine")
    (folder / "read-only.txt").write_bytes(b"mine")
    (folder / "read-only.txt").chmod(0o444)
    os.mkfifo(folder / "pipe")
    (folder / "device").symlink_to(os.devnull)
    (folder / "loop").symlink_to("loop")
    return {
        "long": (folder / ("a" * 256), "File name too long. Choose a shorter name."),
        "deep": (folder / "/".join(["a" * 200] * 30), "File name too long"),
        "zero": (folder / "a\0b", "cannot be a file's name"),
        "surrogate": (folder / "a\ud800", "cannot be a file's name"),
        "folder": (folder, "is a folder"),
        "in a file": (folder / "file" / "a.txt", "Not a directory"),
        "read-only": (folder / "read-only.txt", "is read-only"),
        "pipe": (folder / "pipe", "is a device or a pipe"),
        "device": (folder / "device", "is a device or a pipe"),
        "loop": (folder / "loop", "Too many levels of symbolic links"),
        "no folder of files": (Path("/proc/self/a.txt"), "cannot write"),
    }


KINDS = [
    "long",
    "deep",
    "zero",
    "surrogate",
    "folder",
    "in a file",
    "read-only",
    "pipe",
    "device",
    "loop",
    "no folder of files",
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_written_is_refused_in_one_line(tmp_path, kind):
    path, words = unwritable(tmp_path)[kind]
    before = sorted(tmp_path.iterdir())
    with pytest.raises(WriteError, match=words) as refused:
        write(path, b"new")
    assert len(str(refused.value).splitlines()) == 1 and len(str(refused.value)) < 700
    assert isinstance(refused.value, OSError)
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "file").read_bytes() == b"mine"
    if kind != "no folder of files":
        with pytest.raises(WriteError, match=words):
            refuse_unwritable(path)


def test_a_full_disk_is_said_and_leaves_the_old_file(tmp_path):
    """A limit on the size of files is the nearest to a full disk that needs no rights."""
    (tmp_path / "a.txt").write_bytes(b"old")
    code = (
        "import resource, signal\nfrom pathlib import Path\nfrom unconv.files import write\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "write(Path('a.txt'), bytes(1000))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "WriteError: write: cannot write a.txt: File too large." in done.stderr
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.txt", b"old")]


def test_names_of_files_are_short_and_differ():
    names = ["features.29", "a/b", "a_b", "A_B", "x" * 300, "x" * 301, "é" * 200, "..", "", "\ud800", "index.html"]
    found = file_names(names, ["index.html"])
    assert found[:2] == ["features.29", "a_b"]
    assert len({name.casefold() for name in found} | {"index.html"}) == len(names) + 1
    assert all(0 < len(os.fsencode(name)) <= 110 and "/" not in name and name.strip(".") for name in found)


def test_a_file_that_is_written_bit_by_bit_takes_its_place_at_the_end(tmp_path):
    path = tmp_path / "a" / "b.txt"
    with whole_file(path) as partial:
        partial.write_bytes(b"new")
        assert partial.parent == path.parent and partial.name.startswith(".b.txt.") and not path.exists()
    assert [(found.name, found.read_bytes()) for found in path.parent.iterdir()] == [("b.txt", b"new")]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), ValueError("mine"), FileNotFoundError("mine")])
def test_what_stops_a_block_comes_as_it_is_and_leaves_the_old_file(tmp_path, stop):
    (tmp_path / "a.txt").write_bytes(b"old")
    with pytest.raises(type(stop)) as stopped, whole_file(tmp_path / "a.txt") as partial:
        partial.write_bytes(b"new")
        raise stop
    assert stopped.value is stop
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("a.txt", b"old")]
