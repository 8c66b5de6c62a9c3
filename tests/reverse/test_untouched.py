"""The user's objects: whatever a forward pass writes is as it was, however the run ends."""

from __future__ import annotations

import copy
import random
import threading
import warnings
from collections import deque

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unconv
from cases.rules import Calls
from unconv.errors import ModelError

SIZE = (3, 9, 8)


def picture() -> Tensor:
    return torch.rand(SIZE, generator=torch.Generator().manual_seed(1))


class Own:
    """An object of the user's, as a cache of keys and values is."""

    def __init__(self):
        self.keys: list[Tensor] = []
        self.calls = 0


class Nasty(nn.Module):
    """A module that does something to itself, or to the program, each time it runs."""

    def __init__(self, does, fails: type[BaseException] | None = None):
        super().__init__()
        self.conv, self.does, self.fails = nn.Conv2d(3, 4, 3), does, fails
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.full((4,), 0.5))
        self.seen, self.history, self.recent, self.table, self.names = None, [], deque(maxlen=3), {"n": 1}, {"a"}
        self.own, self.cache = Own(), torch.zeros(2, 4)

    def forward(self, x):
        x = self.conv(x)
        self.does(self, x)
        if self.fails:
            raise self.fails("no good")
        return F.relu(x * 2)


def counts(m, x):
    m.calls += 1


def averages(m, x):
    m.mean.mul_(0.9).add_(0.1 * x.detach().mean((0, 2, 3)))


def averages_into_a_view(m, x):
    m.mean.view(2, 2)[0].copy_(x.mean((0, 2, 3))[:2])


def replaces_a_buffer(m, x):
    m.mean = m.mean + x.mean()


def gives_a_buffer_other_data(m, x):
    m.mean.data = torch.ones(7)


def resizes_a_buffer(m, x):
    m.cache.resize_(64, 4).fill_(3)


def moves_its_weights(m, x):
    m.conv.weight.data.mul_(0.5)
    with torch.no_grad():
        m.conv.bias.add_(1)


def freezes_its_weights(m, x):
    m.conv.requires_grad_(False)


def keeps_what_it_saw(m, x):
    m.seen = x
    m.history.append(x)
    m.recent.append(x)
    m.table["x"] = x
    m.names.add("b")


def fills_a_cache(m, x):
    m.cache[0] = x.mean((2, 3))[0]
    m.own.keys.append(x)
    m.own.calls += 1


def grows(m, x):
    m.extra = nn.ReLU()
    m.register_buffer("late", torch.ones(2))
    m.conv.register_forward_hook(lambda *_: None)
    del m.table


def trains(m, x):
    m.train()
    m.conv.eval()


def draws(m, x):
    random.random()
    np.random.rand()


def seeds(m, x):
    torch.manual_seed(0)


def sets_the_program(m, x):
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_autocast_enabled("cpu", True)
    warnings.simplefilter("ignore")


NASTY = [
    counts,
    averages,
    averages_into_a_view,
    replaces_a_buffer,
    gives_a_buffer_other_data,
    resizes_a_buffer,
    moves_its_weights,
    freezes_its_weights,
    keeps_what_it_saw,
    fills_a_cache,
    grows,
    trains,
    draws,
    seeds,
    sets_the_program,
]


def fingerprint(module: nn.Module) -> dict[str, object]:
    """Everything that a run could leave behind."""
    parts = dict(module.named_modules())
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers()), "cache": getattr(module, "cache", None)}
    plain = (int, float, str, bool, type(None), set)
    return {
        "bytes": {n: (id(t), repr(t.tolist()), t.stride(), t._version) for n, t in tensors.items() if t is not None},
        "flags": {name: (p.requires_grad, p.grad is None) for name, p in module.named_parameters()},
        "attributes": {n: {k: v if isinstance(v, plain) else id(v) for k, v in vars(m).items()} for n, m in parts.items()},
        "inside": {n: {k: repr(v) for k, v in vars(m).items() if type(v) in (list, dict, deque)} for n, m in parts.items()},
        "hooks": {n: [list(v) for k, v in vars(m).items() if k.endswith("_hooks")] for n, m in parts.items()},
        "own": {k: repr(v) for k, v in vars(module.own).items()} if hasattr(module, "own") else None,
        "random": (torch.get_rng_state().numpy().tobytes(), repr(random.getstate()), repr(np.random.get_state())),
        "program": (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_default_dtype(),
            torch.is_autocast_enabled("cpu"),
            torch.get_num_threads(),
            list(warnings.filters),
        ),
        "modes": torch.utils._python_dispatch._len_torch_dispatch_stack(),
        "everywhere": {
            k: len(v) for k, v in vars(nn.modules.module).items() if k.startswith("_global") and isinstance(v, dict)
        },
        "functions": "__getattribute__" in vars(torch.autograd.function.FunctionMeta),
    }


