"""`unconv deblur` on folders, globs and several files."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from unconv import cli
from unconv.errors import PictureError, UnconvError
from unconv.files import terminable

OPTIONS = ("--psf", "disk:1", "--method", "wiener")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of pictures, and files beside them that are none."""
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    (photos / "old").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ("a.jpg", "b.png", "C.PNG", "old/d.png"):
        Image.fromarray(random.integers(0, 256, (24, 30), dtype=np.uint8)).save(photos / name)
    np.save(photos / "e.npy", random.random((20, 22)))
    (photos / "notes.txt").write_text("mine")
    (photos / ".hidden.png").write_bytes(b"none")
    return tmp_path


def run(*arguments):
    with terminable():  # as the program does: a run that was stopped ignores signals to its end
        return CliRunner().invoke(cli.app, ["deblur", *arguments, *OPTIONS])


def files(folder):
    """What stands in a folder and in those below it."""
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_each_picture_of_a_folder_gets_one_result_under_its_own_name(here):
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    done = run("photos", "-o", "out")
    assert done.exit_code == 0, done.output
    assert files("out") == ["C.PNG", "a.png", "b.png", "e.npy"]
    assert {path: path.read_bytes() for path in before} == before
    assert "notes.txt" in done.stderr and "old" in done.stderr and ".hidden" not in done.output
    assert "restored 4 of 4 pictures" in done.stdout and np.load("out/e.npy").dtype == np.float64


@pytest.mark.parametrize("pattern, names", [
    ("photos/*.png", ["b.png"]), ("photos/**/*.png", ["b.png", "old/d.png"]), ("photos/[ab].*", ["a.png", "b.png"]),
])  # fmt: skip
def test_a_glob_in_quotes_names_files_and_their_folders_stay(here, pattern, names):
    done = run(pattern, "-o", "out")
    assert done.exit_code == 0, done.output
    assert files("out") == names


def test_files_of_one_name_do_not_meet(here):
    Image.new("L", (30, 30), 9).save("photos/a.png")
    Image.new("L", (30, 30), 9).save("photos/old/a.png")
    assert run("photos/a.png", "photos/old/a.png", "photos/a.jpg", "-o", "out").exit_code == 0
    assert files("out") == ["a.jpg.png", "a.png", "old/a.png"]


def test_without_a_folder_for_them_results_go_beside_and_are_no_pictures_of_the_next_run(here):
    assert run("photos", "--before-after").exit_code == 0
    made = [name for name in files("photos") if "restored" in name]
    assert made == [
        "C-restored-before-after.png", "C-restored.PNG", "a.jpg-restored-before-after.png", "a.jpg-restored.png",
        "b-restored-before-after.png", "b-restored.png", "e-restored-before-after.png", "e-restored.npy",
    ]  # fmt: skip
    again = run("photos", "--overwrite", "--json")
    assert [Path(record["source"]).name for record in json.loads(again.stdout)] == ["C.PNG", "a.jpg", "b.png", "e.npy"]


