"""Small modules that cover every operation of the table of rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
import torchvision.ops as tv
from torch import Tensor, nn

import unconv.reverse.rules.regions  # noqa: F401

aten = torch.ops.aten


class Calls(nn.Module):
    """A function as a module; what `layers` names is called as `m.name`."""

    def __init__(self, function: Callable[..., Tensor], **layers: nn.Module | Tensor):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


@dataclass(frozen=True)
class Case:
    """A module, and the shape of an image for it, (C, samples..).

    Args:
        affine: f(x) - f(0) = A x where A, at x, is what runs backwards. Only biases before a rectifier break it.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = (2, 7, 6)
    affine: bool = True


def batch_norm(channels: int, axes: int = 2, affine: bool = True) -> nn.Module:
    """With its own statistics, and scales of both signs."""
    norm = getattr(nn, f"BatchNorm{axes}d")(channels, affine=affine)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    if affine:
        nn.init.normal_(norm.bias)
        norm.weight.data = torch.linspace(-2, 1.5, channels)
    return norm


def small(axes: int) -> Callable[[], list[nn.Module]]:
    conv, max_pool, avg_pool = (getattr(nn, f"{kind}{axes}d") for kind in ("Conv", "MaxPool", "AvgPool"))
    first = lambda: [conv(2, 4, 3, 2, 1), batch_norm(4, axes), nn.ReLU(), max_pool(3, 2, 1)]  # noqa: E731
    return lambda: [*first(), conv(4, 4, 3, padding=1, groups=2), nn.ReLU(True), avg_pool(2, 1), conv(4, 2, 1)]


def calls(function: Callable[[nn.Module, Tensor], Tensor], *shape: int, **layers: tuple) -> Case:
    def build() -> nn.Module:
        kinds = {name: nn.Linear if name == "linear" else nn.Conv2d for name in layers}
        return Calls(function, **{name: kinds[name](*settings) for name, settings in layers.items()})

    return Case(build, shape or (2, 7, 6))


def layer(kind: type[nn.Module], *args: object, shape: tuple[int, ...] = (2, 7, 6), **settings: object) -> Case:
    return Case(lambda: kind(*args, **settings), shape)


def network(layers: Callable[[], list[nn.Module]], shape: tuple[int, ...], affine: bool = True) -> Case:
    return Case(lambda: nn.Sequential(*layers()), shape, affine)


def shuffle(_m: nn.Module, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def newer_batch_norm(_m: nn.Module, x: Tensor) -> Tensor:
    scale, shift, mean, variance = torch.tensor([[-2.0, 0.5], [1, 1], [0.1, -0.3], [0.5, 2]], dtype=x.dtype)
    return aten._native_batch_norm_legit_no_training.default(x, scale, shift, mean, variance, 0.1, 1e-3)[0]


def bent(function: Callable[[Tensor], Tensor], *shape: int) -> Case:
    """What is not affine: compared with autograd at a point, with no dot test."""
    return Case(lambda: Calls(lambda m, x: function(x)), shape or (2, 7, 6), affine=False)


def unpooled(_m: nn.Module, x: Tensor) -> Tensor:
    return F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2) * 2


def unpooled_3d(_m: nn.Module, x: Tensor) -> Tensor:
    return F.max_unpool3d(*F.max_pool3d(x, 2, return_indices=True), 2) * 2


def channels_last(_m: nn.Module, x: Tensor) -> Tensor:
    y = x.permute(0, 2, 3, 1)
    y = F.pad(torch.cat([y, (y * 2).relu()], -1), (0, 0, 1, 2, 0, 1))
    z = F.silu(y) + y.mean(-1, keepdim=True)
    z = z * torch.sigmoid(z.mean((1, 2), keepdim=True))
    return z[:, 1:].permute(0, 3, 1, 2)


def rows_of_norm(m: nn.Module, x: Tensor) -> Tensor:
    return m.c(m.b(x).unsqueeze(1))


