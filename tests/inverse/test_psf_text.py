"""A table of numbers means the same whichever program wrote it in whichever country, or is refused."""

from __future__ import annotations

import numpy as np
import pytest

from unconv.errors import PictureError
from unconv.inverse.psf import gaussian, open_psf

KERNEL = gaussian(1.7, size=13)


def table(between, point=".", quote="", end="", line="\n"):
    rows = [[f"{quote}{value:.8f}{quote}".replace(".", point) for value in row] for row in KERNEL.tolist()]
    return line.join(between.join(row) + end for row in rows) + line


WAYS = {
    "semicolons, decimal commas": table(";", ","),
    "semicolons and blanks, decimal commas": table("; ", ","),
    "semicolons, decimal points": table(";"),
    "semicolons at the ends": table(";", ",", end=";"),
    "tabs, decimal commas": table("\t", ","),
    "tabs, decimal points": table("\t"),
    "blanks, decimal commas": table(" ", ","),
    "blanks, decimal points": table("   "),
    "commas": table(","),
    "commas and blanks": table(", "),
    "commas at the ends": table(",", end=","),
    "quotes, commas": table(",", ",", quote='"'),
    "quotes, semicolons": table(";", ",", quote='"'),
    "Excel's first line": "sep=;\n" + table(";", ","),
    "lines of Windows": table(";", ",", line="\r\n"),
    "remarks and empty lines": "# a PSF, 13, 13\n\n" + table(";", ",") + "\n\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("suffix", [".csv", ".txt", ".tsv"])
def test_every_way_to_write_numbers_is_read_alike(tmp_path, way, encoding, suffix):
    (tmp_path / f"psf{suffix}").write_bytes(WAYS[way].encode(encoding))
    assert np.allclose(open_psf(tmp_path / f"psf{suffix}", 2)[0], KERNEL, atol=1e-7)


REFUSED = [
    (table(",", ","), "commas seem to be both its separators and its decimal marks"),
    ("0,5,0,25,0,5\n0,25,0,1,0,3\n", "commas seem to be both its separators and its decimal marks"),
    ("1, 2 3, 4\n", "both commas and blanks separate its numbers"),
    ("1,2,3 4,5,6\n", "both commas and blanks separate its numbers"),
    ("1.234,5;2\n1;2\n", "contain both points and commas"),
    ("1;;3\n4;5;6\n", "could not convert string ''"),
    ("1;2;3\n4;5\n", "number of columns changed from 3 to 2"),
    ("x;y\n1;2\n", "could not convert string 'x'"),
    ("# nothing\n", "it holds no numbers"),
    ("", "it holds no numbers"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED, ids=range(len(REFUSED)))
def test_what_can_be_read_in_two_ways_is_refused(tmp_path, text, words):
    (tmp_path / "psf.csv").write_text(text)
    with pytest.raises(PictureError, match=words):
        open_psf(tmp_path / "psf.csv")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("text", ["0,1,0\n1,4,1\n0,1,0\n", "0,0,1,0,0,1\n0,1,0,0,0,0\n", "1,2,3\n4,5,6"])
def test_whole_numbers_between_commas_are_whole_numbers(tmp_path, text):
    (tmp_path / "psf.csv").write_text(text)
    expected = np.loadtxt(text.splitlines(), delimiter=",")
    assert np.allclose(open_psf(tmp_path / "psf.csv")[0], expected / expected.sum())
