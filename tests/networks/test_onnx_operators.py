"""Every operator of the table, with ONNX' own node tests: as an opened file, and with settings computed in the graph."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")

from oracles.onnx_files import computed, node_cases, opened  # noqa: E402
from unconv.networks.onnx.operators import OPERATORS  # noqa: E402

pytestmark = pytest.mark.slow  # loading ONNX' tests runs them all, which takes ten seconds

# What torch has no numbers for, or what the opener refuses on purpose: their cases are not run.
REFUSED_TYPES = {"object", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"} | {
    "float4_e2m1fn",
    "int2",
    "uint2",
}
REFUSED = {
    "training mode": "test_training_dropout",
    "a condition that hangs on the picture": "test_if",
    # See tests/ops/test_onnx_nodes.py, which shows it to be answered as by torch.
    "disputed": "test_maxunpool_export_with_output_shape",
}
# In half precision a sum depends on its order; the tests ask for more digits than the type has.
HALF = {
    f"test_attention_{name}_expanded": 4e-3
    for name in (
        "3d_causal_bf16",
        "4d_attn_mask_causal_bf16",
        "4d_causal_bf16",
        "4d_causal_fp16",
        "4d_causal_padded_kv_bf16",
        "4d_padded_kv_bf16",
    )
}
BY_FILE_ONLY = {"test_batchnorm_epsilon_training_mode", "test_batchnorm_example_training_mode"}  # of constants


def operators(case):
    return {f"{node.domain}.{node.op_type}".removeprefix("ai.onnx.").lstrip(".") for node in case.model.graph.node}


def refused_type(case):
    values = [np.asarray(value) for pairs in case.data_sets[0] for value in pairs]
    return any(value.dtype.name in REFUSED_TYPES for value in values)


@cache
def cases():
    return node_cases()


@cache
def ours() -> set[str]:
    """The tests whose operators are all in the table."""
    return {name for name, case in cases().items() if operators(case) <= {*OPERATORS, "Constant", "If"}}


@cache
def run() -> list[str]:
    return sorted(name for name in ours() if not refused_type(cases()[name]) and not name.startswith(tuple(REFUSED.values())))


def run_of(operator: str) -> list[str]:
    """Each test once: under the first of its operators."""
    return [name for name in run() if min(operators(cases()[name])) == operator]


def assert_as_expected(case, results):
    tolerance = HALF.get(case.name, 0)
    for result, expected in zip(results, case.data_sets[0][1], strict=True):
        result = (result.float() if result.dtype == torch.bfloat16 else result).detach().numpy()
        expected = np.asarray(expected)
        assert result.shape == expected.shape, case.name
        np.testing.assert_allclose(
            result.astype(np.float64) if result.dtype.kind == "f" else result,
            expected.astype(np.float64) if result.dtype.kind == "f" else expected,
            rtol=max(min(case.rtol, 1e-3), tolerance),
            atol=max(case.atol, tolerance),
            err_msg=case.name,
        )


@pytest.mark.skipif(onnx.__version__ != "1.23.2", reason="the counts are those of onnx 1.23.2")
def test_all_of_them_are_run():
    assert len(cases()) == 1884
    assert len(ours()) == 1354
    assert len(run()) == 1161


@pytest.mark.skipif(onnx.__version__ != "1.23.2", reason="the counts are those of onnx 1.23.2")
def test_an_operator_without_a_node_test_is_known():
    tested = set().union(*(operators(cases()[name]) for name in run()))
    assert set(OPERATORS) - tested == {"GlobalLpPool"}


each = pytest.mark.parametrize("operator", sorted({*OPERATORS, "Constant", "If"}))


@each
def test_its_node_tests_pass_as_files(operator):
    for name in run_of(operator):
        case = cases()[name]
        inputs = dict(zip([value.name for value in case.model.graph.input], case.data_sets[0][0], strict=False))
        floats = [key for key, value in inputs.items() if np.asarray(value).dtype.kind == "f"]
        image = None if name in BY_FILE_ONLY else next(iter([*floats, *inputs]), None)
        assert_as_expected(case, opened(case, image))


@each
def test_its_node_tests_pass_with_settings_that_the_graph_computes(operator):
    for name in run_of(operator):
        if "If" not in operators(cases()[name]) and name not in BY_FILE_ONLY:
            assert_as_expected(cases()[name], computed(cases()[name]))
