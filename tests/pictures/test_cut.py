"""Files cut off are refused, or give what the whole file gives: never fewer pages, never other numbers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from PIL import ImageFile

from cases.pictures import flat_files, npy_files, tiff_files
from unconv.errors import PictureError
from unconv.pictures.decode import open_picture
from unconv.pictures.measured import measured

FLAT = [name for name, _ in flat_files()] + [name for name, _ in npy_files()]
FEW = 25  # cut points of each file, beside its last eleven


@cache
def tiffs():
    pytest.importorskip("tifffile", reason="writes the files")
    return dict(tiff_files())


def everything(path):
    picture = measured(path)
    return picture.given, picture.samples.numpy(), None if picture.alpha is None else picture.alpha.numpy()


def upright(path):
    return ("picture", np.asarray(open_picture(path)), None)


def differing(path, content, read, cuts):
    """The cut points at which a file is read as something else than the whole one."""
    path.write_bytes(content)
    given, samples, alpha = read(path)
    odd = []
    for cut in cuts:
        path.write_bytes(content[:cut])
        try:
            found = read(path)
        except PictureError:
            continue
        if found[0] != given or not np.array_equal(found[1], samples) or not np.array_equal(found[2], alpha):
            odd.append(cut)
    return odd


def some(content):
    return sorted({*np.linspace(0, len(content) - 1, FEW, dtype=int), *range(max(0, len(content) - 11), len(content))})


@pytest.mark.slow
@pytest.mark.parametrize("name", FLAT)
def test_some_cuts_of_a_picture(tmp_path, name):
    content = {**dict(flat_files()), **dict(npy_files())}[name]
    assert not differing(tmp_path / "cut", content, everything, some(content))


@pytest.mark.slow
def test_some_cuts_of_each_tiff_file(tmp_path):
    odd = {name: differing(tmp_path / "cut", content, everything, some(content)) for name, content in tiffs().items()}
    assert len(odd) > 50 and not any(odd.values())


@pytest.mark.slow
@pytest.mark.parametrize("read", [everything, upright])
def test_every_cut_of_every_picture(tmp_path, read):
    files = {**dict(flat_files()), **({} if read is upright else dict(npy_files()))}
    odd = {name: differing(tmp_path / "cut", content, read, range(len(content))) for name, content in files.items()}
    assert not any(odd.values())


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_every_third_cut_of_every_tiff_file(tmp_path, part):
    files = list(tiffs().items())[part::4]
    odd = {name: differing(tmp_path / "cut", content, everything, range(part % 3, len(content), 3)) for name, content in files}
    assert not any(odd.values())


def test_what_others_set_in_pillow_changes_nothing_and_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    content = dict(flat_files())["jpeg RGB"]
    (tmp_path / "cut.jpg").write_bytes(content[:-40])
    for read in (measured, open_picture):
        with pytest.raises(PictureError, match="damaged or cut off"):
            read(tmp_path / "cut.jpg")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
