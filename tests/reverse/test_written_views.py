"""What is written through a view, and read through another tensor: which samples that are is told, and goes back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unconv
from cases.calls import Calls
from unconv.errors import NoRule

SIZE = (3, 8, 7)


def conv() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(3, 3, 3, padding=1)


def assigns_a_slice(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv(x)
    x[:, :1] = 0
    return F.relu(x)


def rectifies_a_slice(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv(x)
    x[:, :1].relu_()
    return m.conv(x)


def reads_a_view_of_what_changed(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv(x)
    view = x.flatten(2)
    x.relu_()
    return (view * 2).view(x.shape) + 1


def fills_new_memory(m: nn.Module, x: Tensor) -> Tensor:
    both = torch.zeros(1, 6, 8, 7, dtype=x.dtype)
    both[:, :3] = x
    both[:, 3:] = m.conv(x)
    return both * 2


def fills_a_view_of_new_memory(m: nn.Module, x: Tensor) -> Tensor:
    both = torch.zeros(1, 3, 56, dtype=x.dtype)
    both.view(1, 3, 8, 7)[:, 1:] += x[:, 1:]
    return both.sum(1)


def fills_a_buffer(m: nn.Module, x: Tensor) -> Tensor:
    m.memory[:, 0].add_(x[:, 0])
    return m.conv(m.memory)


def writes_twice_over(m: nn.Module, x: Tensor) -> Tensor:
    y = m.conv(x)
    y[:, :, 2:5] = x[:, :, 2:5] * 3
    y[:, :, 4:] *= 0.5
    return y + y.flip(2)


def writes_constants(m: nn.Module, x: Tensor) -> Tensor:
    y = m.conv(x)
    y[:, :, 0] = 0
    y[:, 1, 3:5] = 0.5
    return y * 3


def reads_another_part(m: nn.Module, x: Tensor) -> Tensor:
    y = m.conv(x)
    above, below = y[:, :, :4], y[:, :, 4:]
    above.mul_(2)
    return torch.cat([above, below, below * 2], 2)


def writes_a_constant_between(m: nn.Module, x: Tensor) -> Tensor:
    both = torch.zeros(1, 6, 8, 7, dtype=x.dtype)
    both[:, :3] = x
    both[:, 1] = 7.0
    both[:, 2:5] = m.conv(x)
    return both * both.new_tensor([1.0, 2, 3, 4, 5, 6]).view(-1, 1, 1)


def a_detector_s_batch(m: nn.Module, x: Tensor) -> Tensor:
    batch = x.new_full((2, 3, 10, 10), 0)
    for slot, picture in enumerate((x[0], x[0] * 2)):
        batch[slot, :, :8, :7].copy_(picture)
    return m.conv(batch).mean(0, keepdim=True)


def a_neural_operator(m: nn.Module, x: Tensor) -> Tensor:
    spectrum = torch.fft.rfft2(m.conv(x))
    out = torch.zeros_like(spectrum)
    out[:, :, :3, :2] = spectrum[:, :, :3, :2] * (1 + 2j)
    out[:, :, -3:, :2] = spectrum[:, :, -3:, :2].flip(1)
    return torch.fft.irfft2(out, s=x.shape[-2:])


def a_partial_convolution(m: nn.Module, x: Tensor) -> Tensor:
    y = torch.cat([x, x * 2], 1)
    y[:, :3] = m.conv(y[:, :3].clone())
    return y * 2


WRITERS = [
    assigns_a_slice,
    rectifies_a_slice,
    reads_a_view_of_what_changed,
    fills_new_memory,
    fills_a_view_of_new_memory,
    fills_a_buffer,
    writes_twice_over,
    writes_constants,
    reads_another_part,
    writes_a_constant_between,
    a_detector_s_batch,
    a_neural_operator,
    a_partial_convolution,
]


def network(forward) -> unconv.Network:
    model = Calls(forward, conv=conv(), memory=torch.zeros(1, *SIZE)).double().eval()
    return unconv.Network(model, input_size=SIZE)


def image() -> Tensor:
    return torch.randn(SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("forward", WRITERS, ids=lambda f: f.__name__)
def test_the_gradient_is_autograd_s(forward):
    net = network(forward)
    found = net.record(image(), ["output"])
    x = image()[None].requires_grad_(True)
    net.module.memory = torch.zeros(1, *SIZE, dtype=torch.float64)
    out = net.module(x.clone())
    activation = found.activation("output")
    for unit in (activation != 0).nonzero()[::7].tolist():
        mine = found.project("output", unit[0], tuple(unit[1:]) or "strongest", "gradient")
        same = (out - activation[tuple(unit)]).abs().argmin()
        (right,) = torch.autograd.grad(out.flatten()[same] * activation[tuple(unit)], x, retain_graph=True)
        torch.testing.assert_close(mine.pixels(), right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("forward", WRITERS, ids=lambda f: f.__name__)
def test_every_law_holds(forward):
    found = network(forward).check()
    assert found.reversible, found.text()


@pytest.mark.parametrize("forward", [fills_new_memory, a_partial_convolution], ids=lambda f: f.__name__)
def test_units_see_no_more_than_they_do(forward):
    places = network(forward).places()
    assert places[-1].receptive_field == (3, 3)


def test_a_module_that_returned_what_was_written_is_named():
    class Head(nn.Module):
        def forward(self, x):
            y = x * 1
            y[:, 0] = y[:, 1] * 2
            return y

    net = unconv.Network(nn.Sequential(conv(), Head()).double().eval(), input_size=SIZE)
    kept = net.record(image(), ["1"]).activation("1")
    assert torch.equal(kept, net.module(image()[None])[0].detach())
    found = net.project(image(), "1", 0, (3, 3), "gradient").pixels()
    x = image()[None].requires_grad_(True)
    value = net.module(x)[0, 0, 3, 3]
    torch.testing.assert_close(found[0], torch.autograd.grad(value, x)[0][0] * value.detach(), rtol=1e-10, atol=1e-12)


def test_what_was_written_under_inference_mode_is_refused():
    def forward(m, x):
        with torch.inference_mode():
            both = torch.zeros_like(x)
            both[:, :2] = x[:, :2]
            return x + both

    net = unconv.Network(Calls(forward, conv=conv()).eval(), input_size=SIZE)
    with pytest.raises(NoRule, match=r"wrote in place through a view, and .* reads the memory under it.*torch\.cat"):
        net.project(torch.rand(SIZE), "output")
    assert not net.check().reversible


def test_what_was_written_as_another_type_is_refused():
    def forward(m, x):
        y = torch.complex(m.conv(x), x)
        torch.view_as_real(y)[..., 0].mul_(2)
        return y.abs()

    with pytest.raises(NoRule, match="wrote in place through a view"):
        unconv.Network(Calls(forward, conv=conv()).eval(), input_size=SIZE).project(torch.rand(SIZE), "output")


def test_a_written_tensor_deep_in_a_collection_is_told():
    def forward(m, x):
        x = m.conv(x)
        x[:, 0] = 0
        return {"features": (x,)}

    net = unconv.Network(Calls(forward, conv=conv()).eval(), input_size=SIZE)
    found = net.project(torch.rand(SIZE), "output.features.0", 0, (2, 2)).pixels()
    assert not found.any()
