"""Fourier transforms and complex numbers within a network: units go back as autograd has it, and what is linear exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import unconv
from cases.calls import Calls

SIZE = (3, 8, 10)
WEIGHT = torch.randn(4, 4, 8, 6, dtype=torch.complex128, generator=torch.Generator().manual_seed(3))


def spectral_transform(m: nn.Module, x: Tensor) -> Tensor:
    """A fast Fourier convolution: real and imaginary parts as channels, a 1 × 1 convolution between."""
    n, c, h, w = x.shape
    spectrum = torch.fft.rfftn(x, dim=(-2, -1), norm="ortho")
    parts = torch.stack((spectrum.real, spectrum.imag), -1).permute(0, 1, 4, 2, 3).reshape(n, 2 * c, h, -1)
    parts = m.mix(parts).relu().view(n, c, 2, h, -1).permute(0, 1, 3, 4, 2).contiguous()
    return torch.fft.irfftn(torch.complex(parts[..., 0], parts[..., 1]), s=(h, w), dim=(-2, -1), norm="ortho")


def neural_operator(_m: nn.Module, x: Tensor) -> Tensor:
    """Each frequency's channels by a matrix of complex weights."""
    return torch.fft.irfft2(torch.einsum("bihw,iohw->bohw", torch.fft.rfft2(x), WEIGHT), s=x.shape[-2:])


WAYS = {
    "there and back": lambda m, x: torch.fft.irfft2(torch.fft.rfft2(x)) * 2,
    "of complex numbers": lambda m, x: torch.fft.ifft2(torch.fft.fft2(x) * 1j).imag,
    "one axis": lambda m, x: torch.fft.irfft(torch.fft.rfft(x, dim=2) * 3, dim=2),
    "a filter": lambda m, x: torch.fft.irfft2(torch.fft.rfft2(x) * WEIGHT[0]),
    "shifted": lambda m, x: torch.fft.fftshift(torch.fft.fft2(x)).real,
    "conjugate": lambda m, x: torch.fft.ifft2(torch.fft.fft2(x).conj()).real,
    "as real": lambda m, x: torch.view_as_real(torch.fft.rfft2(x)).sum(-1),
    "some frequencies": lambda m, x: torch.fft.irfft2(torch.fft.rfft2(x)[:, :, :3, :4], s=(6, 8)),
    "sizes": lambda m, x: torch.fft.rfft2(x).abs(),
    "power": lambda m, x: torch.fft.rfft2(x).abs() ** 2,
    "two spectra": lambda m, x: torch.fft.irfft2(torch.fft.rfft2(x) * torch.fft.rfft2(m.mix4(x))),
    "fast Fourier convolution": spectral_transform,
    "neural operator": neural_operator,
}
LINEAR = sorted(set(WAYS) - {"sizes", "power", "two spectra", "fast Fourier convolution"})


def network(way: str) -> unconv.Network:
    torch.manual_seed(0)
    layers = {
        "first": nn.Conv2d(3, 4, 3, padding=1),
        "mix": nn.Conv2d(8, 8, 1),
        "mix4": nn.Conv2d(4, 4, 1),
        "last": nn.Conv2d(4, 2, 1),
    }
    return unconv.Network(Calls(lambda m, x: m.last(WAYS[way](m, m.first(x))), **layers).double().eval(), input_size=SIZE)


def image() -> Tensor:
    return torch.randn(SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def right(net: unconv.Network, unit: tuple[int, ...]) -> Tensor:
    x = image()[None].requires_grad_(True)
    value = net.module(x)[(0, *unit)]
    return torch.autograd.grad(value, x)[0][0] * value.detach()


@pytest.mark.parametrize("way", WAYS)
def test_the_gradient_is_autograd_s(way):
    net = network(way)
    for unit in ((0, 1, 2), (1, 4, 3)):
        found = net.project(image(), "last", unit[0], unit[1:], "gradient")
        torch.testing.assert_close(found.pixels()[0], right(net, unit), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("way", LINEAR)
def test_what_is_linear_goes_back_alike_by_every_method(way):
    net = network(way)
    for method in ("deconvnet", "guided"):
        found = net.project(image(), "last", 1, (2, 2), method)
        torch.testing.assert_close(found.pixels()[0], right(net, (1, 2, 2)), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("way", sorted({*LINEAR, "fast Fourier convolution"}))
def test_every_law_holds(way):
    found = network(way).check()
    assert found.reversible, found.text()


def test_a_rectifier_between_two_transforms_is_rectified():
    net = network("fast Fourier convolution")
    deconvnet, gradient = (net.project(image(), "last", 0, (3, 3), method).pixels() for method in ("deconvnet", "gradient"))
    assert (deconvnet - gradient).norm() > 0.05 * gradient.norm()


def test_float32_is_near_and_half_precision_refused():
    net = network("fast Fourier convolution")
    exact = net.project(image(), "last", 0, (3, 3), "gradient").pixels()
    single = unconv.Network(net.module.float(), input_size=SIZE)
    found = single.project(image().float(), "last", 0, (3, 3), "gradient").pixels()
    assert (found - exact).abs().max() < 1e-4 * exact.abs().max()
    with pytest.raises(unconv.errors.DtypeError, match=r"passes complex numbers \(a Fourier transform\)"):
        single.project(image().float(), "last", 0, (3, 3), dtype="bfloat16")


def test_a_spectrogram_within_a_network_of_sound():
    def forward(m, x):
        window = torch.hann_window(16, dtype=x.dtype)
        return m.last(torch.stft(x[:, 0], 16, 4, window=window, return_complex=True).abs().square()[:, None])

    net = unconv.Network(Calls(forward, last=nn.Conv2d(1, 3, 3)).double().eval(), input_size=(1, 80))
    signal = torch.randn(1, 80, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = net.project(signal, "last", 2, (3, 4), "gradient")
    x = signal[None].requires_grad_(True)
    value = net.module(x)[0, 2, 3, 4]
    torch.testing.assert_close(found.pixels()[0], torch.autograd.grad(value, x)[0][0] * value.detach(), rtol=1e-10, atol=1e-12)
