"""Custom autograd functions, and blocks without gradients: what autograd does there is done, or refused in words."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unconv
from cases.rules import Calls
from unconv.errors import NoRule

pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # a checkpoint's own

SIZE = (3, 7, 6)


def picture() -> Tensor:
    return torch.randn(SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class InPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(3)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Sealed(torch.autograd.Function):
    """What happens inside is hidden from any tape: it goes by way of NumPy."""

    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.detach().cpu().numpy() ** 2)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Second(torch.autograd.Function):
    """In the newer form, of two results; one is turned round."""

    @staticmethod
    def forward(x, scale):
        return x * scale, x + scale

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.scale = inputs[1]

    @staticmethod
    def backward(ctx, first, second):
        return first * ctx.scale - second, None


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return gradient * s * (1 + x * (1 - s))


class Tanh(torch.autograd.Function):
    """In the newer form, and it saves what it returns."""

    @staticmethod
    def forward(x, scale):
        return torch.tanh(x) * scale

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.scale = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient * (1 - (y / ctx.scale) ** 2) * ctx.scale, None


class Weighted(torch.autograd.Function):
    """With a parameter, so that autograd makes a graph also where the image asks for none."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x * weight

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return gradient * weight, (gradient * x).sum((0, 2, 3), keepdim=True)[0]


class Identity(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return gradient


taken_early = Round.apply  # as many write it: at import, long before a recording

OTHERWISE = {
    "Round": lambda m, x: taken_early(m.conv(x)),
    "Reversal": lambda m, x: Reversal.apply(m.conv(x)),
    "Reversal beside": lambda m, x: (y := m.conv(x)) * 2 + Reversal.apply(y),
    "InPlace": lambda m, x: InPlace.apply(m.conv(x)),
    "Sealed": lambda m, x: Sealed.apply(m.conv(x)),
    "Second": lambda m, x: Second.apply(m.conv(x), 2.0)[0],
}
AS_IT_CAME = {
    "Swish": lambda m, x: Swish.apply(m.conv(x)),
    "Tanh": lambda m, x: Tanh.apply(m.conv(x), 1.5),
    "Weighted": lambda m, x: Weighted.apply(m.conv(x), m.weight),
    "Identity": lambda m, x: Identity.apply(m.conv(x)),
    "checkpoint": lambda m, x: torch.utils.checkpoint.checkpoint(torch.sigmoid, m.conv(x), use_reentrant=True),
    "checkpoint, newer": lambda m, x: torch.utils.checkpoint.checkpoint(torch.sigmoid, m.conv(x), use_reentrant=False),
}


def network(function, grad: bool = True) -> unconv.Network:
    torch.manual_seed(0)
    module = Calls(lambda m, x: m.last(function(m, x)), conv=nn.Conv2d(3, 4, 3), last=nn.Conv2d(4, 2, 1))
    module.weight = nn.Parameter(torch.linspace(-1, 2, 4).view(4, 1, 1))
    return unconv.Network(module.double().eval().requires_grad_(grad), input_size=SIZE)


def right(net: unconv.Network, found) -> Tensor:
    """What autograd makes of the unit's own activation."""
    x = picture()[None].requires_grad_(True)
    unit = net.module(x.clone())[(0, *found.units[0])]
    return torch.autograd.grad(unit, x)[0][0] * unit.detach()


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("method", ["deconvnet", "guided"])
@pytest.mark.parametrize("name", OTHERWISE)
def test_a_function_that_goes_back_otherwise_is_refused_by_name_and_place(name, method, grad):
    net = network(OTHERWISE[name], grad)
    with pytest.raises(
        NoRule, match=rf"custom_function runs the torch.autograd.Function {name.split()[0]}, whose backward pass"
    ):
        net.project(picture(), "last", 0, method=method)
    assert len(net.project(picture(), "conv", "top:1", method=method)) == 1  # before it, all is as ever


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", OTHERWISE)
def test_the_gradient_calls_a_function_s_own_backward_pass(name, grad):
    net = network(OTHERWISE[name], grad)
    for unit in ((2, 3), (0, 1)):
        found = net.project(picture(), "last", 1, unit, method="gradient")
        torch.testing.assert_close(found.pixels()[0], right(net, found), rtol=1e-11, atol=1e-12)
    assert net.check(picture(), "gradient").reversible


def test_the_second_result_of_a_function_and_a_spike_s_surrogate_go_back_their_own_way():
    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, threshold):
            ctx.save_for_backward(x)
            return (x > threshold).to(x.dtype)

        @staticmethod
        def backward(ctx, gradient):
            (x,) = ctx.saved_tensors
            return gradient / (1 + x.abs()) ** 2, None

    for way in (lambda m, x: Second.apply(m.conv(x), 2.0)[1], lambda m, x: Spike.apply(m.conv(x), 0.1)):
        net = network(way)
        found = net.project(picture(), "last", "all", (1, 2), method="gradient")
        for k in range(2):
            one = net.project(picture(), "last", k, (1, 2), method="gradient")
            torch.testing.assert_close(found.pixels()[k], right(net, one), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", AS_IT_CAME)
def test_a_function_that_only_saves_memory_is_autograd(name, grad):
    net = network(AS_IT_CAME[name], grad)
    found = net.project(picture(), "last", 1, unit=(2, 3), method="gradient")
    if name == "checkpoint":  # torch cannot be asked for a gradient through it
        net = network(AS_IT_CAME["checkpoint, newer"])
    torch.testing.assert_close(found.pixels()[0], right(net, found), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", sorted({*OTHERWISE, *AS_IT_CAME} - {"checkpoint"}))
def test_what_is_projected_is_what_check_trusts(name):
    net = network({**OTHERWISE, **AS_IT_CAME}[name])
    assert not net.check(picture()).verdict.startswith("Not to be trusted")


def test_the_place_of_a_function_is_the_module_that_runs_it():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), Calls(lambda m, x: taken_early(x)), nn.ReLU()).double().eval()
    net = unconv.Network(body, input_size=SIZE)
    with pytest.raises(NoRule, match=r"1 runs the torch.autograd.Function Round"):
        net.project(picture(), "2", 0)
    assert [place.name for place in net.places()] == ["0", "1.round", "1", "2"]
    assert torch.equal(net.record(picture(), "1").activation("1"), body[:2](picture()[None])[0].detach())


