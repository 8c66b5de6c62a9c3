"""Every rule against torch's own autograd, from one table of small modules that covers every operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch's own, where it copies

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
        autograd: torch's own backward pass is the right answer.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = (2, 7, 6)
    affine: bool = True
    autograd: bool = True


def batch_norm(channels: int, axes: int = 2, affine: bool = True) -> nn.Module:
    """With its own statistics, and scales of both signs."""
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[axes - 1](channels, affine=affine)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    if affine:
        nn.init.normal_(norm.bias)
        norm.weight.data = torch.linspace(-2, 1.5, channels)
    return norm.eval()


def calls(function: Callable[[nn.Module, Tensor], Tensor], *shape: int, autograd: bool = True, **layers: nn.Module) -> Case:
    return Case(lambda: Calls(function, **layers), shape or (2, 7, 6), autograd=autograd)


def layer(kind: type[nn.Module], *args: object, shape: tuple[int, ...] = (2, 7, 6), **settings: object) -> Case:
    return Case(lambda: kind(*args, **settings), shape)


def stack(*layers: Callable[[], nn.Module], shape: tuple[int, ...] = (2, 7, 6), affine: bool = True) -> Case:
    return Case(lambda: nn.Sequential(*[build() for build in layers]), shape, affine)


def conv(*args: object, **settings: object) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(*args, **settings)


def shuffle(_m: nn.Module, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def legit_batch_norm(_m: nn.Module, x: Tensor) -> Tensor:
    scale, shift, mean, variance = torch.tensor([[-2.0, 0.5], [1, 1], [0.1, -0.3], [0.5, 2]], dtype=x.dtype)
    return aten._native_batch_norm_legit_no_training.default(x, scale, shift, mean, variance, 0.1, 1e-3)[0]


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
    "conv circular": layer(nn.Conv2d, 2, 3, 3, padding=2, padding_mode="circular"),
    "conv 1 by 1": layer(nn.Conv2d, 2, 3, 1),
    "conv 1 by 1 with padding": layer(nn.Conv2d, 2, 3, 1, padding=1),
    "conv 1 by 1 with padding and stride": layer(nn.Conv2d, 2, 3, 1, padding=1, stride=2),
    "conv padding wider than the kernel": layer(nn.Conv2d, 2, 3, 2, padding=3, shape=(2, 3, 4)),
    "conv after conv": stack(conv(2, 4, 3, 2, 1), conv(4, 3, 3, 1, 1), conv(3, 2, 3, 2), shape=(2, 23, 19)),
    "conv of channels folded into the batch": calls(
        lambda m, x: m.conv(x.view(3, 1, 6, 5)).view(1, 6, 5, 4), 3, 6, 5, conv=nn.Conv2d(1, 2, 2)
    ),
    "conv 1-D": layer(nn.Conv1d, 2, 3, 4, stride=3, padding=2, shape=(2, 17)),
    "conv 3-D": layer(nn.Conv3d, 2, 3, (2, 3, 1), stride=(2, 1, 2), padding=(1, 0, 0), shape=(2, 5, 6, 4)),
    "conv transposed": layer(nn.ConvTranspose2d, 2, 3, 3, shape=(2, 4, 5)),
    "conv transposed, output padding": layer(
        nn.ConvTranspose2d, 2, 4, (3, 4), stride=(2, 3), padding=1, output_padding=(1, 2), groups=2, shape=(2, 5, 4)
    ),
    "conv transposed, dilation": layer(nn.ConvTranspose2d, 2, 3, 3, stride=2, dilation=2, padding=2, shape=(2, 5, 4)),
    "conv after conv transposed": stack(
        conv(2, 3, 3, 2), lambda: nn.ConvTranspose2d(3, 2, 4, 2, 1), conv(2, 2, 3), shape=(2, 13, 12)
    ),
    # linear
    "linear": Case(lambda: nn.Sequential(nn.Flatten(), nn.Linear(24, 5)), (2, 3, 4)),
    "linear without bias": Case(lambda: nn.Sequential(nn.Flatten(), nn.Linear(24, 5, bias=False)), (2, 3, 4)),
    "linear over channels at each position": calls(
        lambda m, x: m.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), linear=nn.Linear(2, 3)
    ),
    "linear over channels without bias": calls(
        lambda m, x: m.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), linear=nn.Linear(2, 3, bias=False)
    ),
    "linear over columns": calls(lambda m, x: m.linear(x), linear=nn.Linear(6, 3)),
    "addmm with factors": calls(lambda m, x: torch.addmm(ramp(4), x.flatten(1), ramp(24, 4), beta=2, alpha=-3), 2, 3, 4),
    "addmm onto the signal": calls(lambda m, x: torch.addmm(x.flatten(1), ramp(1, 3), ramp(3, 24), beta=-2), 2, 3, 4),
    "mm from the left": calls(lambda m, x: torch.mm(ramp(3, 4), x.view(4, 30)).view(1, 3, 6, 5), 4, 6, 5),
    "transposed vector": calls(lambda m, x: torch.mm(ramp(3, 24), x.flatten(1).t()).t(), 2, 3, 4),
    # batch norm
    "batch norm, negative scale": Case(lambda: batch_norm(3), (3, 5, 4)),
    "batch norm without scale": Case(lambda: batch_norm(3, affine=False), (3, 5, 4)),
    "batch norm 1-D": Case(lambda: batch_norm(3, 1), (3, 5)),
    "batch norm 3-D": Case(lambda: batch_norm(3, 3), (3, 3, 4, 2)),
    "batch norm of a vector": Case(lambda: nn.Sequential(nn.Flatten(), batch_norm(24, 1)), (2, 3, 4)),
    "batch norm by its newer name": calls(legit_batch_norm),
    # arithmetic
    "add with alpha": calls(lambda m, x: torch.add(x, x.flip(1), alpha=3)),
    "sub with alpha": calls(lambda m, x: torch.sub(x * 2, x.flip(1), alpha=3)),
    "add a constant": calls(lambda m, x: aten.add.Scalar(aten.add.Scalar(x + 3, 2, 5), -1)),
    "sub a constant": calls(lambda m, x: aten.sub.Scalar(x - 3, 2, 5)),
    "sub from a constant": calls(lambda m, x: ramp(2, 1, 1) - x),
    "sub from a number": calls(lambda m, x: 1 - x),
    "add a map": calls(lambda m, x: ramp(2, 7, 6) + x + ramp(6)),
    "add a vector to all positions": calls(lambda m, x: m.conv(x) + x.mean((2, 3), keepdim=True), conv=nn.Conv2d(2, 2, 3)),
    "sub one map from all channels": calls(lambda m, x: torch.sub(x, x[:, :1], alpha=0.5)),
    "add to itself": calls(lambda m, x: x + x),
    "sub from itself": calls(lambda m, x: x - 3 * x),
    "add in place": calls(lambda m, x: m.conv(x).add_(x, alpha=2), conv=nn.Conv2d(2, 2, 3, padding=1)),
    "mul by a number": calls(lambda m, x: aten.mul.Scalar(x * 2.5, -3)),
    "mul by a number per channel": calls(lambda m, x: x * ramp(2, 1, 1)),
    "mul by a number per channel, with batch": calls(lambda m, x: x * ramp(1, 2, 1, 1)),
    "mul by a map": calls(lambda m, x: ramp(1, 2, 7, 6) * x),
    "mul by one row": calls(lambda m, x: x * ramp(6)),
    "mul by one column": calls(lambda m, x: x * ramp(7, 1)),
    "mul by one number in a tensor": calls(lambda m, x: x * ramp(2)[1] * ramp(1, 1, 1, 1)),
    "mul in place": calls(lambda m, x: m.conv(x).mul_(ramp(3, 1, 1)), conv=nn.Conv2d(2, 3, 3)),
    "mul spreads one map over channels": calls(lambda m, x: x[:, :1] * ramp(3, 1, 1)),
    "mul spreads a vector over positions": calls(lambda m, x: x.mean((2, 3), keepdim=True) * ramp(2, 4, 5)),
    "mul of a vector": calls(lambda m, x: x.flatten(1) * ramp(24), 2, 3, 4),
    "div by a number": calls(lambda m, x: aten.div.Scalar(x / 2.5, -3)),
    "div by a number per channel": calls(lambda m, x: x / ramp(2, 1, 1)),
    "div by a map": calls(lambda m, x: x.div_(ramp(7, 6))),
    "div spreads one map over channels": calls(lambda m, x: x[:, :1] / ramp(3, 1, 1)),
    "neg": calls(lambda m, x: -x),
    # rectifiers
    "relu": layer(nn.ReLU),
    "relu in place": layer(nn.ReLU, True),
    "relu between convs": stack(conv(2, 4, 3, 2), nn.ReLU, conv(4, 3, 3), shape=(2, 13, 11), affine=False),
    "relu of a vector": Case(lambda: nn.Sequential(nn.Flatten(), nn.Linear(24, 9), nn.ReLU()), (2, 3, 4), affine=False),
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
    "max pool after conv": stack(
        conv(2, 4, 3), lambda: nn.MaxPool2d(3, 2, ceil_mode=True), conv(4, 3, 3, 1, 1), shape=(2, 16, 14), affine=False
    ),
    "max pool adaptive, even": layer(nn.AdaptiveMaxPool2d, (2, 3), shape=(2, 8, 6)),
    "average pool": layer(nn.AvgPool2d, 2),
    "average pool 3/2 with padding": layer(nn.AvgPool2d, 3, 2, 1, shape=(2, 9, 8)),
    "average pool without the padding": layer(nn.AvgPool2d, 3, 2, 1, count_include_pad=False, shape=(2, 9, 8)),
    "average pool in ceil mode": layer(nn.AvgPool2d, (3, 2), 2, 1, ceil_mode=True, shape=(2, 8, 7)),
    "average pool in ceil mode without the padding": layer(
        nn.AvgPool2d, 3, 2, 1, ceil_mode=True, count_include_pad=False, shape=(2, 8, 6)
    ),
    "average pool with a divisor": layer(nn.AvgPool2d, 3, 2, 1, ceil_mode=True, divisor_override=5, shape=(2, 8, 6)),
    "average pool with gaps": layer(nn.AvgPool2d, 2, (3, 4), shape=(2, 11, 10)),
    "average pool 1-D": layer(nn.AvgPool1d, 3, 2, 1, shape=(2, 14)),
    "average pool 3-D": layer(nn.AvgPool3d, (2, 3, 2), (2, 1, 2), (1, 1, 0), shape=(2, 4, 5, 6)),
    "average pool after conv": stack(conv(2, 3, 3), lambda: nn.AvgPool2d(3, 2), conv(3, 2, 2), shape=(2, 13, 12)),
    "adaptive pool, even": layer(nn.AdaptiveAvgPool2d, (2, 3), shape=(2, 8, 6)),
    "adaptive pool, uneven": layer(nn.AdaptiveAvgPool2d, (3, 4), shape=(2, 7, 6)),
    "adaptive pool to a larger map": layer(nn.AdaptiveAvgPool2d, (9, 6), shape=(2, 7, 3)),
    "adaptive pool to its own size": layer(nn.AdaptiveAvgPool2d, (7, 6)),
    "adaptive pool to one": layer(nn.AdaptiveAvgPool2d, 1),
    "adaptive pool 1-D": layer(nn.AdaptiveAvgPool1d, 3, shape=(2, 12)),
    "adaptive pool 3-D": layer(nn.AdaptiveAvgPool3d, (2, 1, 3), shape=(2, 4, 3, 5)),
    "mean over space": calls(lambda m, x: x.mean((2, 3))),
    "mean over space, kept": calls(lambda m, x: x.mean((-1, -2), keepdim=True)),
    "mean over channels": calls(lambda m, x: x.mean(1, keepdim=True)),
    "mean over rows": calls(lambda m, x: x.mean(2)),
    "sum over channels": calls(lambda m, x: x.sum(1, keepdim=True)),
    "sum over space": calls(lambda m, x: x.sum((2, 3))),
    # shapes
    "cat over channels": calls(
        lambda m, x: torch.cat([m.a(x), x, m.b(x)], 1), a=nn.Conv2d(2, 3, 3, padding=1), b=nn.Conv2d(2, 1, 5, padding=2)
    ),
    "cat over rows": calls(lambda m, x: torch.cat([x, 2 * x.flip(2), x], 2)),
    "cat with a constant": calls(lambda m, x: torch.cat([ramp(1, 1, 7, 6), x], 1)),
    "cat of itself": calls(lambda m, x: torch.cat([x, x], -3)),
    "stack and mean": calls(lambda m, x: torch.stack([x, 3 * x, -x]).sum(0)),
    "stack over channels": calls(lambda m, x: torch.stack([x[:, 1], x[:, 0], x[:, 1]], 1)),
    "split, one part unused": calls(lambda m, x: x.split(2, 1)[1] * 3, 5, 4, 3),
    "split into unequal parts": calls(lambda m, x: torch.cat([x.split([1, 3], 1)[k] * (k + 2) for k in (1, 0, 1)], 1), 4, 5, 3),
    "chunk, each part used otherwise": calls(
        lambda m, x: m.conv(x.chunk(2, 1)[0]) + x.chunk(2, 1)[1], 4, 5, 6, conv=nn.Conv2d(2, 2, 3, padding=1)
    ),
    "split rows": calls(lambda m, x: x.split([3, 4], 2)[1] - x.split([3, 4], 2)[1].flip(3)),
    "unbind": calls(lambda m, x: torch.stack([x.unbind(1)[1], x.unbind(1)[1]], 1)),
    "select a channel": calls(lambda m, x: x[:, -1].unsqueeze(1)),
    "select a row": calls(lambda m, x: x[:, :, 3]),
    "slice channels": calls(lambda m, x: x[:, 1:3], 5, 4, 3),
    "slice space": calls(lambda m, x: x[:, :, 1:-1, ::2]),
    "unsqueeze and squeeze": calls(lambda m, x: aten.squeeze.dims(x.unsqueeze(1).unsqueeze(-1).squeeze(1), [-1])),
    "squeeze everything": calls(lambda m, x: m.pool(x).squeeze()[None], pool=nn.AdaptiveAvgPool2d(1)),
    "expand": calls(lambda m, x: x.expand(1, 3, 7, 6), 1, 7, 6),
    "expand a vector over positions": calls(lambda m, x: x.mean((2, 3), keepdim=True).expand(-1, -1, 3, 4)),
    "flip channels and space": calls(lambda m, x: x.flip(1).flip((2, 3))),
    "permute space": calls(lambda m, x: x.permute(0, 1, 3, 2)),
    "permute there, conv and back": calls(
        lambda m, x: m.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1), 5, 4, 3, conv=nn.Conv2d(3, 3, 2)
    ),
    "channel shuffle": calls(shuffle, 6, 4, 3),
    "pixel shuffle": layer(nn.PixelShuffle, 2, shape=(8, 3, 4)),
    "flatten the positions": calls(lambda m, x: x.flatten(2)),
    "reshape what is not contiguous": calls(lambda m, x: x.transpose(2, 3).reshape(1, 4, 3, 7)),
    "_unsafe_view": calls(lambda m, x: aten._unsafe_view.default(x, [1, 1, 2, 7, 6]).squeeze(1)),
    "view with an axis more": calls(lambda m, x: x.view(1, 1, 2, 7, 6).sum(1)),
    "copies": calls(lambda m, x: aten.alias(x.clone()).to(torch.float64, copy=True)),
    "detach": calls(lambda m, x: x.detach(), autograd=False),
    "channels last": calls(lambda m, x: m.conv(x.contiguous(memory_format=torch.channels_last)), conv=nn.Conv2d(2, 3, 3)),
    # pads
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
    "1-D network": stack(
        lambda: nn.Conv1d(2, 4, 5, 2, 1), lambda: batch_norm(4, 1), nn.ReLU, lambda: nn.MaxPool1d(3, 2, 1),
        lambda: nn.Conv1d(4, 3, 3), lambda: nn.AvgPool1d(2), shape=(2, 41), affine=False,
    ),
    "3-D network": stack(
        lambda: nn.Conv3d(1, 3, 3, padding=1), lambda: batch_norm(3, 3), nn.ReLU, lambda: nn.MaxPool3d(2),
        lambda: nn.Conv3d(3, 2, 2), shape=(1, 6, 8, 7), affine=False,
    ),
    "2-D network": stack(
        conv(2, 4, 3, 1, 1), lambda: batch_norm(4), nn.ReLU, lambda: nn.MaxPool2d(3, 2, 1),
        conv(4, 4, 3, 2, 1, groups=2), nn.ReLU, lambda: nn.AvgPool2d(2, 1), conv(4, 2, 1), shape=(2, 25, 22), affine=False,
    ),
}  # fmt: skip
