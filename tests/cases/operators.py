"""Operators by name, for the laws that hold for all of them."""

from __future__ import annotations

from itertools import product

import torch

from unconv.inverse import Convolution, Crop, Downsample, Mask, Scaling, Stack, Window

LENGTHS = {1: (9,), 2: (7, 6), 3: (5, 4, 6)}
KERNELS = {
    ("odd", 1): (5,),
    ("odd", 2): (3, 5),
    ("odd", 3): (3, 3, 1),
    ("even", 1): (4,),
    ("even", 2): (2, 4),
    ("even", 3): (2, 4, 2),
}


def random(*shape, dtype=torch.double, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def _convolutions():
    for boundary, parity, stride, axes in product(
        ("circular", "zero", "reflect", "unknown"), ("odd", "even"), (1, 2), (1, 2, 3)
    ):
        for numbers, method in (("real", "fft"), ("real", "direct"), ("complex", "fft")):
            kernel = random(*KERNELS[parity, axes], dtype=torch.cdouble if numbers == "complex" else torch.double)
            name = f"{boundary}-{parity}-stride{stride}-{axes}d-{numbers}-{method}"
            yield name, Convolution(kernel, LENGTHS[axes], boundary, stride=stride, method=method)


def _others():
    n = (7, 6)
    blur, other = Convolution(random(3, 3), n), Convolution(random(2, 4, seed=1), n, "zero")
    valid, mask = Convolution(random(3, 3), n, "unknown"), Mask(random(*n) > 0)
    channels = Convolution(random(3, 2, 3), (3, *n), "reflect", axes=2)
    yield "mask", mask
    yield "crop", Crop(n, (1, 2), (4, 3))
    yield "window", Window((3, *n), (1, 0), (3, 2), (2, 3))
    yield "downsample", Downsample(n, 2, 1)
    yield "downsample-last-axis", Downsample(n, 4, axes=1)
    yield "stack", Stack([blur, other])
    yield "sum", blur + other
    yield "composition", Downsample(valid.shape_out, 2) @ valid
    yield "mask-of-blur", mask @ blur
    yield "scaling", Scaling(-2.0, n)
    yield "complex-scaling", (1 + 2j) * blur
    yield "kernel-for-each-channel", channels
    yield "one-kernel-of-several-channels", Convolution(random(4, 3), (2, 3, *n), "zero", axes=2)
    yield "centre-at-an-end", Convolution(random(4, 3), n, "unknown", centre=(0, 2), stride=(2, 1))


OPERATORS = dict([*_convolutions(), *_others()])
