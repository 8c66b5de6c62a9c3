"""Blurred photographs whose truth is known."""

from __future__ import annotations

from cases.operators import random
from unconv.box import demo_pictures
from unconv.inverse import Convolution, psf
from unconv.pictures.measured import measured

BOX = psf.uniform(5)


def photograph(side=64, which=0, colour=False):
    samples = measured(demo_pictures()[which]).samples.double()
    samples = samples if colour else samples.mean(0)
    return samples[..., 40 : 40 + side, 40 : 40 + side].contiguous()


def blurred(boundary="circular", kernel=BOX, side=64, noise=1.0, which=0, colour=False):
    """(truth, observed): of an unknown boundary, the part of the truth that was looked at."""
    h, w = kernel.shape
    shape = (side + h - 1, side + w - 1) if boundary == "unknown" else (side, side)
    whole = photograph(max(shape), which, colour)[..., : shape[0], : shape[1]]
    operator = Convolution(kernel, whole.shape, boundary)
    y = operator.forward(whole)
    top, left = (h - 1 - h // 2, w - 1 - w // 2) if boundary == "unknown" else (0, 0)
    return whole[..., top : top + side, left : left + side], y + noise * random(*y.shape, seed=7)