def scaled_without_gradients(_m: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        size = x.abs().amax((1, 2, 3), keepdim=True)
    return x / size


SOME, HERE = torch.tensor([4, 0, 2]), torch.tensor([3, 1, 6, 0]).view(1, 1, 4, 1).expand(1, 2, 4, 6)


BOX = torch.tensor([[0, 0.6, 1.2, 4.5, 5.9]], dtype=torch.float64)


def ramp(*shape: int) -> Tensor:
    """A constant that differs everywhere, of both signs, never zero."""
    return torch.linspace(-1.7, 2.3, prod(shape), dtype=torch.float64).view(shape)


CASES = {
    # convolutions
    "conv": layer(nn.Conv2d, 2, 3, 3),
    "conv stride 2, size that does not divide": layer(nn.Conv2d, 2, 3, 3, stride=2, shape=(2, 8, 7)),
    "conv stride larger than kernel": layer(nn.Conv2d, 2, 3, 2, stride=3, shape=(2, 10, 9)),
    "conv stride, padding and dilation": layer(nn.Conv2d, 2, 3, 3, stride=2, padding=2, dilation=2, shape=(2, 11, 8)),
    "conv other settings along each axis": layer(
        nn.Conv2d, 2, 3, (2, 5), stride=(3, 1), padding=(0, 3), dilation=(2, 1), shape=(2, 9, 6)
    ),
    "conv groups": layer(nn.Conv2d, 4, 6, 3, padding=1, groups=2, shape=(4, 5, 6)),
    "conv depthwise, 5 by 5, stride 2": layer(nn.Conv2d, 3, 3, 5, stride=2, padding=2, groups=3, shape=(3, 9, 8)),
    "conv same, even kernel": layer(nn.Conv2d, 2, 3, 4, padding="same"),
    "conv same, even by odd kernel": layer(nn.Conv2d, 2, 3, (2, 3), padding="same"),
    "conv reflect": layer(nn.Conv2d, 2, 3, 3, padding=2, padding_mode="reflect"),
    "conv replicate": layer(nn.Conv2d, 2, 3, 3, padding=2, padding_mode="replicate"),
    "conv 1 by 1": layer(nn.Conv2d, 2, 3, 1),
    "conv 1 by 1 with padding": layer(nn.Conv2d, 2, 3, 1, padding=1),
    "conv 1 by 1 with padding and stride": layer(nn.Conv2d, 2, 3, 1, padding=1, stride=2),
    "conv padding wider than the kernel": layer(nn.Conv2d, 2, 3, 2, padding=3, shape=(2, 3, 4)),
    "conv after conv": network(
        lambda: [nn.Conv2d(2, 4, 3, 2, 1), nn.Conv2d(4, 3, 3, 1, 1), nn.Conv2d(3, 2, 3, 2)], (2, 23, 19)
    ),
    "conv of channels folded into the batch": calls(
        lambda m, x: m.conv(x.view(3, 1, 6, 5)).view(1, 6, 5, 4), 3, 6, 5, conv=(1, 2, 2)
    ),
    "conv 1-D": layer(nn.Conv1d, 2, 3, 4, stride=3, padding=2, shape=(2, 17)),
    "conv 3-D": layer(nn.Conv3d, 2, 3, (2, 3, 1), stride=(2, 1, 2), padding=(1, 0, 0), shape=(2, 5, 6, 4)),
    "conv transposed": layer(nn.ConvTranspose2d, 2, 3, 3, shape=(2, 4, 5)),
    "conv transposed, output padding": layer(
        nn.ConvTranspose2d, 2, 4, (3, 4), stride=(2, 3), padding=1, output_padding=(1, 2), groups=2, shape=(2, 5, 4)
    ),
    "conv transposed, dilation": layer(nn.ConvTranspose2d, 2, 3, 3, stride=2, dilation=2, padding=2, shape=(2, 5, 4)),
    "conv after conv transposed": network(
        lambda: [nn.Conv2d(2, 3, 3, 2), nn.ConvTranspose2d(3, 2, 4, 2, 1), nn.Conv2d(2, 2, 3)], (2, 13, 12)
    ),
    # linear
    "linear": network(lambda: [nn.Flatten(), nn.Linear(24, 5)], (2, 3, 4)),
    "linear without bias": network(lambda: [nn.Flatten(), nn.Linear(24, 5, bias=False)], (2, 3, 4)),
    "linear over channels": calls(lambda m, x: m.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), linear=(2, 3, False)),
    "linear over columns without bias": calls(lambda m, x: m.linear(x), linear=(6, 3, False)),
    "linear over samples of one channel": layer(nn.Linear, 6, 3, shape=(1, 6)),
    "linear of what is not contiguous": calls(lambda m, x: m.linear(x.permute(0, 3, 2, 1)), linear=(2, 3, False)),
    "linear over columns": calls(lambda m, x: m.linear(x), linear=(6, 3)),
    "addmm with factors": calls(lambda m, x: torch.addmm(ramp(4), x.flatten(1), ramp(24, 4), beta=2, alpha=-3), 2, 3, 4),
    "addmm onto the signal": calls(lambda m, x: torch.addmm(x.flatten(1), ramp(1, 3), ramp(3, 24), beta=-2), 2, 3, 4),
    "mm from the left": calls(lambda m, x: torch.mm(ramp(3, 4), x.view(4, 30)).view(1, 3, 6, 5), 4, 6, 5),
    "transposed vector": calls(lambda m, x: torch.mm(ramp(3, 24), x.flatten(1).t()).t(), 2, 3, 4),
    # batch norm
    "batch norm, negative scale": Case(lambda: batch_norm(3), (3, 5, 4)),
    "batch norm without scale": Case(lambda: batch_norm(3, affine=False), (3, 5, 4)),
    "batch norm 1-D": Case(lambda: batch_norm(3, 1), (3, 5)),
    "batch norm 3-D": Case(lambda: batch_norm(3, 3), (3, 3, 4, 2)),
    "batch norm of a vector": network(lambda: [nn.Flatten(), batch_norm(24, 1)], (2, 3, 4)),
    "batch norm, then channels as rows": Case(
        lambda: Calls(rows_of_norm, b=batch_norm(5, 1), c=nn.Conv2d(1, 2, (1, 3))), (5, 9)
    ),
    "batch norm by its newer name": calls(newer_batch_norm),
    # arithmetic
    "add with alpha": calls(lambda m, x: torch.add(x, x.flip(1), alpha=3)),
    "sub with alpha": calls(lambda m, x: torch.sub(x * 2, x.flip(1), alpha=3)),
    "add a constant": calls(lambda m, x: aten.add.Scalar(aten.add.Scalar(x + 3, 2, 5), -1)),
    "sub a constant": calls(lambda m, x: aten.sub.Scalar(x - 3, 2, 5)),
    "sub from a constant": calls(lambda m, x: ramp(2, 1, 1) - x),
    "add a map": calls(lambda m, x: ramp(2, 7, 6) + x + ramp(6)),
    "add a vector to all positions": calls(lambda m, x: m.conv(x) + x.mean((2, 3), keepdim=True), conv=(2, 2, 3)),
    "sub one map from all channels": calls(lambda m, x: torch.sub(x, x[:, :1], alpha=0.5)),
    "add to itself": calls(lambda m, x: x + x),
    "sub from itself": calls(lambda m, x: x - 3 * x),
    "add in place": calls(lambda m, x: m.conv(x).add_(x, alpha=2), conv=(2, 2, 3, 1, 1)),
    "mul by a number": calls(lambda m, x: aten.mul.Scalar(x * 2.5, -3)),
    "mul by a number per channel": calls(lambda m, x: x * ramp(2, 1, 1)),
    "mul by a number per channel, with batch": calls(lambda m, x: x * ramp(1, 2, 1, 1)),
    "mul by a map": calls(lambda m, x: ramp(1, 2, 7, 6) * x),
    "mul by one row": calls(lambda m, x: x * ramp(6)),
    "mul by one column": calls(lambda m, x: x * ramp(7, 1)),
    "mul by one number in a tensor": calls(lambda m, x: x * ramp(2)[1] * ramp(1, 1, 1, 1)),
    "mul in place": calls(lambda m, x: m.conv(x).mul_(ramp(3, 1, 1)), conv=(2, 3, 3)),
    "mul spreads one map over channels": calls(lambda m, x: x[:, :1] * ramp(3, 1, 1)),
    "mul spreads a vector over positions": calls(lambda m, x: x.mean((2, 3), keepdim=True) * ramp(2, 4, 5)),
    "mul of a vector": calls(lambda m, x: x.flatten(1) * ramp(24), 2, 3, 4),
    "div by a number": calls(lambda m, x: aten.div.Scalar(x / 2.5, -3)),
    "div by a number per channel": calls(lambda m, x: x / ramp(2, 1, 1)),
    "div by a map": calls(lambda m, x: x.div_(ramp(7, 6))),
    "div spreads one map over channels": calls(lambda m, x: x[:, :1] / ramp(3, 1, 1)),
    "neg": calls(lambda m, x: -x),
    "rsub": calls(lambda m, x: 3 - x),
    # rectifiers
    "relu": layer(nn.ReLU),
    "relu in place": layer(nn.ReLU, True),
    "relu between convs": network(lambda: [nn.Conv2d(2, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 3, 3)], (2, 13, 11), affine=False),
    "relu of a vector": network(lambda: [nn.Flatten(), nn.Linear(24, 9), nn.ReLU()], (2, 3, 4), affine=False),
    # pools
    "max pool": layer(nn.MaxPool2d, 2),
    "max pool 3/2 with padding": layer(nn.MaxPool2d, 3, 2, 1, shape=(2, 9, 8)),
    "max pool 3/1": layer(nn.MaxPool2d, 3, 1, 1),
    "max pool in ceil mode": layer(nn.MaxPool2d, 3, 2, ceil_mode=True, shape=(2, 8, 6)),
    "max pool in ceil mode with padding": layer(nn.MaxPool2d, 3, 2, 1, ceil_mode=True, shape=(2, 8, 6)),
    "max pool dilated": layer(nn.MaxPool2d, (2, 3), (2, 1), (1, 0), dilation=2, shape=(2, 9, 8)),
    "max pool with gaps": layer(nn.MaxPool2d, 2, 3, shape=(2, 9, 8)),
    "max pool 1-D": layer(nn.MaxPool1d, 3, 2, 1, shape=(2, 14)),
    "max pool 3-D": layer(nn.MaxPool3d, (2, 3, 2), (1, 2, 2), (0, 1, 1), shape=(2, 4, 7, 5)),
    "max pool of a map without channels": calls(lambda m, x: F.max_pool2d(x[:, 0], 2)[None]),
    "max pool without a batch": calls(lambda m, x: F.max_pool2d(x[0], 3, 2, 1)[None]),
    "max pool with frames as the batch": calls(lambda m, x: F.max_pool2d(x.view(2, 2, 7, 6), 2).view(1, 4, 3, 3), 4, 7, 6),
    "average pool": layer(nn.AvgPool2d, 2),
    "average pool 3/2 with padding": layer(nn.AvgPool2d, 3, 2, 1, shape=(2, 9, 8)),
    "average pool, no padding": layer(nn.AvgPool2d, 3, 2, 1, False, False, shape=(2, 9, 8)),
    "average pool in ceil mode": layer(nn.AvgPool2d, (3, 2), 2, 1, ceil_mode=True, shape=(2, 8, 7)),
    "average pool, ceil mode, no padding": layer(nn.AvgPool2d, 3, 2, 1, True, False, shape=(2, 8, 6)),
    "average pool with a divisor": layer(nn.AvgPool2d, 3, 2, 1, ceil_mode=True, divisor_override=5, shape=(2, 8, 6)),
    "average pool with gaps": layer(nn.AvgPool2d, 2, (3, 4), shape=(2, 11, 10)),
    "average pool 1-D": layer(nn.AvgPool1d, 3, 2, 1, shape=(2, 14)),
    "average pool 3-D": layer(nn.AvgPool3d, (2, 3, 2), (2, 1, 2), (1, 1, 0), shape=(2, 4, 5, 6)),
    "average pool of a map without channels": calls(lambda m, x: F.avg_pool2d(x[:, 0], 2)[None]),
    "average pool after conv": network(lambda: [nn.Conv2d(2, 3, 3), nn.AvgPool2d(3, 2), nn.Conv2d(3, 2, 2)], (2, 13, 12)),
    "adaptive pool, even": layer(nn.AdaptiveAvgPool2d, (2, 3), shape=(2, 8, 6)),
    "adaptive pool, uneven": layer(nn.AdaptiveAvgPool2d, (3, 4), shape=(2, 7, 6)),
    "adaptive pool to a larger map": layer(nn.AdaptiveAvgPool2d, (9, 6), shape=(2, 7, 3)),
    "adaptive pool to its own size": layer(nn.AdaptiveAvgPool2d, (7, 6)),
    "adaptive pool to one": layer(nn.AdaptiveAvgPool2d, 1),
    "adaptive pool to one, channels last": calls(
        lambda m, x: F.adaptive_avg_pool2d(x.contiguous(memory_format=torch.channels_last), 1), 3, 5, 4
    ),
    "adaptive pool 1-D": layer(nn.AdaptiveAvgPool1d, 3, shape=(2, 12)),
    "adaptive pool 3-D": layer(nn.AdaptiveAvgPool3d, (2, 1, 3), shape=(2, 4, 3, 5)),
    "mean over space": calls(lambda m, x: x.mean((2, 3))),
    "mean over space, kept": calls(lambda m, x: x.mean((-1, -2), keepdim=True)),
    "mean over channels": calls(lambda m, x: x.mean(1, keepdim=True)),
    "mean over rows": calls(lambda m, x: x.mean(2)),
    "sum over channels": calls(lambda m, x: x.sum(1, keepdim=True)),
    "sum over space": calls(lambda m, x: x.sum((2, 3))),
    # complex numbers
    "Fourier transform of real numbers": calls(
        lambda m, x: torch.fft.irfft2(torch.fft.rfft2(x) * (1 + 2j), s=x.shape[-2:]), 2, 6, 8
    ),
    "Fourier transform of complex numbers": calls(lambda m, x: torch.fft.ifft2(torch.fft.fft2(x).conj() * 1j).real),
    "complex numbers from parts": calls(
        lambda m, x: torch.view_as_real(torch.complex(x, 2 * x) * 1j + torch.view_as_complex(torch.stack([x, -x], -1))).sum(-1)
    ),
    "mean of everything": calls(lambda m, x: x.mean()[None, None]),
    "sum of everything": calls(lambda m, x: x.sum()[None, None]),
    # shapes
    "frames that overlap in memory": calls(lambda m, x: x.contiguous().as_strided((1, 2, 4, 3), (84, 42, 7, 2), 3)),
    "memory of what lies channels last": calls(
        lambda m, x: (x * 2).contiguous(memory_format=torch.channels_last).as_strided((1, 3, 4, 2), (0, 5, 6, 1), 1)
    ),
    "cat over channels": calls(lambda m, x: torch.cat([m.a(x), x, m.b(x)], 1), a=(2, 3, 3, 1, 1), b=(2, 1, 5, 1, 2)),
    "cat over rows": calls(lambda m, x: torch.cat([x, 2 * x.flip(2), x], 2)),
    "cat with a constant": calls(lambda m, x: torch.cat([ramp(1, 1, 7, 6), x], 1)),
    "cat of itself": calls(lambda m, x: torch.cat([x, x], -3)),
    "stack and sum": calls(lambda m, x: torch.stack([x, 3 * x, -x]).sum(0)),
    "stack with a constant": calls(lambda m, x: torch.stack([ramp(1, 2, 7, 6), x], 1).sum(1)),
    "stack over channels": calls(lambda m, x: torch.stack([x[:, 1], x[:, 0], x[:, 1]], 1)),
    "split, one part unused": calls(lambda m, x: x.split(2, 1)[1] * 3, 5, 4, 3),
    "split into unequal parts": calls(lambda m, x: torch.cat([x.split([1, 3], 1)[k] * (k + 2) for k in (1, 0, 1)], 1), 4, 5, 3),
    "chunk, parts unalike": calls(lambda m, x: m.conv(x.chunk(2, 1)[0]) + x.chunk(2, 1)[1], 4, 5, 6, conv=(2, 2, 3, 1, 1)),
    "split rows": calls(lambda m, x: x.split([3, 4], 2)[1] - x.split([3, 4], 2)[1].flip(3)),
    "unbind": calls(lambda m, x: torch.stack([x.unbind(1)[1], x.unbind(1)[1]], 1)),
    "select a channel": calls(lambda m, x: x[:, -1].unsqueeze(1)),
    "select a row": calls(lambda m, x: x[:, :, 3]),
    "slice channels": calls(lambda m, x: x[:, 1:3], 5, 4, 3),
    "slice space": calls(lambda m, x: x[:, :, 1:-1, ::2]),
    "unsqueeze and squeeze": calls(lambda m, x: aten.squeeze.dims(x.unsqueeze(1).unsqueeze(-1).squeeze(1), [-1])),
    "squeeze everything": calls(lambda m, x: F.adaptive_avg_pool2d(x, 1).squeeze()[None]),
    "expand": calls(lambda m, x: x.expand(1, 3, 7, 6), 1, 7, 6),
    "expand a vector over positions": calls(lambda m, x: x.mean((2, 3), keepdim=True).expand(-1, -1, 3, 4)),
    "flip channels and space": calls(lambda m, x: x.flip(1).flip((2, 3))),
    "permute space": calls(lambda m, x: x.permute(0, 1, 3, 2)),
    "permute there, conv and back": calls(
        lambda m, x: m.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flip(3), 5, 4, 3, conv=(3, 3, 2)
    ),
    "channel shuffle": calls(shuffle, 6, 4, 3),
    "flatten the positions": calls(lambda m, x: x.flatten(2)),
    "reshape what is not contiguous": calls(lambda m, x: x.transpose(2, 3).reshape(1, 4, 3, 7)),
    "_unsafe_view": calls(lambda m, x: aten._unsafe_view.default(x, [1, 1, 2, 7, 6]).squeeze(1)),
    "view with an axis more": calls(lambda m, x: x.view(1, 1, 2, 7, 6).sum(1)),
    "copies": calls(lambda m, x: aten.alias(x.clone()).to(torch.float64, copy=True)),
    "detach": Case(lambda: Calls(lambda m, x: x - x.detach()), (2, 7, 6), affine=False),
    "channels last": calls(lambda m, x: m.conv(x.contiguous(memory_format=torch.channels_last)), conv=(2, 3, 3)),
    # resampling
    "nearest": calls(lambda m, x: F.interpolate(x, scale_factor=2)),
    "nearest to any size": calls(lambda m, x: aten.upsample_nearest2d.default(x, [9, 5])),
    "nearest 1-D": layer(nn.Upsample, scale_factor=3, shape=(2, 7)),
    "nearest 3-D": layer(nn.Upsample, scale_factor=2, shape=(2, 3, 2, 4)),
    "nearest by a broken factor": calls(lambda m, x: F.interpolate(x, scale_factor=1.1)),
    "nearest exact": calls(lambda m, x: F.interpolate(x, size=(11, 9), mode="nearest-exact")),
    "nearest exact 1-D": layer(nn.Upsample, scale_factor=1.7, mode="nearest-exact", shape=(2, 7)),
    "nearest exact 3-D": layer(nn.Upsample, scale_factor=1.4, mode="nearest-exact", shape=(2, 3, 2, 4)),
    "picked without a check of bounds": bent(lambda x: aten._unsafe_index.Tensor(x, [None, torch.tensor([1, 0, 1])])),
    "linear 1-D": layer(nn.Upsample, scale_factor=3, mode="linear", shape=(2, 7)),
    "bilinear": layer(nn.Upsample, scale_factor=2, mode="bilinear"),
    "bilinear, corners aligned, smaller": layer(nn.Upsample, (3, 4), mode="bilinear", align_corners=True),
    "bilinear, smoothed": calls(lambda m, x: F.interpolate(x, size=(3, 4), mode="bilinear", antialias=True)),
    "bicubic": layer(nn.Upsample, scale_factor=2, mode="bicubic"),
    "bicubic, smoothed": calls(lambda m, x: F.interpolate(x, size=(3, 4), mode="bicubic", antialias=True)),
    "trilinear": layer(nn.Upsample, scale_factor=2, mode="trilinear", shape=(2, 3, 2, 4)),
    "area": calls(lambda m, x: F.interpolate(x, size=(3, 4), mode="area")),
    "pixel shuffle": layer(nn.PixelShuffle, 2, shape=(8, 3, 4)),
    "pixel unshuffle": layer(nn.PixelUnshuffle, 2, shape=(2, 6, 4)),
    "channel shuffle of torch": layer(nn.ChannelShuffle, 3, shape=(6, 3, 4)),
    "patches": layer(nn.Unfold, 3, stride=2, shape=(2, 7, 6)),
    "patches put together": calls(lambda m, x: F.fold(F.unfold(x, 3), (7, 6), 3)),
    "roll": calls(lambda m, x: torch.roll(x, (1, -2), (2, 3))),
    "repeat": calls(lambda m, x: x.repeat(1, 2, 1, 2)),
    "index": calls(lambda m, x: x[:, [1, 0, 1]]),
    "index select": calls(lambda m, x: x.index_select(3, torch.tensor([0, 2, 2]))),
    "gather": calls(lambda m, x: x.gather(2, torch.tensor([0, 3, 3, 1]).view(1, 1, 4, 1).expand(1, 2, 4, 6))),
    "max unpool": Case(lambda: Calls(unpooled), (2, 8, 6)),
    "max unpool 3-D": Case(lambda: Calls(unpooled_3d), (2, 4, 4, 6)),
    "adaptive max pool": layer(nn.AdaptiveMaxPool2d, (3, 2)),
    "adaptive max pool 3-D": layer(nn.AdaptiveMaxPool3d, (2, 1, 3), shape=(2, 4, 3, 5)),
    # values in the place of others
    "masked fill": bent(lambda x: x.masked_fill(x > 0.3, 2.0) + x.masked_fill(x < 0, torch.tensor(0.7, dtype=x.dtype))),
    "index add and copy": calls(lambda m, x: x.index_add(2, SOME, 2 * x[:, :, :3]) - x.index_copy(3, SOME, x[..., :3].flip(2))),
    "index fill and put": calls(
        lambda m, x: x.index_fill(2, SOME, 1.5) + aten.index_put.default(x, [None, None, SOME], x[:, :, :3] * 3, True)
    ),
    "scatter": calls(
        lambda m, x: (
            x.scatter(2, HERE, x.flip(2)[:, :, :4]) + x.scatter(2, HERE, 1.5) * 2 + x.scatter_add(2, HERE, 3 * x[:, :, :4])
        )
    ),
    "slice and select scatter": calls(
        lambda m, x: torch.slice_scatter(x, x[:, :, 1:4] * 2, 2, 3, 6) + torch.select_scatter(x, x[:, 1] * 3, 1, 0)
    ),
    "fill and zero in place": calls(lambda m, x: (x * 2).fill_(3) + (x * 3).zero_() + x),
    "fill with the signal": calls(lambda m, x: torch.fill(x, x[0, 1, 2, 3]) + x),
    "copy in place": calls(lambda m, x: (x * 2).copy_(x.flip(2)) + torch.zeros_like(x).copy_(x[:, :1])),
    # without gradients
    "a block without gradients": Case(lambda: Calls(scaled_without_gradients), (2, 7, 6), affine=False),
    # functions of each sample
    "sigmoid": bent(torch.sigmoid),
    "tanh": bent(torch.tanh),
    "hardsigmoid": bent(F.hardsigmoid),
    "relu6": bent(F.relu6),
    "leaky relu": bent(F.leaky_relu),
    "prelu": Case(lambda: nn.PReLU(2), affine=False),
    "elu": bent(F.elu),
    "celu": bent(F.celu),
    "selu": bent(F.selu),
    "gelu": bent(F.gelu),
    "gelu by tanh": bent(lambda x: F.gelu(x, approximate="tanh")),
    "sampled on a grid": calls(
        lambda m, x: F.grid_sample(x, torch.linspace(-1.2, 1, 40, dtype=x.dtype).view(1, 5, 4, 2), align_corners=False), 2, 7, 6
    ),
    "sampled on a grid of three axes": calls(
        lambda m, x: F.grid_sample(x, torch.linspace(-1.2, 1, 72, dtype=x.dtype).view(1, 4, 3, 2, 3), align_corners=True),
        2,
        4,
        3,
        5,
    ),
    "to a power that is a weight": bent(lambda x: x.abs().add(0.1).pow(torch.tensor(1.7, dtype=x.dtype))),
    "a number to the power": bent(lambda x: 1.3**x),
    "in steps": bent(lambda x: x + x.floor() + x.ceil() + x.round() + x.trunc() + x.sign() + x.sgn()),
    "log of a sum": bent(lambda x: torch.logaddexp(x, x.flip(3) * 2)),
    "silu": bent(F.silu),
    "silu in place": bent(lambda x: F.silu(x * 2, inplace=True)),
    "hardswish": bent(F.hardswish),
    "mish": bent(F.mish),
    "softplus": bent(F.softplus),
    "softsign": bent(F.softsign),
    "tanhshrink": bent(F.tanhshrink),
    "hardshrink": bent(F.hardshrink),
    "softshrink": bent(F.softshrink),
    "hardtanh": bent(F.hardtanh),
    "threshold": bent(lambda x: F.threshold(x, 0.3, -1.0)),
    "clamp": bent(lambda x: x.clamp(-0.5, 0.4)),
    "clamp from below": bent(lambda x: torch.clamp_min(x, 0.3)),
    "clamp from above": bent(lambda x: torch.clamp_max(x, 0.3)),
    "clamp from zero is a relu": bent(lambda x: x.clamp(min=0)),
    "clamp from zero to six is a relu6": bent(lambda x: torch.clamp(x * 9, 0, 6)),
    "maximum with zero is a relu": bent(lambda x: torch.maximum(torch.zeros(()), x)),
    "threshold at zero is a relu": bent(lambda x: F.threshold(x, 0, 0)),
    "maximum with a constant": bent(lambda x: torch.maximum(x, ramp(2, 1, 1))),
    "log sigmoid": bent(F.logsigmoid),
    "abs, exp and log": bent(lambda x: torch.log(x.abs() + x.exp())),
    "more functions": bent(lambda x: x.sin() + x.cos() + x.erf() + x.expm1() + (x + 9).log1p()),
    "powers and roots": bent(lambda x: x.square() + (x + 9).sqrt() + (x + 9).rsqrt() + (x + 9).reciprocal() + (x + 9) ** 1.5),
    # of several samples
    # torchvision's own
    "region, aligned": calls(lambda m, x: tv.roi_align(x, BOX, 3, 1.0, 2, True)),
    "region, pooled": bent(lambda x: tv.roi_pool(x, BOX, 2)),
    "region, by positions": calls(lambda m, x: tv.ps_roi_align(x, BOX, 2) + tv.ps_roi_pool(x, BOX, 2), 8, 7, 6),
    "deformed convolution": calls(
        lambda m, x: tv.deform_conv2d(x, ramp(1, 18, 5, 4), ramp(3, 2, 3, 3), mask=ramp(1, 9, 5, 4).sigmoid())
    ),
    "deformed by the image": bent(
        lambda x: tv.deform_conv2d(x, x[:, :1, 1:-1, 1:-1].sin().repeat(1, 18, 1, 1), ramp(3, 2, 3, 3))
    ),
    "random leaky relu": bent(lambda x: F.rrelu(x)),
    "softmax": bent(lambda x: x.softmax(1)),
    "logarithm of a sum of exponentials": bent(lambda x: x.logsumexp((2, 3))),
    "largest and smallest of all": bent(lambda x: (x.max() - 2 * x.min())[None, None]),
    "median, sorted and largest few": bent(
        lambda x: x.median(2).values + x.sort(2).values[:, :, 1] + x.topk(3, 2).values.mean(2)
    ),
    "power-average pool": bent(lambda x: F.lp_pool2d(x, 2, 3, 2, ceil_mode=True)),
    "power-average pool 1-D": bent(lambda x: F.lp_pool1d(x, 4, 2), 2, 9),
    "generalised mean pool": bent(lambda x: F.avg_pool2d(x.clamp(min=1e-6).pow(3.0), x.shape[-2:]).pow(1 / 3)),
    "fold of slices": calls(lambda m, x: x.unfold(2, 3, 2).mean(-1)),
    "log softmax": bent(lambda x: x.log_softmax(2)),
    "glu": bent(lambda x: F.glu(x, 1), 4, 5, 3),
    "amax and amin": bent(lambda x: x.amax((2, 3), keepdim=True) * x - x.amin(1, keepdim=True)),
    "max and min along an axis": bent(lambda x: x.max(1, keepdim=True)[0] - x.min(2, keepdim=True)[0]),
    "maximum and minimum of two": bent(lambda x: torch.maximum(x, x.flip(2)) * 2 - torch.minimum(x, 0.3 * x.flip(3))),
    "norm": bent(lambda x: x / x.norm(dim=1, keepdim=True)),
    "statistics written out": bent(lambda x: (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 1)),
    "statistics at once": bent(lambda x: x * torch.var_mean(x, (1, 2), keepdim=True)[0] + x.var(3, keepdim=True)),
    "where": bent(lambda x: torch.where(x > 0.2, x, 0.1 * x.flip(3))),
    "cumulated": bent(lambda x: x.cumsum(2)),
    "product along an axis": bent(lambda x: x.prod(1, keepdim=True)),
    # two signals
    "squared": bent(lambda x: x * x),
    "gated": bent(lambda x: x * torch.sigmoid(x.flip(1))),
    "squeezed and excited": bent(lambda x: torch.sigmoid(x.mean((2, 3), keepdim=True)) * x),
    "masked": bent(lambda x: x * (x > 0.2)),
    "one by another": bent(lambda x: x / (x.flip(1).abs() + 1)),
    "a constant by a signal": bent(lambda x: 2.0 / (x + 9)),
    "matrix product of two": bent(lambda x: torch.matmul(x, x.transpose(2, 3).softmax(3))),
    "vector product of two": bent(lambda x: x.flatten(1) @ x.flatten(1).t(), 2, 3, 4),
    "a term and a product": bent(lambda x: torch.addcmul(x, x.flip(1), x.flip(2), value=0.5)),
    "a term and a constant product": bent(lambda x: torch.addcmul(ramp(2, 1, 1), ramp(2, 1, 1), x)),
    # norms that take their statistics from the picture
    "group norm": bent(nn.GroupNorm(2, 4, affine=False), 4, 5, 3),
    "instance norm": bent(nn.InstanceNorm2d(2)),
    "layer norm over everything": bent(lambda x: F.layer_norm(x, x.shape[1:])),
    "layer norm over channels": bent(lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (3,), ramp(3)).permute(0, 3, 1, 2), 3, 5, 4),
    "layer norm of a vector": bent(lambda x: F.layer_norm(x.flatten(1), (24,)), 2, 3, 4),
    "local response norm": bent(lambda x: F.local_response_norm(x, 3, 0.5), 5, 4, 3),
    # channels last for a while
    "channels last, linear": calls(lambda m, x: m.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) * 2, linear=(2, 3)),
    "channels last, constants": calls(
        lambda m, x: (m.linear(x.permute(0, 2, 3, 1) * ramp(2)) + ramp(3)).permute(0, 3, 1, 2), linear=(2, 3)
    ),
    "channels last, many steps": Case(lambda: Calls(channels_last), (2, 7, 6), affine=False),
    "channels last, 1-D": bent(lambda x: F.layer_norm(x.transpose(1, 2), (3,)).transpose(1, 2), 3, 7),
    # pads
    "pad circular": layer(nn.Conv2d, 2, 3, 3, padding=2, padding_mode="circular"),
    "pad with a constant": calls(lambda m, x: F.pad(x, (1, 2, 0, 3), value=4.5)),
    "pad by a negative amount": calls(lambda m, x: F.pad(x, (-1, 2, 3, -2))),
    "pad columns only": calls(lambda m, x: F.pad(x, (2, -1))),
    "pad channels": calls(lambda m, x: F.pad(x, (0, 1, 1, 0, 2, -1))),
    "pad 1-D by reflection": layer(nn.ReflectionPad1d, (2, 3), shape=(2, 7)),
    "pad 2-D by reflection": layer(nn.ReflectionPad2d, (2, 3, 0, 1)),
    "pad 3-D by reflection": layer(nn.ReflectionPad3d, (1, 2, 0, 1, 2, 1), shape=(2, 3, 4, 5)),
    "pad 1-D by repetition": layer(nn.ReplicationPad1d, (2, 3), shape=(2, 7)),
    "pad 2-D by repetition": layer(nn.ReplicationPad2d, (2, 3, 0, 1)),
    "pad 3-D by repetition": layer(nn.ReplicationPad3d, (1, 2, 0, 1, 2, 1), shape=(2, 3, 4, 5)),
    # small networks
    "1-D network": network(small(1), (2, 41), affine=False),
    "2-D network": network(small(2), (2, 25, 22), affine=False),
    "3-D network": network(small(3), (2, 11, 9, 10), affine=False),
}

# Products neither factor of which is a gate: the gradient differentiates both, other methods refuse.
UNDECIDED = ("squared", "matrix product of two", "vector product of two", "a term and a product")

ELSEWHERE = {
    aten.upsample_nearest1d.default: (1, [[9]]),
    aten.upsample_nearest2d.default: (2, [[9, 4]]),
    aten.upsample_nearest3d.default: (3, [[9, 4, 4]]),
}
BATCH_NORMS = [aten.native_batch_norm.default, aten.cudnn_batch_norm.default, aten.miopen_batch_norm.default]
