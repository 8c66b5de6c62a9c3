"""Slow, plain ways to what `unconv.inverse` computes."""

from __future__ import annotations

from itertools import product

import numpy as np


def seen(x, index, boundary):
    """The sample of x at any index, inside or outside, under a boundary; None where it is not known."""
    place = []
    for i, n in zip(index, x.shape, strict=True):
        if 0 <= i < n:
            place.append(i)
        elif boundary == "circular":
            place.append(i % n)
        elif boundary == "reflect":
            place.append(-i if i < 0 else 2 * (n - 1) - i)
        else:
            return 0.0 if boundary == "zero" else None
    return x[tuple(place)]


def convolution(x, kernel, boundary, centre, stride):
    """y[i] = sum over j of kernel[j] x[i + centre - j], every `stride`-th of those that can be known."""
    known = {}
    for i in product(*map(range, x.shape)):
        samples = [(j, seen(x, np.add(i, centre) - j, boundary)) for j in np.ndindex(kernel.shape)]
        if all(sample is not None for _, sample in samples):
            known[i] = sum(kernel[j] * sample for j, sample in samples)
    lines = [sorted({i[axis] for i in known}) for axis in range(x.ndim)]
    y = np.array([known[i] for i in product(*lines)]).reshape([len(line) for line in lines])
    return y[tuple(slice(None, None, s) for s in stride)]


def matrix(forward, shape):
    """The operator as a dense matrix, from what it makes of each unit vector."""
    columns = []
    for place in np.ndindex(*shape):
        unit = np.zeros(shape)
        unit[place] = 1
        columns.append(np.asarray(forward(unit)).ravel())
    return np.stack(columns, 1)


def differences(shape, goes_round):
    """The first differences along every axis, as a dense matrix; without the last one where it does not go round."""
    parts = []
    for axis, n in enumerate(shape):
        along = matrix(lambda x, axis=axis: np.roll(x, -1, axis) - x, shape).reshape(*shape, -1)
        if not goes_round:
            along[(slice(None),) * axis + (n - 1,)] = 0
        parts.append(along.reshape(-1, along.shape[-1]))
    return np.concatenate(parts)


def wiener(observed, kernel, nsr):
    """conj(H) Y / (|H|^2 + nsr) on the whole grid, the kernel's middle at index 0."""
    around = np.zeros(observed.shape, dtype=np.result_type(kernel, observed))
    for j in np.ndindex(kernel.shape):
        around[tuple((a - k // 2) % n for a, k, n in zip(j, kernel.shape, observed.shape, strict=True))] += kernel[j]
    response = np.fft.fftn(around)
    estimate = np.fft.ifftn(response.conj() * np.fft.fftn(observed) / (abs(response) ** 2 + nsr))
    return estimate if np.iscomplexobj(around) else estimate.real


def cross_validation(a, penalty, y, strength):
    """Golub, Heath & Wahba's score by dense matrices."""
    influence = a @ np.linalg.solve(a.T @ a + strength * penalty, a.T)
    left = np.eye(len(y)) - influence
    return np.sum((left @ y) ** 2) / np.trace(left) ** 2
