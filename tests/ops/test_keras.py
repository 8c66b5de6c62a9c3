"""Keras' own tests of its transposed convolutions, with ours in place of its torch backend's."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def suite() -> Path | None:
    actual = importlib.util.find_spec("keras")
    path = Path(actual.origin).parent / "src" / "layers" / "convolutional" / "conv_transpose_test.py" if actual else None
    return path if path and path.is_file() else None


@pytest.mark.skipif(suite() is None, reason="Keras, or its test file in the wheel, is absent: pip install keras")
def test_keras_own_tests_pass_with_ours(tmp_path):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "oracles.keras_with_ours",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore",
        str(suite()),
    ]
    folders = {"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=folders, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    called = re.search(r"ours was called (\d+) times", done.stdout)
    assert int(passed[1]) >= 150
    assert int(called[1]) >= 100
