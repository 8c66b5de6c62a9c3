"""Files that are not weights: pickles that torch does not write, other kinds of files, any bit flipped."""

from __future__ import annotations

import ast
import io
import os
import pickle
import socket
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

import unconv
from cases.weights import refused, state_of, tiny, written
from unconv.errors import UnconvError
from unconv.networks.torch_pickles import Name, read_pickle
from unconv.networks.weights import read_weights

SOURCE = Path(unconv.__file__).parent


# -- pickles ---------------------------------------------------------------------------------------


def older(content):
    """A file in torch's older format around a pickle."""
    head = [pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join(head) + content + pickle.dumps([], protocol=2)


PICKLES = {
    "a call": b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
    "a call by another name": b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.",
    "evaluation": b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
    "a global of torch's that runs": b"\x80\x02ctorch.hub\nload\nX\x01\x00\x00\x001\x85R.",
    "the older instruction": b"(S'true'\nios\nsystem\n.",
    "a new object": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "a new object of a name": b"\x80\x02ctorch\nFloatStorage\n)\x81.",
    "settings alone": b"\x80\x02cargparse\nNamespace\n)\x81}X\x01\x00\x00\x00aK\x01sb.",
    "settings that are called": b"\x80\x02cargparse\nNamespace\nX\x01\x00\x00\x00a\x85RX\x01\x00\x00\x00a\x85R.",
    "dictionaries in dictionaries": b"\x80\x02" + b"}K\x01" * 100_000 + b"}" + b"s" * 100_000 + b".",
    "a memo far away": b"\x80\x02}r\xff\xff\xff\xff.",
    "many bytes announced": b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "a long text announced": b"\x80\x02X\xff\xff\xff\x7fab.",
    "an attribute": b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x01sb.",
    "no end": b"\x80\x02}",
    "nothing on the stack": b"\x80\x02R.",
    "a list that holds itself": b"\x80\x02]q\x00h\x00a.",
}


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("form", ["archive", "older"])
def test_a_pickle_that_torch_does_not_write_is_refused(tmp_path, name, form):
    path = tmp_path / "odd.pth"
    if form == "older":
        path.write_bytes(older(PICKLES[name]))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("odd/data.pkl", PICKLES[name])
    refused(path)


def test_nothing_that_a_pickle_names_is_imported(tmp_path, monkeypatch):
    (tmp_path / "torch_trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "trap.pth"
    path.write_bytes(older(b"\x80\x02ctorch_trap\nrun\n)R."))
    assert "it names 'torch_trap.run'" in refused(path)


def test_an_ordered_dictionary_keeps_its_order_and_drops_attributes(tmp_path):
    state = OrderedDict(state_of(tiny()))
    state._metadata = OrderedDict({"": {"version": 1}})
    assert list(read_weights(written(tmp_path / "a.pth", state))) == list(state)


# -- files that are none ---------------------------------------------------------------------------


def test_a_torchscript_archive_is_refused_in_its_own_words(tmp_path):
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "code/__torch__.py", "constants.pkl", "version"):
            archive.writestr(f"script/{name}", b"\x80\x02}.")
    assert "it is a TorchScript archive, a program with its weights" in refused(path)


FOREIGN = {
    "a page": (b"<!DOCTYPE html><html>", "is a web page"),
    "a note": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "is a Git LFS pointer"),
    "an array": (b"\x93NUMPY\x01\x00v\x00{}", "is a NumPy array"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file"),
    "gzip": (b"\x1f\x8b\x08" + bytes(30), "is compressed by gzip"),
    "text": (b"0.weight = 3\n", "its pickle"),
    "nothing": (b"", "it is empty"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_another_kind_of_file_is_named(tmp_path, name):
    content, words = FOREIGN[name]
    path = tmp_path / "odd.pth"
    path.write_bytes(content)
    assert words in refused(path)


def test_arrays_of_numpy_are_named(tmp_path):
    path = tmp_path / "odd.pth"
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))
    assert "NumPy arrays" in refused(path)


def test_a_name_of_another_form_is_refused_with_the_right_one(tmp_path):
    state = state_of(tiny())
    written(tmp_path / "a.pth", state).rename(tmp_path / "a.safetensors")
    assert "its name should end in .pth" in refused(tmp_path / "a.safetensors")
    written(tmp_path / "b.safetensors", state).rename(tmp_path / "b.pth")
    assert "its name should end in .safetensors" in refused(tmp_path / "b.pth")


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


NO_FILES = {
    "a folder": (Path.mkdir, "it is a folder"),
    "a pipe": (os.mkfifo, "it is a pipe"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    "a loop of links": (lambda path: path.symlink_to(path), "symbolic links"),
    "a link to nowhere": (lambda path: path.symlink_to("nowhere"), "there is no weights file"),
}


@pytest.mark.parametrize("name", NO_FILES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_regular_file_is_named_without_blocking(tmp_path, name, suffix):
    make, words = NO_FILES[name]
    make(tmp_path / f"odd{suffix}")
    assert words in refused(tmp_path / f"odd{suffix}")


@pytest.mark.parametrize("name", ["x" * 300 + ".pth", "a\0b.pth", "a\x1b[31m\n.pth", "file.pth/inner.pth"])
def test_a_name_that_no_file_can_have_is_escaped_and_refused(tmp_path, name):
    (tmp_path / "file.pth").write_bytes(b"1")
    assert "there is no weights file" in refused(tmp_path / name)


def test_names_in_a_file_are_escaped(tmp_path):
    state = state_of(tiny()) | {"\x1b[31mred\n": torch.zeros(1), "x" * 10_000: torch.zeros(1)}
    text = refused(written(tmp_path / "odd.pth", state))
    assert r"unexpected: '\x1b[31mred\n', " + "x" * 200 + ".." in text


@pytest.mark.parametrize("key", [(1, 2), None, 2.5])
def test_a_key_that_is_no_name_is_refused(tmp_path, key):
    assert "holds no state dict" in refused(written(tmp_path / "odd.pth", {key: torch.zeros(1)}))


def test_no_message_of_ours_advises_to_run_a_file():
    for path in SOURCE.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        words = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        assert not any("weights_only=False" in text or "safe_mode=False" in text for text in words), path


# -- any byte --------------------------------------------------------------------------------------


def assert_right_or_refused(path, state, most=0):
    """Weights of a damaged file are those that were saved, or refused; at most `most` tensors may differ."""
    try:
        loaded = unconv.load(tiny(), path).module.state_dict()
    except UnconvError:
        return False
    differing = [key for key in state if not torch.equal(loaded[key], state[key])]
    assert len(differing) <= most, differing
    return True


def of_form(tmp_path, form, state):
    suffix = ".safetensors" if form == "safetensors" else ".pth"
    return written(tmp_path / f"a{suffix}", state, form == "older")


@pytest.mark.slow
@pytest.mark.parametrize("bits", [pytest.param(1, id="some"), pytest.param(8, id="all")])
@pytest.mark.parametrize("form", ["archive", "older", "safetensors"])
def test_any_bit_may_be_flipped(tmp_path, form, bits):
    """Only an archive has checksums: elsewhere a flipped number is another number, but never of another tensor."""
    state = state_of(tiny())
    path = of_form(tmp_path, form, state)
    content = path.read_bytes()
    first = min(content.find(value.numpy().tobytes()) for value in state.values())
    for place in range(0, len(content), 11 if bits > 1 else len(content) // 200):
        for bit in range(bits):
            damaged = bytearray(content)
            damaged[place] ^= 1 << (bit if bits > 1 else place % 8)
            path.write_bytes(damaged)
            assert_right_or_refused(path, state, most=form != "archive" and place >= first)


@pytest.mark.parametrize("form", ["archive", "older", "safetensors"])
def test_any_length_may_be_left(tmp_path, form):
    state = state_of(tiny())
    path = of_form(tmp_path, form, state)
    content = path.read_bytes()
    for length in range(0, len(content), len(content) // 100):
        path.write_bytes(content[:length])
        assert not assert_right_or_refused(path, state)


# -- pickles that would end or hold up the process ---------------------------------------------------


def key_of_tuples(kind):
    """A dictionary whose key is a deeply nested tuple, or tuples that each contain the one before twice."""
    if kind == "deep":
        return b"\x80\x02})" + b"\x85" * 300_000 + b"Ns."
    body = b"\x80\x02})q\x00"
    for number in range(40):
        body += b"h%ch%c\x86q%c" % (number, number, number + 1)
    return body + b"Ns."


@pytest.mark.parametrize("kind", ["deep", "twice"])
@pytest.mark.parametrize("form", ["older", "archive"])
def test_a_key_that_would_crash_or_block_the_process_is_refused(tmp_path, kind, form):
    path = tmp_path / "deep.pth"
    if form == "older":
        path.write_bytes(older(key_of_tuples(kind)))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", key_of_tuples(kind))
            archive.writestr("archive/version", b"3\n")
    code = f"import unconv, torch.nn as nn, sys\ntry: unconv.load(nn.Conv2d(3, 4, 3), {str(path)!r})\n"
    code += "except unconv.WeightsError as error: print(error)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "tuples" in done.stdout, done.stdout + done.stderr[-500:]


def test_a_pickle_cannot_change_what_a_name_or_a_storage_stands_for():
    content = b"\x80\x02ctorch\nFloatStorage\n}X\x04\x00\x00\x00nameK\x05sb."
    assert read_pickle(io.BytesIO(content)) == Name("torch", "FloatStorage")
