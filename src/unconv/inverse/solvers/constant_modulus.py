"""The constant-modulus criterion (CMA): filters of least dispersion, by conjugate gradients with exact line search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Dispersion = Literal["modulus", "parts"]

_CONVERGED = 1e-7  # relative fall of the dispersion at which descent ends
_LOADING = 1e-6  # diagonal loading of the correlation matrix, as a share of the input's power


@dataclass(frozen=True)
class Descent:
    """The result of the descent.

    Attributes:
        taps: (signals, L). curve: (signals, passes + 1), the dispersion before and after each pass.
        settled: (signals,), whether it has stopped falling.
    """

    taps: Tensor
    curve: Tensor
    settled: Tensor


def least_dispersion(windows: Tensor, taps: Tensor, radius: float, kind: Dispersion, passes: int) -> Descent:
    """Return the taps of least dispersion: the mean of (|y|^2 - radius)^2, or of both parts of y, for y = windows @ taps.

    Each pass goes over all data once. The inverse correlation matrix preconditions the gradient, which is then made conjugate
    to the last direction (Polak & Ribière). The step is the minimum of the quartic along it, so there is no rate to choose
    and no descent diverges.

    Args:
        windows: (signals, K, L). taps: (signals, L), the first ones.
        radius: mean |s|^4 / mean |s|^2 of the symbols; for "parts", of their real parts.

    Source:
        Godard (1980); Zarzoso & Comon, "Optimal step-size constant modulus algorithm" (2008).
    """
    preconditioner = _preconditioner(windows)
    y = torch.einsum("skl,sl->sk", windows, taps)
    values = [_dispersion(y, radius, kind)]
    direction, last_gradient, last_norm = torch.zeros_like(taps), torch.zeros_like(taps), torch.ones_like(values[0])
    settled = torch.zeros_like(values[0], dtype=torch.bool)
    for _ in range(passes):
        gradient = torch.einsum("skl,sk->sl", windows.conj(), _error(y, radius, kind)) / windows.shape[1]
        steepest = torch.einsum("slm,sm->sl", preconditioner, gradient)
        norm = _inner(gradient, steepest)
        # Polak & Ribière, not below zero: then a direction that has lost its use is dropped for the steepest.
        beta = ((norm - _inner(last_gradient, steepest)) / last_norm.clamp(min=1e-300)).clamp(min=0)
        direction = steepest + beta[:, None] * direction
        # A direction along which the dispersion does not fall is replaced by the steepest: a restart.
        direction = torch.where((_inner(gradient, direction) > 0)[:, None], direction, steepest)
        last_gradient, last_norm = gradient, norm
        change = torch.einsum("skl,sl->sk", windows, direction)
        step = _step(y, change, radius, kind)
        taps, y = taps - step[:, None] * direction, y - step[:, None] * change
        values.append(_dispersion(y, radius, kind))
        settled = values[-2] - values[-1] <= _CONVERGED * values[-2]
        if bool(settled.all()):
            break
    return Descent(taps, torch.stack(values, -1), settled)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = (a.conj() * b).sum(-1).real
    return product


def _preconditioner(windows: Tensor) -> Tensor:
    """Return the inverse correlation matrices (signals, L, L) of the inputs."""
    matrix = torch.einsum("skl,skm->slm", windows.conj(), windows) / windows.shape[1]
    power = matrix.diagonal(dim1=-2, dim2=-1).real.mean(-1)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    inverse: Tensor = torch.linalg.inv(matrix + _LOADING * power[:, None, None] * eye)
    return inverse


def _squares(y: Tensor, v: Tensor, kind: Dispersion) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return the modulus squared, or the squares of both parts, along y - step v: coefficients of c0 + c1 step + c2 step^2."""
    if kind == "modulus" or not y.is_complex():
        return [(y.abs().square(), -2 * (y * v.conj()).real, v.abs().square())]
    return [(a.square(), -2 * a * b, b.square()) for a, b in ((y.real, v.real), (y.imag, v.imag))]


def _dispersion(y: Tensor, radius: float, kind: Dispersion) -> Tensor:
    parts = torch.stack([c[0] for c in _squares(y, y, kind)])
    total: Tensor = (parts - radius).square().mean(-1).sum(0)
    return total


def _error(y: Tensor, radius: float, kind: Dispersion) -> Tensor:
    """Return the derivative of the dispersion by conj(y), up to a factor."""
    if kind == "modulus" or not y.is_complex():
        return y * (y.abs().square() - radius)
    return torch.complex(y.real * (y.real.square() - radius), y.imag * (y.imag.square() - radius))


def _step(y: Tensor, v: Tensor, radius: float, kind: Dispersion) -> Tensor:
    """Return the steps (signals,) at which the dispersion of y - step v is least: a root of a cubic.

    Source:
        Zarzoso & Comon (2008).
    """
    quartic = y.new_zeros((5, len(y))).real
    for a, b, c in _squares(y, v, kind):
        a = a - radius
        products = (a * a, 2 * a * b, b * b + 2 * a * c, 2 * b * c, c * c)
        quartic = quartic + torch.stack([each.mean(-1) for each in products])
    c0, c1, c2, c3 = (quartic[k] * k for k in (1, 2, 3, 4))
    # The unit of the step makes the cubic's first and last coefficients equal: a companion matrix that is badly scaled loses
    # digits.
    flat = c3 <= 0
    unit = (c0.abs() / torch.where(flat, 1, c3)).clamp(min=1e-300) ** (1 / 3)
    leading = torch.where(flat, 1, c3 * unit**3)
    companion = quartic.new_zeros((len(y), 3, 3))
    companion[:, 1, 0] = companion[:, 2, 1] = 1
    companion[:, :, 2] = -torch.stack([c0, c1 * unit, c2 * unit**2], -1) / leading[:, None]
    roots = torch.linalg.eigvals(torch.where(flat[:, None, None], 0, companion))
    steps = roots.real * unit[:, None]
    values = sum(quartic[k][:, None] * steps**k for k in range(1, 5))
    best = steps.gather(1, torch.as_tensor(values).argmin(1, keepdim=True))[:, 0]
    return torch.where(flat, 0, best)
