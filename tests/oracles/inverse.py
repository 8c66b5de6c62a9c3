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


def quadratic(a, y, penalty):
    """The x least in |A x - y|^2 + x* penalty x, by dense matrices."""
    return np.linalg.solve(a.T @ a + penalty, a.T @ y)


def filter_matrix(response, shape):
    """The dense matrix that multiplies the spectrum of a real signal by a real `response` on the whole grid."""
    return matrix(lambda x: np.fft.ifftn(response * np.fft.fftn(x)).real, shape)


def square_frequency(shape):
    """|f|^2 in cycles per sample on the whole grid."""
    grids = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")
    return sum(grid**2 for grid in grids)


def cross_validation(a, penalty, y, strength):
    """Golub, Heath & Wahba's score by dense matrices."""
    influence = a @ np.linalg.solve(a.T @ a + strength * penalty, a.T)
    left = np.eye(len(y)) - influence
    return np.sum((left @ y) ** 2) / np.trace(left) ** 2


def block_basis():
    """(64, 8, 8): the cosines of a block, each by its formula."""
    basis = np.zeros((64, 8, 8))
    for v, u, row, column in np.ndindex(8, 8, 8, 8):
        size = (1 if v else 0.5**0.5) * (1 if u else 0.5**0.5) / 4
        basis[8 * v + u, row, column] = (
            size * np.cos(np.pi * (2 * row + 1) * v / 16) * np.cos(np.pi * (2 * column + 1) * u / 16)
        )
    return basis


def filtered_blocks(noisy, pilot, shrink, step, at):
    """Block by block: its cosine coefficients, what `shrink` makes of them and of the pilot's, and the weighted average."""
    (height, width), basis = noisy.shape, block_basis()
    total, weight = np.zeros(noisy.shape), np.zeros(noisy.shape)
    for top, left in product(range(at[0], at[0] + height, step), range(at[1], at[1] + width, step)):
        place = np.ix_([(top + i) % height for i in range(8)], [(left + i) % width for i in range(8)])
        coefficients = (basis * noisy[place]).sum((1, 2))
        told = None if pilot is None else (basis * pilot[place]).sum((1, 2))
        kept, share = shrink(coefficients, told)
        np.add.at(total, place, share * (kept[:, None, None] * basis).sum(0))
        np.add.at(weight, place, share)
    return total / weight


def distances(picture, top, left, window, every):
    """(2 window + 1, 2 window + 1): mean squared difference of the block at (top, left) and those around it."""
    height, width = picture.shape
    found = np.zeros((2 * window + 1,) * 2)
    for down, right in np.ndindex(*found.shape):
        for row, column in product(range(0, 8, every), range(0, 8, every)):
            there = picture[(top + down - window + row) % height, (left + right - window + column) % width]
            found[down, right] += (there - picture[(top + row) % height, (left + column) % width]) ** 2
    return found / len(range(0, 8, every)) ** 2


def total_variation(x):
    """The sum of the lengths of the gradients, going round."""
    return sum(
        np.hypot(x[(i + 1) % x.shape[0], j] - x[i, j], x[i, (j + 1) % x.shape[1]] - x[i, j]) for i, j in np.ndindex(x.shape)
    )
