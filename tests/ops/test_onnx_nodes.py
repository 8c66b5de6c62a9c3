"""ONNX' own node tests, run through our operations."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pytest
import torch

from oracles.onnx_shim import run

pytestmark = pytest.mark.slow

onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")

KINDS = {"test_convtranspose": 11, "test_maxunpool": 2, "test_maxpool_with_argmax": 2, "test_averagepool": 20}

# An index of this test counts through the 4 × 4 plane that the pool's settings give, although a 5 × 5 output is asked
# for. torch and ONNX Runtime let it count through the output, as the operator's text says, and so do we.
# See onnx#2398; a pull request, onnx#8413, would change the test.
DISPUTED = "test_maxunpool_export_with_output_shape"


@cache
def node_tests():
    """ONNX' tests by name; loading them runs them all, which takes ten seconds, so no list of parameters asks for it."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in load_model_tests(kind="node") if case.name.startswith(tuple(KINDS))}


def outcome(case):
    """Of each output, what we make and what the test wants."""
    inputs, outputs = case.data_sets[0]
    result = run(case.model.graph.node[0], *(torch.from_numpy(np.array(values)) for values in inputs))
    return [(actual.numpy(), expected) for actual, expected in zip(result, outputs, strict=False)]


def test_all_of_them_are_run():
    assert {kind: sum(name.startswith(kind) for name in node_tests()) for kind in KINDS} == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_the_node_tests_of_onnx_pass(kind):
    for name in node_tests().keys() - {DISPUTED}:
        if name.startswith(kind):
            case = node_tests()[name]
            for actual, expected in outcome(case):
                np.testing.assert_allclose(actual, expected, rtol=case.rtol, atol=case.atol, err_msg=name)


def test_the_disputed_one_is_answered_as_by_torch():
    case = node_tests()[DISPUTED]
    pooled, indices, shape = (torch.from_numpy(np.array(values)) for values in case.data_sets[0][0])
    ((actual, expected),) = outcome(case)
    by_torch = torch.nn.functional.max_unpool2d(pooled, indices, 2, 2, output_size=shape.tolist())
    np.testing.assert_array_equal(actual, by_torch.numpy())
    assert not np.array_equal(actual, expected)
