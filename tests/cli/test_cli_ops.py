"""`unconv explain` and `unconv size`, outside in."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from unconv import ops
from unconv.explain.choices import EXERCISES, VIEW_WORDS


def test_explain_prints_what_the_library_says(unconv_command):
    status, out, err = unconv_command(
        "explain", "--input", "2x2", "--kernel", "3", "--stride", "2", "--padding", "SAME", "--output", "4"
    )
    assert (status, err) == (0, "")
    assert out.startswith("Transposed convolution, 2 × 2 to 4 × 4: kernel 3, stride 2, padding SAME\n")
    assert "Output at row 2, column 2: 1 · 9 + 2 · 7 + 3 · 3 + 4 · 1 = 36." in out


def test_explain_takes_ones_own_values(unconv_command):
    status, out, _ = unconv_command(
        "explain", "--input", "-2,-2;-2,-2", "--kernel", "1,0;-1,-2", "--output", "4", "--at", "1,1"
    )
    assert status == 0
    assert "4. Convolve, 4 × 4\n   -2   0  -2   0\n    2 [ 4]  2   4\n   -2   0  -2   0\n    2   4   2   4\n" in out
    assert "Output at row 1, column 1: (-2) · (-2) = 4." in out


@pytest.mark.parametrize(
    "padding, output, size", [("SAME", None, 6), ("VALID", None, 7), ("1,1;1,1", None, 5), ("valid", "8x7", 8)]
)
def test_without_a_size_explain_chooses_one(unconv_command, padding, output, size):
    more = ("--output", output) if output else ()
    status, out, _ = unconv_command("explain", "--input", "3", "--padding", padding, *more, "--json")
    assert status == 0
    assert len(json.loads(out)["output"][0]) == size


@pytest.mark.parametrize("operation, words", [("unpool_max", "the largest of 1, 2, 5, 6 is 6"), ("unpool_avg", "is 3.5. Back")])
def test_explain_tells_of_pools_too(unconv_command, operation, words):
    status, out, _ = unconv_command("explain", operation, "--input", "4", "--kernel", "2")
    assert status == 0
    assert words in out


def test_one_pair_pads_both_axes(unconv_command):
    _, out, _ = unconv_command("explain", "--padding", "1,1", "--json")
    assert json.loads(out)["forward_padding"] == [[1, 1], [1, 1]]


@pytest.mark.slow
def test_a_terminal_without_these_letters_gets_plainer_ones():
    command = [sys.executable, "-c", "from unconv.cli import main; main()", "explain", "--input", "1", "--kernel", "2"]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Transposed convolution, 1 x 1 to 2 x 2") and "   o  o" in done.stdout


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("ones",), "4. Convolve, 4 × 4\n  [-2]  0  -2   0\n"),
        (("ones", "--view", "forward"), "Its convolution, 2 × 2\n   -12  -12\n"),
        (("unpool",), "Their indices\n"),
        (("odd",), "Transposed convolution, 3 × 3 to 5 × 5: kernel 3, stride 2, padding SAME"),
        (("odd", "--output", "6"), "3 × 3 to 6 × 6"),
        (("odd", "--padding", "VALID"), "3 × 3 to 7 × 7"),
        (("digits",), "4. Convolve, 6\n     1   10 [102]  20  203   30\n"),
        (("digits", "--output", "5", "--at", "0"), "Output at sample 0: 1 · 10 = 10."),
        (("digits", "--view", "scatter", "--at", "1"), "Input at sample 1: 2 times the kernel is added"),
        (("digits", "--language", "zh"), "转置卷积，3 → 6，卷积核大小 3，步幅 2，填充 SAME"),
        (("conv1d_transpose", "--kernel", "1,10,100", "--padding", "VALID"), "3 to 7: kernel 3, stride 2, padding VALID"),
        (("conv1d_transpose", "--input", "4x2", "--kernel", "2", "--dilation", "2", "--output", "8"), "channel 0 of 2"),
        (("--input", "2x2x3", "--view", "channels"), "160 + 238 + 324 = 722, a part from each channel."),
        (("--input", "2x2x3", "--kernel", "1,0;0,1"), "the other input channels add"),
        (("--view", "matrix"), "The convolution's matrix, 4 × 16"),
    ],
)
def test_explain_takes_exercises_views_channels_and_a_single_axis(unconv_command, arguments, words):
    status, out, err = unconv_command("explain", *arguments)
    assert (status, err) == (0, "")
    assert words in out


def test_help_lists_the_exercises_and_the_views(unconv_command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    _, out, _ = unconv_command("explain", "--help")
    assert all(name in out for name in (*EXERCISES, *VIEW_WORDS))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["png", "svg", "gif", "html", "txt", "apng"])
def test_explain_writes_every_form(unconv_command, tmp_path, suffix):
    path = tmp_path / "deep" / f"steps.{suffix}"
    status, out, _ = unconv_command("explain", "--at", "3,0", "-o", path)
    assert (status, out) == (0, f"wrote {path}\n")
    assert path.stat().st_size > 500
    if suffix in ("png", "gif"):
        with Image.open(path) as picture:
            picture.load()


@pytest.mark.slow
def test_explain_prints_only_json(unconv_command, tmp_path):
    status, out, err = unconv_command("explain", "--json", "-o", tmp_path / "a.png")
    numbers = json.loads(out)
    assert (status, err) == (0, f"wrote {tmp_path / 'a.png'}\n")
    assert unconv_command("explain", "--json", "-q", "-o", tmp_path / "a.png") == (0, out, "")
    assert numbers["transposed_padding"] == [[2, 1], [2, 1]]
    assert numbers["hits"][2] == [2, 2, 4, 2]
    assert numbers["legal_output_sizes"] == [[3, 4], [3, 4]]


def test_size_lists_what_is_possible_and_what_others_call_it(unconv_command):
    status, out, _ = unconv_command("size", "--input", "28x28", "--kernel", "3", "--stride", "2", "--padding", "SAME")
    assert status == 0
    rows = [line for line in out.splitlines() if line.startswith("│")]
    assert [row.split()[5] for row in rows] == ["55", "56", "55", "56"]
    assert "cannot" not in "".join(rows) and max(map(len, out.splitlines())) < 120
    assert "Keras takes one output_padding for all axes" in out
    _, out, _ = unconv_command("size", "--input", "4", "--kernel", "3", "--stride", "2", "--padding", "1,0")
    assert sum("cannot" in line for line in out.splitlines() if line.startswith("│")) == 2


def test_size_prints_only_json(unconv_command):
    status, out, err = unconv_command("size", "--input", "4", "--kernel", "3", "--stride", "3", "--dilation", "2", "--json")
    assert (status, err) == (0, "")
    assert [row["output"] for row in json.loads(out)] == [row.output for row in ops.output_sizes(4, 3, 3, "SAME", 2)]


@pytest.mark.parametrize(
    "arguments, status, words",
    [
        (("explain", "--output", "5"), 1, "5 for the height (axis 1) is not possible. 2 samples with kernel 3, stride 2"),
        (("explain", "--at", "9,9"), 1, "at is (9, 9), but rows are 0 to"),
        (("explain", "-o", "steps.pdf"), 1, "steps.pdf is not of a kind that can be written"),
        (("explain", "--padding", "SOME"), 1, "padding is 'SOME'; it must be 'SAME', 'VALID'"),
        (("explain", "--kernel", "1,2;3"), 2, "all rows must have the same number of values"),
        (("explain", "--kernel", "a,b"), 2, "write a size, 2x3, or rows of numbers"),
        (("explain", "--input", "0"), 1, "input_size is (0, 0); 0 is out of range"),
        (("explain", "--padding", "1"), 2, "write SAME, VALID, before,after"),
        (("explain", "--at", "1"), 2, "write row,column"),
        (("explain", "--stride", "two"), 2, "write a number, or one for each axis"),
        (("explain", "--output", "steps.png"), 2, "To write a file, pass -o."),
        (("explain", "-o", "steps.mp4"), 1, "save steps.gif or steps.webp and convert it: ffmpeg -i steps.gif"),
        (("explain", "--view", "stamps"), 2, "write one of steps, scatter, matrix, forward, channels"),
        (("explain", "--language", "de"), 2, "write en or zh"),
        (("explain", "unpool", "--view", "scatter"), 2, "--view does not apply to unpool"),
        (("explain", "digits", "--input", "1,2;3,4"), 2, "write a length, 3, or one row of numbers, 1,2,3"),
        (("explain", "digits", "--output", "4x4"), 2, "write one number"),
        (("explain", "digits", "--at", "7"), 1, "at is 7, but rows are 0 to 0 and columns 0 to 5"),
        (("explain", "--input", "900x900x9"), 2, "Write fewer"),
        (("explain", "unpool_max", "--output", "4"), 2, "--output does not apply to unpool_max"),
        (("explain", "--duplicates", "sum"), 2, "--duplicates does not apply to conv2d_transpose"),
        (("explain", "--padding", "9,9", "--output", "4"), 1, "give no size: the padding removes more samples than there are"),
        (("explain", "--input", "nan,1"), 1, "input has NaN or infinite values"),
        (("explain", "conv3d"), 2, "Nearest: conv2d_transpose, conv1d_transpose"),
        (("explain", "unpool_max", "--kernel", "0"), 1, "ksize is (0,); 0 is out of range"),
        (("size", "--input", "4", "--kernel", "3", "--stride", "0"), 1, "strides is (0,); 0 is out of range"),
        (("size", "--input", "1x2x3x4", "--kernel", "3"), 1, "of length 4, but 1, 2 or 3 spatial lengths were needed"),
        (("size", "--input", "1", "--kernel", "1", "--padding", "3,3"), 1, "give no size: the padding removes"),
        (("size", "--input", "4"), 2, "Missing option"),
    ],
)
def test_what_does_not_fit_is_refused(unconv_command, arguments, status, words):
    code, _, err = unconv_command(*arguments)
    assert code == status
    assert words in " ".join(err.replace("│", " ").split())
