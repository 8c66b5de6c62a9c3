"""Arguments of the wrong kind, at every public door: one sentence, before anything is done or memory is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unconv
from unconv import inverse, ops
from unconv.inverse import psf
from unconv.kinds import checks_kinds, checks_kinds_but


class Speaks(Protocol):
    def speak(self) -> str: ...


class Dog:
    def speak(self) -> str:
        return "wow"


@checks_kinds
def door(
    size: int = 1,
    weight: float = 1.0,
    lengths: Sequence[int] = (),
    pair: tuple[int, int] = (0, 0),
    mode: Literal["a", "b"] = "a",
    signal: Tensor | None = None,
    loud: bool = False,
    path: str | None = None,
    animal: Speaks | None = None,
    action: Callable[[], None] | None = None,
    anything: Any = None,
) -> dict[str, Any]:
    return dict(locals())


TAKEN = {
    "size": [0, -3, np.int64(4), torch.tensor(5)],
    "weight": [1, 0.5, float("nan"), np.float32(0.5), torch.tensor(0.25), torch.tensor([2])],
    "lengths": [[], (1, 2), torch.tensor([1, 2]), np.array([3]), torch.Size([2])],
    "pair": [(1, 2), [3, 4], np.array([5, 6]), (7, torch.tensor(8))],
    "mode": ["a", "b"],
    "signal": [None, torch.zeros(2), torch.zeros(0, dtype=torch.bool)],
    "loud": [True, False, np.bool_(True)],
    "path": [None, "x"],
    "animal": [None, Dog()],
    "action": [None, print],
    "anything": [None, 1, "x", object()],
}
REFUSED = {
    "size": [
        None,
        1.0,
        "1",
        True,
        [1],
        torch.tensor(1.5),
        torch.tensor([1, 2]),
        2**40,
        np.array(3),
        torch.ones((), device="meta"),
    ],
    "weight": [None, "1", True, 1j, [1.0], torch.zeros(2), torch.tensor(True), np.array(1.0)],
    "lengths": [None, 1, "12", [1.5], [True], {1}, torch.zeros(2), torch.zeros(2, 2, dtype=torch.int64), [2**40]],
    "pair": [None, (1,), (1, 2, 3), 1, "ab", (1, None)],
    "mode": ["c", None, 1, ["a"]],
    "signal": [
        [0.0],
        np.zeros(2),
        torch.zeros(2).to_sparse(),
        torch.zeros(2, device="meta"),
        torch.zeros(2).to(torch.float8_e5m2),
    ],
    "loud": [None, 1, "yes", torch.tensor(True)],
    "path": [1, b"x"],
    "animal": ["dog", Dog],
    "action": ["print", 1],
}


def in_words(value: Any) -> str:
    """A test's name, the same in every process: no address of an object is in it."""
    return value if isinstance(value, str) else repr(value).split(" object at ")[0].strip("<")


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in TAKEN.items() for v in values], ids=in_words)
def test_a_value_of_the_kind_is_taken(name, value):
    given = door(**{name: value})[name]
    if isinstance(value, Tensor | np.ndarray) and name != "signal":
        assert given == (tuple(value.tolist()) if value.ndim and name in ("lengths", "pair") else value.item())
    else:
        assert given is value or given == value or given != given


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in REFUSED.items() for v in values], ids=in_words)
def test_a_value_of_another_kind_is_refused_in_a_sentence(name, value):
    with pytest.raises(unconv.DtypeError, match=rf"^door: {name} is .+, but .+ was needed\. Pass one\.$"):
        door(**{name: value})


def test_arguments_that_a_function_has_words_of_its_own_for_are_left_to_it():
    @checks_kinds_but("size")
    def other(size: int, weight: float) -> Any:
        return size

    assert other("x", 1.0) == "x"
    with pytest.raises(unconv.DtypeError, match="other: weight is 'y'"):
        other("x", "y")


def network() -> unconv.Network:
    torch.manual_seed(0)
    return unconv.Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), input_size=(3, 9, 8))