def nasty(does, fails=None) -> nn.Module:
    torch.manual_seed(0)
    return Nasty(does, fails).eval()


RUNS = {
    "project": lambda network: network.project(picture(), "relu", "top:2"),
    "places": lambda network: network.places(),
    "stream": lambda network: list(network.stream(picture(), "relu", "top:2")),
    "check": lambda network: network.check(picture()),
    "trust": lambda network: network.trust(picture(), "conv", "top:1"),
}


@pytest.fixture(autouse=True)
def program_as_it_was():
    assert unconv.Network  # which loads libraries that add filters of warnings, once
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.set_autocast_enabled("cpu", False)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("does", NASTY, ids=lambda does: does.__name__)
def test_what_a_forward_pass_does_to_itself_is_undone(does, run):
    module = nasty(does)
    module.conv.weight.grad = torch.ones_like(module.conv.weight)
    before = fingerprint(module)
    try:
        RUNS[run](unconv.Network(module, input_size=SIZE))
    except unconv.UnconvError:
        assert does is grows or does is sets_the_program or run in ("trust", "check")  # what cannot be run twice alike
    after = fingerprint(module)
    assert {key for key in before if before[key] != after[key]} == set()


@pytest.mark.parametrize("fails", [RuntimeError, KeyError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("does", NASTY, ids=lambda does: does.__name__)
def test_it_is_undone_when_the_forward_pass_fails(does, fails):
    module = nasty(does, fails)
    before = fingerprint(module)
    with pytest.raises(ModelError if fails is RuntimeError else fails):
        unconv.Network(module, input_size=SIZE).project(picture(), "relu")
    after = fingerprint(module)
    assert {key for key in before if before[key] != after[key]} == set()


def norms() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "spectral, by hooks": nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)),
        "spectral": nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)),
        "weight": nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
    }


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", norms())
def test_a_norm_of_weights_is_not_stepped(name, training):
    module = nn.Sequential(norms()[name], nn.ReLU()).train(training)
    before = fingerprint(module)
    unconv.Network(module, input_size=SIZE).project(picture(), "1", "top:2")
    assert fingerprint(module) == before


def test_a_buffer_counts_as_it_was_when_it_was_used():
    def scaled(m, x):
        m.scale.add_(1)
        return x * m.scale

    module = Calls(scaled).double()
    module.register_buffer("scale", torch.ones(1, dtype=torch.float64))
    network = unconv.Network(module, input_size=SIZE)
    for _ in range(2):
        found = network.project(picture().double(), "", channels=1, unit=(4, 3), method="gradient")
        assert float(found.pixels()[0, 1, 4, 3] / found.values) == 2.0


def test_other_arguments_that_a_model_writes_are_as_they_were():
    class Cached(nn.Module):
        def forward(self, x, cache):
            cache["keys"].append(x)
            cache["mask"].zero_()
            return F.relu(x) * 2

    cache = {"keys": [], "mask": torch.ones(3)}
    unconv.Network(Cached(), input_size=SIZE, others={"cache": cache}).project(picture(), "relu", 0)
    assert cache["keys"] == [] and torch.equal(cache["mask"], torch.ones(3))


def test_a_graph_of_the_callers_that_holds_a_buffer_can_still_go_backwards():
    module = nasty(averages)
    product = (module.mean * module.conv.bias).sum()  # autograd holds the buffer, and would refuse one that was written
    unconv.Network(module, input_size=SIZE).project(picture(), "relu", "top:1")
    product.backward()
    assert torch.equal(module.conv.bias.grad, torch.full((4,), 0.5))