def test_a_function_beside_the_way_is_no_matter():
    net = network(lambda m, x: [m.conv(x), Round.apply(m.conv(x))][0])
    found = net.project(picture(), "last", 0, unit=(1, 1), method="gradient")
    torch.testing.assert_close(found.pixels()[0], right(net, found))


def test_other_threads_apply_functions_as_ever_while_one_records():
    wrong, stop = [], threading.Event()

    def work():
        x = torch.tensor([0.4, 1.6], requires_grad=True)
        while not stop.is_set():
            y = taken_early(x * 2)
            (gradient,) = torch.autograd.grad(y.sum(), x)
            wrong.extend([gradient] if gradient.tolist() != [2.0, 2.0] else [])

    thread = threading.Thread(target=work)
    thread.start()
    net = network(AS_IT_CAME["Swish"])
    for _ in range(10):
        net.record(picture())
    stop.set()
    thread.join()
    assert not wrong
    assert "__getattribute__" not in vars(torch.autograd.function.FunctionMeta)


# -- blocks without gradients ---------------------------------------------------------------------


def without(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x.abs() + 1


BLOCKS = {
    "a size": lambda m, x: (y := m.conv(x)) / without(y).amax(),
    "a branch": lambda m, x: (y := m.conv(x)) + without(y) * y,
    "nested": lambda m, x: (y := m.conv(x)) * torch.enable_grad()(without)(y.detach()),
    "inference mode": lambda m, x: (y := m.conv(x)) * torch.inference_mode()(torch.sigmoid)(y).clone(),
    "all of it": lambda m, x: without(m.conv(x)),
    "gradients on": lambda m, x: torch.enable_grad()(F.gelu)(m.conv(x)),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_the_gradient_stops_where_autograd_does(name):
    net = network(BLOCKS[name])
    found = net.project(picture(), "last", 0, unit=(2, 2), method="gradient")
    x = picture()[None].requires_grad_(True)
    unit = net.module(x.clone())[(0, *found.units[0])]
    (gradient,) = torch.autograd.grad(unit, x, allow_unused=True)
    gradient = torch.zeros_like(x) if gradient is None else gradient
    torch.testing.assert_close(found.pixels()[0], gradient[0] * unit.detach())


def test_a_model_that_runs_without_gradients_as_a_whole_is_projected():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3).double().eval()
    plain = unconv.Network(Calls(lambda m, x: F.relu(conv(x))), input_size=SIZE)
    under = unconv.Network(Calls(torch.no_grad()(lambda m, x: F.relu(conv(x)))), input_size=SIZE)
    for method in ("gradient", "deconvnet"):
        a, b = (net.project(picture(), "relu", "top:2", method=method).pixels() for net in (plain, under))
        assert torch.equal(a, b) and a.any()


def test_other_methods_pass_a_block_without_gradients():
    net = network(lambda m, x: F.relu(without(m.conv(x))))
    assert net.project(picture(), "last", 0, method="deconvnet").pixels().any()


def test_what_was_overwritten_without_gradients_is_refused_by_the_gradient():
    def forward(m, x):
        y = m.conv(x)
        with torch.no_grad():
            y.mul_(2)
        return y * 1

    net = network(forward)
    with pytest.raises(NoRule, match=r"was overwritten under torch.no_grad\(\)"):
        net.project(picture(), "last", 0, method="gradient")


def test_what_is_held_beside_a_function_is_tried_too():
    net = network(lambda m, x: (y := Round.apply(m.conv(x))) * y.mean((2, 3), keepdim=True).sigmoid())
    (law,) = (
        law for law in net.check(picture(), unconv.Rules("gradient", freeze=True)).laws if law.name == "frozen = constants"
    )
    assert law.error < 1e-12


def test_a_function_of_what_was_written_through_a_view_is_refused():
    def forward(m, x):
        y = m.conv(x)
        y.mT.mul_(0.5)
        return Reversal.apply(y)

    with pytest.raises(NoRule, match=r"wrote in place through a view, and Reversal reads the memory under it"):
        network(forward).project(picture(), "last", 0, method="gradient")
