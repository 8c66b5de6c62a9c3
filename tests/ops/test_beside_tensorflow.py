"""`ops` stands beside TensorFlow in one process: once TensorFlow is there, importing torchvision ends it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

# Of each function a call, on the digits of the tutorial; `None` in sys.modules makes an import an error.
CALLS = """
import sys
sys.modules["torchvision"] = None
{first}
from unconv import ops
import torch
row, digits = torch.tensor([1., 2., 3.]).reshape(1, 1, 3, 1), torch.tensor([1., 10., 100.]).reshape(1, 3, 1, 1)
large = ops.conv2d_transpose(row, digits, (1, 1, 6, 1), (1, 2))
small, argmax = ops.max_pool_with_argmax(ops.conv2d(large, digits, (1, 2), "SAME"), 1, 1, "SAME")
ops.unpool_max(small, argmax, small.shape)
ops.unpool_avg(ops.avg_pool2d(large, 2, 2, "SAME"), large.shape, 2, 2, "SAME")
ops.torch_arguments(row, digits, (1, 1, 6, 1), (1, 2))
print(ops.explain_conv2d_transpose(row, digits, (1, 1, 6, 1), (1, 2)).output.flatten().tolist())
{last}
"""


def answer(first="", last=""):
    done = subprocess.run(
        [sys.executable, "-c", CALLS.format(first=first, last=last)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.mark.slow
def test_ops_and_their_explanation_need_no_torchvision():
    assert answer() == ["[1.0, 10.0, 102.0, 20.0, 203.0, 30.0]"]


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is absent: pip install tensorflow-cpu")
@pytest.mark.slow
def test_ops_work_after_tensorflow_and_give_the_same():
    last = 'print(tf.nn.conv2d_transpose(row.numpy(), digits.numpy(), (1, 1, 6, 1), (1, 2), "SAME").numpy().ravel().tolist())'
    mine, tensorflow_s = answer("import tensorflow as tf", last)
    assert mine == tensorflow_s
