"""Short forms of the fuzzes in benchmarks/: random networks, and calls with odd arguments."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def script(name: str) -> ModuleType:
    """A script of benchmarks/ as a module."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")  # what torch says of odd networks
@pytest.mark.parametrize(("networks", "seed"), [(40, 0), pytest.param(300, 1_000_000, marks=pytest.mark.slow)])
def test_the_gradient_of_random_networks_is_autograd_or_refused(networks, seed):
    tally, findings = script("fuzz_networks").run(networks, seed, seconds=20, shrink=False)
    assert findings == []
    assert tally["equal"] > tally["networks"] / 4


@pytest.mark.slow
def test_odd_arguments_give_a_result_or_an_error_of_ours():
    done, findings = script("fuzz_calls").run(3000, 0, seconds=10, slow=False)
    assert findings == {}
    assert done > 100


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [6344, 11032, 19765])  # a formula that is made for one size, beside a named rectifier
def test_what_a_long_run_found_stays_mended(seed):
    _tally, findings = script("fuzz_networks").run(1, seed, seconds=20, shrink=False)
    assert findings == []
