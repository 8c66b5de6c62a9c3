"""Solvers by name, for what holds of all of them."""

from __future__ import annotations

import torch

from cases.operators import random
from unconv.inverse import Mask, Operator
from unconv.inverse.priors.penalties import L1
from unconv.inverse.solvers.cgls import cgls
from unconv.inverse.solvers.fista import fista
from unconv.inverse.solvers.tikhonov import tikhonov
from unconv.inverse.solvers.wiener import wiener

MOST = torch.ones(16, 16)
MOST[5:8, 9:13] = 0
SOLVERS = {
    "wiener": wiener,
    "wiener-nsr": lambda a, y: wiener(a, y, nsr=0.1),
    "wiener-upre": lambda a, y: wiener(a, y, noise=0.3, strength="upre"),
    "wiener-missing": lambda a, y: wiener(Mask(MOST) @ a, MOST * y, noise=0.3, tolerance=1e-8),
    "cgls": lambda a, y: cgls(a, y, steps=6),
    "cgls-discrepancy": lambda a, y: cgls(a, y, stop="discrepancy", noise=0.3),
    "cgls-gcv": lambda a, y: cgls(a, y, stop="gcv"),
    "tikhonov": tikhonov,
    "tikhonov-discrepancy": lambda a, y: tikhonov(a, y, strength="discrepancy", noise=0.3, penalty="gradient"),
    "tikhonov-iterated": lambda a, y: tikhonov(Mask(torch.ones(16, 16)) @ a, y),
    "tikhonov-iterated-discrepancy": lambda a, y: tikhonov(Plain(a), y, strength="discrepancy", noise=0.3),
    "tikhonov-fourier": lambda a, y: tikhonov(
        Mask(MOST) @ a, MOST * y, penalty="gradient", differences="circular", tolerance=1e-8
    ),
    "tikhonov-fourier-discrepancy": lambda a, y: tikhonov(
        Mask(MOST) @ a, MOST * y, strength="discrepancy", noise=0.3, penalty="gradient", differences="circular", tolerance=1e-8
    ),
    "fista": lambda a, y: fista(Plain(a), y, L1(0.1)),
}


def picture(n=64, seed=0):
    """A sample of the field whose power spectrum is 1 / |f|^2, with its power spectrum."""
    f2 = torch.fft.fftfreq(n)[:, None].double().square() + torch.fft.fftfreq(n).double().square()
    spectrum = torch.where(f2 > 0, 1 / f2.clamp(min=1e-9), 4.0)
    return torch.fft.ifft2(torch.fft.fft2(random(n, n, seed=seed)) * spectrum.sqrt()).real, spectrum


class Plain(Operator):
    """An operator of which only the four names are known."""

    def __init__(self, operator):
        self.forward, self.adjoint = operator.forward, operator.adjoint
        self.shape_in, self.shape_out = operator.shape_in, operator.shape_out
