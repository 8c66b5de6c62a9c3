"""Small networks whose maps are made larger, wrapped or reflected: decoders, generators, padded networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cases.rules import Calls


@dataclass(frozen=True)
class Case:
    """A network without biases, and an image for it, (C, samples..)."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]


def conv(below: int, above: int, kernel: int = 3, stride: int = 1, padding: int | None = None, **settings: object) -> nn.Module:
    return nn.Conv2d(below, above, kernel, stride, kernel // 2 if padding is None else padding, bias=False, **settings)


def up(below: int, above: int, kernel: int, stride: int, padding: int, **settings: object) -> nn.Module:
    return nn.ConvTranspose2d(below, above, kernel, stride, padding, bias=False, **settings)


def sequence(*layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*(layer() for layer in layers))


def calls(function: Callable[[nn.Module, Tensor], Tensor], **layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: Calls(function, **{name: layer() for name, layer in layers.items()})


def u_net(enlarge: Callable[[nn.Module, Tensor], Tensor]) -> Callable[[], nn.Module]:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        first = F.relu(m.a(x))
        second = F.relu(m.b(F.avg_pool2d(first, 2)))
        return m.c(torch.cat([enlarge(m, second), first], 1))

    return calls(forward, a=lambda: conv(1, 2), b=lambda: conv(2, 2), u=lambda: up(2, 2, 2, 2, 0), c=lambda: conv(4, 1))


def pyramid(m: nn.Module, x: Tensor) -> Tensor:
    c2 = F.relu(m.a(x))
    c3 = F.relu(m.b(c2))
    c4 = F.relu(m.c(c3))
    p3 = m.l3(c3) + F.interpolate(c4, size=c3.shape[2:], mode="nearest")
    return m.out(m.l2(c2) + F.interpolate(p3, size=c2.shape[2:], mode="nearest"))


def padded(kind: str, width: int = 1) -> Callable[[], nn.Module]:
    return lambda: conv(1, 1, 2 * width + 1, padding=width, padding_mode=kind)


def wrapped_by_hand(m: nn.Module, x: Tensor) -> Tensor:
    x = torch.cat([x[..., -1:], x, x[..., :1]], -1)
    return m.a(torch.cat([x[:, :, -1:], x, x[:, :, :1]], 2))


def resize(**settings: object) -> Callable[[], nn.Module]:
    return lambda: nn.Upsample(**settings)


def shuffled_pixels(m: nn.Module, x: Tensor) -> Tensor:
    return m.b(F.pixel_shuffle(F.relu(m.a(x)), 2))


def cut_up(m: nn.Module, x: Tensor) -> Tensor:
    left, right = m.a(x).chunk(2, 3)
    upper, lower = torch.cat([right, left], 3).split([3, x.shape[2] - 5], 2)
    return m.b(torch.cat([lower, upper], 2)[:, :, 1:-1, ::2])


DECODERS = {
    "u-net, transposed": Case(u_net(lambda m, x: m.u(x)), (1, 16, 20)),
    "u-net, bilinear": Case(u_net(lambda m, x: F.interpolate(x, scale_factor=2, mode="bilinear")), (1, 16, 20)),
    "u-net, corners aligned": Case(
        u_net(lambda m, x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)), (1, 16, 20)
    ),
    "pyramid": Case(
        calls(
            pyramid,
            a=lambda: conv(1, 2, 3, 1),
            b=lambda: conv(2, 2, 3, 2),
            c=lambda: conv(2, 2, 3, 2),
            l3=lambda: conv(2, 2, 1),
            l2=lambda: conv(2, 2, 1),
            out=lambda: conv(2, 1),
        ),
        (1, 15, 19),
    ),
    "dcgan generator": Case(
        sequence(lambda: up(2, 2, 4, 2, 1), nn.ReLU, lambda: up(2, 2, 4, 2, 1), nn.ReLU, lambda: up(2, 1, 4, 2, 1)), (2, 4, 5)
    ),
    "dcgan generator, from one vector": Case(
        sequence(lambda: up(2, 2, 4, 1, 0), nn.ReLU, lambda: up(2, 1, 4, 2, 1)), (2, 1, 1)
    ),
    "autoencoder": Case(
        sequence(
            *(lambda: conv(1, 2, 4, 2, 1), nn.ReLU, lambda: conv(2, 2, 4, 2, 1)),
            *(lambda: up(2, 2, 3, 2, 1, output_padding=1), nn.ReLU, lambda: up(2, 1, 3, 2, 1, output_padding=1)),
        ),
        (1, 20, 24),
    ),
    "transposed, kernel smaller than its stride": Case(sequence(lambda: up(1, 1, 2, 3, 0), lambda: conv(1, 1)), (1, 5, 6)),
    "transposed, dilated, in groups": Case(sequence(lambda: up(2, 2, 3, 2, 2, dilation=2, groups=2)), (2, 6, 7)),
    "transposed, other settings along each axis": Case(
        sequence(lambda: up(1, 1, (3, 4), (2, 3), (1, 0), output_padding=(1, 2))), (1, 6, 5)
    ),
    "dilated, strided, in groups": Case(
        sequence(lambda: conv(2, 2, 3, 2, 2, dilation=2, groups=2), lambda: up(2, 2, 4, 2, 1)), (2, 17, 15)
    ),
    "super-resolution": Case(
        calls(shuffled_pixels, a=lambda: conv(1, 8, 5), b=lambda: conv(2, 1)),
        (1, 10, 9),
    ),
    "pixels into channels and back": Case(
        sequence(lambda: nn.PixelUnshuffle(2), lambda: conv(4, 4), lambda: nn.PixelShuffle(2), lambda: conv(1, 1)), (1, 14, 16)
    ),
    "circular": Case(sequence(padded("circular"), nn.ReLU, padded("circular")), (1, 11, 13)),
    "circular, strided": Case(
        sequence(padded("circular", 2), lambda: conv(1, 1, 3, 2, 1, padding_mode="circular")), (1, 16, 14)
    ),
    "circular by hand": Case(calls(wrapped_by_hand, a=lambda: conv(1, 1, 3, padding=0)), (1, 10, 9)),
    "reflected generator": Case(
        sequence(
            *(lambda: nn.ReflectionPad2d(3), lambda: conv(1, 2, 7, padding=0), nn.ReLU, lambda: conv(2, 2, 3, 2, 1)),
            *(lambda: nn.ReflectionPad2d(1), lambda: conv(2, 2, 3, padding=0), nn.ReLU),
            *(lambda: up(2, 2, 3, 2, 1, output_padding=1), lambda: nn.ReflectionPad2d(2), lambda: conv(2, 1, 5, padding=0)),
        ),
        (1, 24, 26),
    ),
    "reflected far": Case(sequence(lambda: nn.ReflectionPad2d((5, 0, 2, 6)), lambda: conv(1, 1, 2, padding=0)), (1, 8, 9)),
    "replicated": Case(sequence(padded("replicate", 2), nn.ReLU, padded("replicate")), (1, 10, 12)),
    "nearest, by no whole factor": Case(sequence(resize(size=(11, 16)), lambda: conv(1, 1)), (1, 7, 9)),
    "nearest exact": Case(sequence(resize(scale_factor=1.7, mode="nearest-exact"), lambda: conv(1, 1)), (1, 7, 9)),
    "bicubic": Case(sequence(resize(scale_factor=2, mode="bicubic"), lambda: conv(1, 1)), (1, 9, 8)),
    "smaller, smoothed": Case(
        calls(
            lambda m, x: m.a(F.interpolate(x, size=(9, 7), mode="bilinear", antialias=True, align_corners=False)),
            a=lambda: conv(1, 1),
        ),
        (1, 20, 21),
    ),
    "adaptive pool, uneven": Case(sequence(lambda: conv(1, 1), lambda: nn.AdaptiveAvgPool2d((6, 7))), (1, 23, 24)),
    "rolled and turned": Case(
        calls(lambda m, x: m.a(torch.roll(x, (3, -2), (2, 3))) + m.b(x.flip(3)), a=lambda: conv(1, 1), b=lambda: conv(1, 1)),
        (1, 11, 12),
    ),
    "cut up": Case(calls(cut_up, a=lambda: conv(1, 1, padding=0), b=lambda: conv(1, 1, padding=0)), (1, 15, 18)),
    "rows chosen and repeated": Case(
        calls(
            lambda m, x: m.a(x.index_select(2, torch.arange(0, 12, 3)).repeat(1, 1, 2, 1)),
            a=lambda: conv(1, 1),
        ),
        (1, 12, 7),
    ),
    "wave": Case(
        sequence(
            *(lambda: nn.Conv1d(1, 2, 5, 2, 2, bias=False), nn.ReLU, lambda: nn.ConvTranspose1d(2, 2, 4, 2, 1, bias=False)),
            *(lambda: nn.ReflectionPad1d(2), lambda: nn.Conv1d(2, 1, 5, bias=False), resize(scale_factor=2, mode="linear")),
        ),
        (1, 30),
    ),
    "volume": Case(
        sequence(lambda: nn.Conv3d(1, 2, 3, 2, 1, bias=False), nn.ReLU, resize(scale_factor=2, mode="trilinear")), (1, 9, 10, 9)
    ),
}


def positive(network: nn.Module) -> nn.Module:
    """All weights above zero, so that nothing cancels and a gradient shows all that a unit sees."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) + 0.5
    return network.double().eval().requires_grad_(False)


def picture(shape: Sequence[int]) -> Tensor:
    return torch.rand(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5