@pytest.mark.parametrize("lazy", [lambda: nn.LazyConv2d(4, 3), lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyBatchNorm2d())])
def test_a_model_whose_weights_are_not_made_yet_is_refused_before_it_runs(lazy):
    module = nn.Sequential(lazy(), nn.ReLU()).eval()
    network = unconv.Network(module, input_size=SIZE)
    for run in (network.places, lambda: network.project(picture(), "1"), lambda: network.check(picture())):
        with pytest.raises(ModelError, match=r"record: .* has no values yet.* Run the model once on an image"):
            run()
    assert any(nn.parameter.is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers()))


class Single(nn.Module):
    """A model that is one of a kind: its copy is itself, or has its weights."""

    def __init__(self, shares: str):
        super().__init__()
        self.conv, self.shares = nn.Conv2d(3, 4, 3), shares

    def __deepcopy__(self, memo):
        if self.shares == "itself":
            return self
        twin = Single("itself")
        twin.conv = self.conv if self.shares == "a layer" else nn.Conv2d(3, 4, 3)
        if self.shares == "a weight":
            twin.conv.weight = self.conv.weight
        if self.shares == "memory":
            twin.conv.weight.data = self.conv.weight.data
        return twin

    def forward(self, x):
        return F.relu(self.conv(x))


@pytest.mark.parametrize("shares", ["itself", "a layer", "a weight", "memory"])
def test_a_model_that_cannot_be_copied_apart_is_not_shuffled(shares):
    module = Single(shares).eval()
    before = copy.deepcopy(module.state_dict())
    network = unconv.Network(module, input_size=SIZE)
    with pytest.raises(ModelError, match=r"trust: a deep copy of Single shares modules or weights with it"):
        network.trust(picture(), "relu", "top:1")
    assert network.check(picture()).reversible
    assert all(tensor.dtype == torch.float32 for tensor in module.parameters())
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())


def test_two_threads_that_record_one_model_leave_it_as_it_was():
    module = nasty(lambda m, x: (counts(m, x), averages(m, x), keeps_what_it_saw(m, x), fills_a_cache(m, x)))
    network, before, failed = unconv.Network(module, input_size=SIZE), fingerprint(module), []

    def work():
        try:
            for _ in range(10):
                network.project(picture(), "relu", "top:1")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert fingerprint(module) == before


def test_warnings_filters_of_another_thread_are_its_own():
    inside, done = threading.Event(), threading.Event()

    def other():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inside.set()
            done.wait(10)

    def waits(m, x):
        if not done.is_set():
            done.set()
            thread.join()

    before, thread = list(warnings.filters), threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    unconv.Network(nasty(waits), input_size=SIZE).record(picture())
    assert list(warnings.filters) == before


def test_a_recording_whose_weights_were_changed_is_not_projected_with_the_new_ones():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    recording = unconv.Network(module, input_size=SIZE).record(picture(), ["1"])
    recording.project("1", 0)
    with torch.no_grad():
        module[0].weight.mul_(2)
    with pytest.raises(ModelError, match=r"were changed after this recording.*Record the image again"):
        recording.project("1", 0)


@pytest.mark.parametrize("method", ["gradient", "deconvnet", "guided"])
def test_nothing_that_comes_back_requires_a_gradient(method):
    def forward(m, x):
        with torch.enable_grad():
            x = F.layer_norm(x.permute(0, 2, 3, 1), (3,), m.gamma, m.beta).permute(0, 3, 1, 2)
            return F.relu(F.prelu(m.conv(x), m.slope) * (m.gamma.sum() * 2))

    module = Calls(forward, conv=nn.Conv2d(3, 4, 3)).eval()
    module.gamma, module.beta, module.slope = (nn.Parameter(torch.rand(n)) for n in (3, 3, 1))
    network = unconv.Network(module, input_size=SIZE)
    for place in ("relu", "conv"):
        found = network.project(picture().requires_grad_(True), place, "top:2", method=method, trace=True)
        tensors = [
            *found.windows,
            found.values,
            found.image,
            found.pixels(),
            network.record(picture(), place).activation(place),
        ]
        tensors += [signal.map for signals in found.signals for signal in signals if hasattr(signal, "map")]
        assert not any(tensor.requires_grad or tensor.grad_fn is not None or tensor.is_inference() for tensor in tensors)