X = torch.rand(1, 6, 5, 4)
CALLS = {
    "windows beyond memory": lambda: ops.avg_pool2d(X, [2**20, 2**20], 1, "SAME"),
    "strides beyond memory": lambda: ops.unpool_avg(X[:, :1, :1], (1, 6, 5, 4), 2, 2**20, "SAME"),
    "an output beyond memory": lambda: ops.conv2d_transpose(X, torch.rand(1, 1, 2, 4), (1, 6 * 2**18, 5 * 2**18, 2), 2**18),
    "a dilation beyond memory": lambda: ops.conv2d(X, torch.rand(3, 3, 4, 2), 1, "SAME", dilations=2**20),
    "a list of sizes without end": lambda: ops.output_sizes((4, 5), 3, 2**20),
    "an array without axes": lambda: ops.conv2d(X, torch.rand(3, 3, 4, 2), np.array(1.5), "SAME"),
    "the truth of a tensor": lambda: ops.max_pool_with_argmax(X, 2, 2, "SAME", include_batch_in_index=torch.ones(2)),
    "a way to add of arrays": lambda: ops.unpool_avg(X, (1, 12, 10, 4), 2, 2, "SAME", duplicates=np.zeros(2)),
    "a place that is none": lambda: explained().text(at=3),
    "a channel by name": lambda: explained().select(channel="red"),
    "a tensor without values": lambda: ops.explain_unpool_avg(X.to("meta"), 2, 2, "SAME"),
    "a kernel beyond memory": lambda: psf.uniform(2**20),
    "a disk beyond memory": lambda: psf.disk(1e9),
    "a motion beyond memory": lambda: psf.motion(1e9),
    "a blur as wide as the world": lambda: psf.gaussian(1e6),
    "a kernel of words": lambda: psf.checked("kernel"),
    "steps by a tensor": lambda: list(inverse.cgls(blur(), X[0, :, :, 0], steps=torch.rand(3))),
    "a start of another shape": lambda: list(inverse.cgls(blur(), X[0, :, :, 0], start=torch.rand(2, 2))),
    "an operator that is none": lambda: list(inverse.tikhonov("blur", X[0, :, :, 0])),
    "weights of another shape": lambda: inverse.L1(torch.rand(7)).prox(X, 0.1),
    "an odd step": lambda: inverse.SimilarBlocks(step=3),
    "a step of which the double leaves samples out": lambda: inverse.SimilarBlocks(step=6),
    "a threshold that is none": lambda: inverse.SlidingDct(threshold="high"),
    "a mask of words": lambda: inverse.Mask(["a"]),
    "a window of other axes": lambda: inverse.Crop((8, 9), (1,), (4, 5)),
    "a metric of lists": lambda: inverse.psnr([1.0], X),
    "a picture that is none": lambda: unconv.Preprocess()(3),
    "a size in words": lambda: unconv.Preprocess(size="large"),
    "axes by number": lambda: unconv.measured.measured(np.zeros((3, 4)), axes=2),
    "a module that is none": lambda: unconv.Network("vgg16"),
    "an input beyond memory": lambda: unconv.Network(nn.ReLU(), input_size=(3, 2**16, 2**16)),
    "an image without values": lambda: network().project(torch.zeros(3, 9, 8, device="meta"), "1"),
    "a method of lists": lambda: network().project(X[0, :3], "1", method=["gradient"]),
    "a unit that is a module": lambda: network().project(torch.rand(3, 9, 8), "1", unit=nn.ReLU()),
    "places by number": lambda: network().record(torch.rand(3, 9, 8), 3),
    "rules by number": lambda: unconv.Rules("gradient", activations=3),
    "a projection by name": lambda: network().project(torch.rand(3, 9, 8), "1", 0)["first"],
    "a projection that is not there": lambda: network().project(torch.rand(3, 9, 8), "1", 0)[7],
    "a picture beyond memory": lambda: network().project(torch.rand(3, 9, 8), "1", 0).picture(side=2**30),
    "a box of three": lambda: network().project(torch.rand(3, 9, 8), "1", 0)[0].within((0, 1, 2)),
}


def explained() -> unconv.PoolExplanation:
    return ops.explain_unpool_avg(torch.rand(1, 4, 4, 2), 2, 2, "SAME")


def blur() -> inverse.Convolution:
    return inverse.Convolution(torch.ones(3, 3) / 9, (6, 5))


@pytest.mark.parametrize("name", CALLS)
def test_what_is_wrong_is_said_at_the_door(name):
    with pytest.raises(unconv.UnconvError, match=r"\w+: .+"):
        CALLS[name]()
