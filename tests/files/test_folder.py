"""A folder of files: whole or not at all, wherever the process dies, and nobody else's files touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cases import kills
from unconv.errors import WriteError
from unconv.files import uninterrupted

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", kills.KINDS)
def test_a_process_killed_at_any_step_leaves_the_old_or_the_new_and_the_next_goes_on(tmp_path, kind):
    (tmp_path / "parent").mkdir()
    command = [sys.executable, kills.__file__, str(tmp_path), kind]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) > 20 and set(found) <= {"old", "new", "rest"}
    assert found.index("new") > 10 and found[-1] == "new"
    if kind in ("fresh", "empty", "over"):
        assert "rest" not in found


@pytest.fixture
def folder(tmp_path):
    kills.write(tmp_path / "pages", "old")
    return tmp_path / "pages"


def hidden(folder: Path) -> list[str]:
    return [path.name for path in (*folder.parent.iterdir(), *folder.iterdir()) if path.name.startswith(".")]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, ValueError, MemoryError])
def test_what_stops_a_run_before_the_end_leaves_the_old_and_no_rest(folder, stop):
    before = kills.seen(folder)
    with pytest.raises(stop), kills.whole_folder(folder, kills.listed, "index.html", []) as staged:
        staged.put("index.html", b"new")
        raise stop
    assert kills.seen(folder) == before and not hidden(folder)


def test_a_run_that_fails_in_a_new_folder_leaves_not_even_the_folders_above(tmp_path):
    with pytest.raises(ValueError), kills.whole_folder(tmp_path / "a" / "b", kills.listed, "index.html", []):
        raise ValueError
    assert not list(tmp_path.iterdir())


def test_the_folder_keeps_its_mode_and_files_that_were_never_listed(folder):
    folder.chmod(0o700)
    (folder / "notes.txt").write_text("mine")
    kills.write(folder, "new")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert kills.seen(folder) == {**kills.files("new"), "notes.txt": "mine"}
    (folder / "notes.txt").unlink()
    kills.write(folder, "newer")
    assert folder.stat().st_mode & 0o777 == 0o700


def test_what_is_written_and_not_listed_does_not_come_into_the_folder(folder):
    with kills.whole_folder(folder, kills.listed, "index.html", []) as staged:
        staged.put("tiles/half.png", b"half")
        staged.put("list.json", b'["list.json", "index.html"]')
        staged.put("index.html", b"new")
        staged.publish()
    assert set(kills.seen(folder)) == {"index.html", "list.json"} and not (folder / "tiles").exists()


def test_a_folder_that_a_link_leads_to_is_written_and_the_link_stays(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    kills.write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and kills.seen(folder) == kills.files("new")


def test_the_folder_that_one_works_in_stays_the_same_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    number = folder.stat().st_ino
    kills.write(Path(), "new")
    assert folder.stat().st_ino == number and kills.seen(Path()) == kills.files("new")


def test_a_file_that_comes_while_the_pages_are_written_is_not_replaced(folder):
    with (
        pytest.raises(WriteError, match=r"late\.html was not made by unconv"),
        kills.whole_folder(folder, kills.listed, "index.html", []) as staged,
    ):
        for name, content in kills.files("new").items():
            staged.put(name, content.encode())
        staged.put("late.html", b"ours")
        staged.put("list.json", json.dumps([*kills.files("new"), "late.html"]).encode())
        (folder / "late.html").write_text("mine")
        staged.publish()
    assert kills.seen(folder) == {**kills.files("old"), "late.html": "mine"} and not hidden(folder)


@pytest.mark.parametrize("part", ["tiles", "units"])
def test_a_folder_of_ours_that_is_a_link_now_is_in_the_way(folder, tmp_path, part):
    (tmp_path / "elsewhere").mkdir()
    (folder / part).rename(tmp_path / "elsewhere" / part)
    (folder / part).symlink_to(tmp_path / "elsewhere" / part)
    before = kills.seen(tmp_path / "elsewhere")
    with pytest.raises(WriteError, match=f"{part} was not made by unconv"):
        kills.write(folder, "new")
    assert kills.seen(tmp_path / "elsewhere") == before


def test_a_file_of_ours_that_is_a_folder_now_is_in_the_way(folder):
    (folder / "picture.png").unlink()
    (folder / "picture.png").mkdir()
    before = kills.seen(folder)
    with pytest.raises(WriteError, match=r"picture\.png was not made by unconv"):
        kills.write(folder, "new")
    assert kills.seen(folder) == before and (folder / "picture.png").is_dir()


def test_a_file_that_comes_in_the_moment_of_the_exchange_stays(folder, monkeypatch):
    real = kills.moving.exchanged

    def late(new, old):
        (old / "tiles" / "late.png").write_text("mine")
        return real(new, old)

    monkeypatch.setattr(kills.moving, "exchanged", late)
    kills.write(folder, "new")
    assert kills.seen(folder) == {**kills.files("new"), "tiles/late.png": "mine"} and not hidden(folder)


@pytest.mark.parametrize("content", [{"mine.txt": "mine"}, {"lock": "mine"}, {"lock": "", "mine.txt": "mine"}, None])
def test_a_hidden_folder_that_is_not_ours_is_left_alone(folder, content):
    room = folder.parent / ".pages.unconv"
    if content is None:
        room.write_text("mine")
    else:
        room.mkdir()
        for name, text in content.items():
            (room / name).write_text(text)
    with pytest.raises(WriteError, match=r"\.pages\.unconv was not made by unconv, and is in the way"):
        kills.write(folder, "new")
    assert kills.seen(folder) == kills.files("old")
    assert room.read_text() == "mine" if content is None else {p.name: p.read_text() for p in room.iterdir()} == content


HOLD = """
import sys
from pathlib import Path
from cases import kills
with kills.whole_folder(Path("pages"), kills.listed, "index.html", []):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_told_who_writes_and_takes_over_when_that_one_has_died(folder):
    command = [sys.executable, "-c", HOLD]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=folder.parent, env=ENVIRONMENT, **pipes) as first:
        assert first.stdout.readline() == b"in\n"
        with pytest.raises(WriteError, match=rf"process {first.pid} is writing .*pages\. Wait until it ends, or choose"):
            kills.write(folder, "new")
        assert kills.seen(folder) == kills.files("old")
        first.kill()
        first.wait()
        kills.write(folder, "new")
    assert kills.seen(folder) == kills.files("new") and not hidden(folder)