def test_a_damaged_picture_is_listed_and_does_not_stop_the_others(here):
    content = (here / "photos" / "b.png").read_bytes()
    (here / "photos" / "b.png").write_bytes(content[: len(content) // 2])
    Image.new("L", (2, 2)).save("photos/small.png")  # smaller than the PSF
    done = run("photos", "missing.png", "-o", "out")
    assert done.exit_code == 1
    assert files("out") == ["C.PNG", "a.png", "e.npy"]
    assert "restored 3 of 6 pictures" in done.stdout
    listed = re.findall("^not restored: ([^:]*): ", done.stdout, re.MULTILINE)
    assert listed == ["photos/b.png", "photos/small.png", "missing.png"]


def test_json_is_one_record_a_picture_in_their_order(here):
    (here / "photos" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    done = run("photos", "-o", "out", "--json")
    assert done.exit_code == 1
    records = json.loads(done.stdout)
    assert [Path(record["source"]).name for record in records] == ["C.PNG", "a.jpg", "b.png", "e.npy"]
    assert ["error" in record for record in records] == [False, False, True, False]
    assert records[1]["picture"] == "out/a.png" and records[1]["method"] == "wiener" and records[1]["seconds"] >= 0


def test_nothing_is_replaced_without_leave_and_a_run_goes_on_where_it_stopped(here):
    Path("out").mkdir()
    Path("out/b.png").write_bytes(b"mine")
    refused = run("photos", "-o", "out")
    assert isinstance(refused.exception, UnconvError) and files("out") == ["b.png"]
    assert str(refused.exception).startswith("deblur: this would overwrite 1 of 4 files: out/b.png. Pass --resume")
    on = run("photos", "-o", "out", "--resume")
    assert on.exit_code == 0 and "kept 1 of 4 results from an earlier run" in on.stderr
    assert Path("out/b.png").read_bytes() == b"mine" and len(files("out")) == 4
    assert "restored 0 of 0" in run("photos", "-o", "out", "--resume").stdout
    assert run("photos", "-o", "out", "--overwrite").exit_code == 0
    assert Path("out/b.png").read_bytes() != b"mine"


def test_sources_and_the_psf_are_never_written_over(here):
    done = run("photos/b.png", "photos/C.PNG", "-o", "photos", "--overwrite")
    assert "is one of the input files" in str(done.exception)


def test_a_psf_among_the_pictures_is_none_of_them_and_is_read_once(here, monkeypatch):
    Image.new("L", (3, 3), 9).save("photos/psf.png")
    opened, names = Image.open, []
    monkeypatch.setattr(
        Image, "open", lambda file, *rest, **more: [names.append(Path(file.name).name), opened(file, *rest, **more)][1]
    )
    done = CliRunner().invoke(cli.app, ["deblur", "photos", "--psf", "photos/psf.png", "--method", "wiener", "-o", "out"])
    assert done.exit_code == 0, done.output
    assert files("out") == ["C.PNG", "a.png", "b.png", "e.npy"]
    assert sorted(names) == ["C.PNG", "a.jpg", "b.png", "psf.png"]


def test_results_below_the_folder_of_a_glob_are_no_pictures_of_the_next_run(here):
    for _ in range(2):
        done = run("photos/**/*.png", "-o", "photos/out", "--overwrite")
        assert done.exit_code == 0, done.output
    assert files("photos/out") == ["b.png", "old/d.png"]


@pytest.mark.parametrize("arguments, words", [
    (("photos/*.bmp",), "matches no file"), (("empty",), "there are no pictures"), (("none.png",), "there is no picture file"),
])  # fmt: skip
def test_arguments_without_a_picture_are_refused(here, arguments, words):
    Path("empty").mkdir()
    done = run(*arguments)
    assert isinstance(done.exception, PictureError) and words in str(done.exception)


def test_a_file_cannot_hold_several_results(here):
    done = run("photos", "-o", "photos/notes.txt", "--overwrite")
    assert "several pictures need a folder" in str(done.exception)


@pytest.mark.parametrize("out", ["sharp.jpg", "sharp.TIFF", "new/sharp.npy"])
def test_the_name_of_a_pictures_file_is_no_folder(here, out):
    done = run("photos", "-o", out)
    assert "several pictures need a folder" in str(done.exception) and not Path(out).exists()


def test_one_picture_goes_on_into_the_file_that_is_named(here):
    assert run("photos/b.png", "-o", "sharp.png", "--resume").exit_code == 0
    assert Path("sharp.png").is_file()
    again = run("photos/b.png", "-o", "sharp.png", "--resume")
    assert again.exit_code == 0 and "kept 1 of 1 result from an earlier run" in again.stderr


def test_a_name_with_brackets_is_a_name(here):
    os.rename("photos/b.png", "photos/b[1].png")
    assert run("photos/b[1].png").exit_code == 0
    assert Path("photos/b[1]-restored.png").is_file()


def test_a_run_that_is_stopped_while_it_encodes_has_written_nothing(here, monkeypatch):
    from unconv.inverse.fields.image.restored import Restored

    def stop(*_):
        raise KeyboardInterrupt

    before = files("photos")
    monkeypatch.setattr(Restored, "comparison", stop)
    assert run("photos/b.png").exit_code == 130
    assert files("photos") == before


def test_a_stopped_run_keeps_what_is_done_and_says_how_to_go_on(here, monkeypatch):
    from unconv.inverse.fields import image

    restore, calls = image.deblur, []

    def stop_at_the_third(*arguments, **settings):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return restore(*arguments, **settings)

    monkeypatch.setattr(image, "deblur", stop_at_the_third)
    done = run("photos", "-o", "out")
    assert done.exit_code == 130
    assert done.stderr.endswith("unconv: stopped. Finished 2 of 4 pictures; --resume continues.\n")
    assert files("out") == ["C.PNG", "a.png"] and "restored 2 of 4 pictures" in done.stdout
    assert run("photos", "-o", "out", "--resume").exit_code == 0
    assert len(files("out")) == 4
