"""Files of several kernels, such as those of benchmarks: one is chosen by name, and errors list them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from unconv.errors import PictureError
from unconv.inverse.psf import gaussian, open_psf
from unconv.inverse.psf.files import psf_file

KERNELS = [gaussian(1.0 + 0.3 * n, size=7 + 2 * n).numpy() for n in range(4)]
LEVIN = Path(os.environ.get("UNCONV_DATA", "../shared/data")) / "inverse" / "kernels" / "Levin09.mat"


def cells(path, **options):
    scipy_io = pytest.importorskip("scipy.io", reason="writes the file")
    held = np.empty((1, 6), dtype=object)
    held[0] = [*KERNELS, "a text", np.zeros((2, 2), complex)]
    scipy_io.savemat(path, {"kernels": held, "names": "four"}, **options)


def cells_7_3(path):
    """A file as MATLAB 7.3 writes it: columns first, and what cells hold behind references."""
    h5py = pytest.importorskip("h5py", reason="writes the file")
    with h5py.File(path, "w", userblock_size=512) as file:
        inside = file.create_group("#refs#")
        held = file.create_dataset("kernels", (4, 1), h5py.ref_dtype)
        held.attrs["MATLAB_class"] = np.bytes_("cell")
        for n, kernel in enumerate(KERNELS):
            inside[f"k{n}"] = kernel.T
            inside[f"k{n}"].attrs["MATLAB_class"] = np.bytes_("double")
            held[n, 0] = inside[f"k{n}"].ref
    content = bytearray(path.read_bytes())
    content[:128] = b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM"
    path.write_bytes(content)


WRITERS = {"plain": cells, "packed": lambda path: cells(path, do_compression=True), "7.3": cells_7_3}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("text", ["{}:{}", "{}:kernels:{}"])
@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_kernel_in_a_cell_is_named_by_its_number_from_1(tmp_path, writer, text, number):
    WRITERS[writer](tmp_path / "k.mat")
    kernel, notes = open_psf(text.format(tmp_path / "k.mat", number), 2)
    assert np.allclose(kernel, KERNELS[number - 1]) and not notes
    assert np.allclose(open_psf(tmp_path / "k.mat", 2, name=f"kernels:{number}")[0], KERNELS[number - 1])


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    ("name", "asked"), [("", "does not say which"), (":9", "has no array '9'"), (":k:1", "has no array 'k:1'")]
)
def test_what_is_there_is_said(tmp_path, writer, name, asked):
    WRITERS[writer](tmp_path / "k.mat")
    sizes = ", ".join(rf"kernels:{n + 1} \({len(k)}, {len(k)}\)" for n, k in enumerate(KERNELS))
    with pytest.raises(PictureError, match=rf"{asked}.*has {sizes}\. Pass name=, or write 'k\.mat:kernels:1' for the file"):
        open_psf(f"{tmp_path / 'k.mat'}{name}")


def test_pages_of_an_array_are_numbered_too(tmp_path):
    scipy_io = pytest.importorskip("scipy.io", reason="writes the file")
    stack = np.stack([gaussian(1.0, size=9), gaussian(2.0, size=9)], 2)
    scipy_io.savemat(tmp_path / "k.mat", {"h": stack})
    for text in ("2", "h:2"):
        assert np.allclose(open_psf(f"{tmp_path / 'k.mat'}:{text}", 2)[0], stack[..., 1])
    with pytest.raises(PictureError, match="has no array 'h:3'"):
        open_psf(f"{tmp_path / 'k.mat'}:h:3")


def test_a_file_whose_own_name_has_a_colon_is_that_file(tmp_path):
    assert psf_file("C:/k.mat:3") == (Path("C:/k.mat"), "3") and psf_file("C:/k.mat") == (Path("C:/k.mat"), None)
    (tmp_path / "k.mat:3").write_bytes(b"")
    assert psf_file(tmp_path / "k.mat:3") == (tmp_path / "k.mat:3", None)


def test_without_h5py_a_file_of_matlab_7_3_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(500))
    with pytest.raises(
        PictureError, match=r'7\.3 \(HDF5\), which only h5py reads. Run: .*unconv\[matlab\].*save the file with "-v7"'
    ):
        open_psf(tmp_path / "a.mat")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_was_cut_off_is_refused(tmp_path, writer, share):
    path = tmp_path / "k.mat"
    WRITERS[writer](path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(PictureError, match="damaged or cut off"):
        open_psf(path, name="kernels:1")


@pytest.mark.skipif(not LEVIN.is_file(), reason="needs UNCONV_DATA")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_kernels_of_levin_are_read():
    pytest.importorskip("h5py", reason="reads MATLAB 7.3")
    assert [open_psf(f"{LEVIN}:{n}", 2)[0].shape[0] for n in range(1, 9)] == [19, 17, 15, 27, 13, 21, 23, 23]
