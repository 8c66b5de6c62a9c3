"""A pytest plugin: Keras on its torch backend, whose transposed convolution is ours."""

from __future__ import annotations

import os

import pytest

from unconv.ops import keras_conv_transpose

os.environ["KERAS_BACKEND"] = "torch"

backend = pytest.importorskip("keras.src.backend", reason="Keras is not installed: pip install keras")
convert_to_tensor = backend.convert_to_tensor

CALLS = [0]


def conv_transpose(inputs, kernel, strides=1, padding="valid", output_padding=None, data_format=None, dilation_rate=1):
    """Keras' backend function."""
    CALLS[0] += 1
    tensors = (convert_to_tensor(inputs), convert_to_tensor(kernel))
    named = backend.standardize_data_format(data_format)
    return keras_conv_transpose(*tensors, strides, padding, output_padding, named, dilation_rate)


backend.nn.conv_transpose = conv_transpose


def pytest_terminal_summary(terminalreporter):
    """Say how often ours was called."""
    terminalreporter.write_line(f"ours was called {CALLS[0]} times")