@pytest.mark.slow
def test_many_runs_at_once_never_mix(tmp_path):
    code = "import sys\nfrom pathlib import Path\nfrom cases import kills\nfrom unconv.errors import WriteError\n"
    code += "for n in range(60):\n    try:\n        kills.write(Path('pages'), sys.argv[1])\n    except WriteError as error:\n"
    code += "        assert 'is writing' in str(error), error\n"
    runs = [subprocess.Popen([sys.executable, "-c", code, str(n)], cwd=tmp_path, env=ENVIRONMENT) for n in range(4)]
    assert [run.wait() for run in runs] == [0] * 4
    assert kills.seen(tmp_path / "pages") in [kills.files(str(n)) for n in range(4)] and not hidden(tmp_path / "pages")


@pytest.mark.parametrize("length", [240, 255])
def test_a_folder_with_the_longest_name_can_be_written(tmp_path, length):
    kills.write(tmp_path / ("a" * length), "new")
    kills.write(tmp_path / ("a" * length), "newer")
    assert [len(path.name) for path in tmp_path.iterdir()] == [length]


def test_a_read_only_folder_is_refused(folder):
    folder.chmod(0o555)
    with pytest.raises(WriteError, match=r"pages is read-only\. Make it writable, or choose another folder\."):
        kills.write(folder, "new")
    assert kills.seen(folder) == kills.files("old") and not hidden(folder)
    folder.chmod(0o755)


@pytest.mark.parametrize("path", ["file", "file/pages", "a" * 256, "/proc/self/pages", "a\0b"])
def test_a_folder_that_cannot_be_is_refused_in_one_line(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WriteError) as refused:
        kills.write(Path(path), "new")
    assert len(str(refused.value).splitlines()) == 1
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("file", "mine")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_what_must_not_stop(number):
    came = []
    before = signal.signal(number, lambda *_: came.append(number))
    try:
        with uninterrupted():
            with uninterrupted():
                os.kill(os.getpid(), number)
                os.kill(os.getpid(), number)
                time.sleep(0.01)
            assert came == []
        assert came == [number]
    finally:
        signal.signal(number, before)


def test_other_threads_need_no_signals(tmp_path):
    thread = threading.Thread(target=kills.write, args=(tmp_path / "pages", "new"))
    thread.start()
    thread.join()
    assert kills.seen(tmp_path / "pages") == kills.files("new")
