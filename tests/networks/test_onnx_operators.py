"""Every operator of the table, by ONNX' own node tests: as an opened file, and with settings that the graph computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")

from oracles.onnx_files import computed, node_cases, opened  # noqa: E402
from unconv.networks.onnx.operators import OPERATORS  # noqa: E402

CASES = node_cases()

# What torch has no numbers for, or what the opener refuses on purpose: their cases are not run.
REFUSED_TYPES = {"object", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"} | {
    "float4_e2m1fn",
    "int2",
    "uint2",
}
REFUSED = {
    "training mode": {name for name in CASES if name.startswith("test_training_dropout")},
    "a condition that hangs on the picture": {"test_if", "test_if_opt", "test_if_seq"},
    # See tests/ops/test_onnx_nodes.py, which shows it to be answered as by torch.
    "disputed": {"test_maxunpool_export_with_output_shape"},
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


OURS = {name for name, case in CASES.items() if operators(case) <= {*OPERATORS, "Constant", "If"}}
RUN = sorted(name for name in OURS if not refused_type(CASES[name]) and not any(name in names for names in REFUSED.values()))


def assert_as_wanted(case, made):
    tolerance = HALF.get(case.name, 0)
    for found, wanted in zip(made, case.data_sets[0][1], strict=True):
        found = (found.float() if found.dtype == torch.bfloat16 else found).detach().numpy()
        wanted = np.asarray(wanted)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(
            found.astype(np.float64) if found.dtype.kind == "f" else found,
            wanted.astype(np.float64) if found.dtype.kind == "f" else wanted,
            rtol=max(min(case.rtol, 1e-3), tolerance),
            atol=max(case.atol, tolerance),
        )


@pytest.mark.skipif(onnx.__version__ != "1.23.2", reason="the counts are those of onnx 1.23.2")
def test_all_of_them_are_run():
    assert len(CASES) == 1884
    assert len(OURS) == 1354
    assert len(RUN) == 1161


@pytest.mark.skipif(onnx.__version__ != "1.23.2", reason="the counts are those of onnx 1.23.2")
def test_an_operator_without_a_node_test_is_known():
    tested = set().union(*(operators(CASES[name]) for name in RUN))
    assert set(OPERATORS) - tested == {"GlobalLpPool"}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_a_node_test_passes_as_a_file(name):
    case = CASES[name]
    inputs = dict(zip([value.name for value in case.model.graph.input], case.data_sets[0][0], strict=False))
    floats = [key for key, value in inputs.items() if np.asarray(value).dtype.kind == "f"]
    image = None if name in BY_FILE_ONLY else next(iter([*floats, *inputs]), None)
    assert_as_wanted(case, opened(case, image))


@pytest.mark.parametrize("name", [name for name in RUN if "If" not in operators(CASES[name]) and name not in BY_FILE_ONLY])
def test_a_node_test_passes_with_settings_that_the_graph_computes(name):
    assert_as_wanted(CASES[name], computed(CASES[name]))
