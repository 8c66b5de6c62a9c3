"""Spikes, slow and dense: sparse Bayesian learning with whole covariance matrices, and every choice of spikes tried."""

from __future__ import annotations

from itertools import combinations

import numpy as np


def ricker(frequency: float, interval: float, count: int) -> np.ndarray:
    t = (np.arange(count) - count // 2) * interval
    a = (np.pi * frequency * t) ** 2
    return (1 - 2 * a) * np.exp(-a)


def convolution_matrix(kernel: np.ndarray, n: int, centre: int) -> np.ndarray:
    """y[i] = sum over a of kernel[i + centre - a] x[a], zero outside."""
    made = np.zeros((n, n))
    for i in range(n):
        for a in range(n):
            if 0 <= i + centre - a < len(kernel):
                made[i, a] = kernel[i + centre - a]
    return made


def synthetic(seed: int, snr: float, n: int = 500, rate: float = 0.05, wavelet: np.ndarray | None = None):
    """Bernoulli-Gaussian spikes behind a 25 Hz Ricker wavelet at 2 ms, and white noise: (truth, observed, noise)."""
    random = np.random.default_rng(seed)
    truth = (random.random(n) < rate) * random.standard_normal(n)
    clean = np.convolve(truth, ricker(25, 0.002, 81) if wavelet is None else wavelet, "same")
    noise = float(np.sqrt(np.mean(clean**2) / 10 ** (snr / 10)))
    return truth, clean + noise * random.standard_normal(n), noise


def sparse_bayesian_step(matrix: np.ndarray, y: np.ndarray, prior: np.ndarray, variance: float):
    """One look at the posterior: (mean, its standard deviations, log of the evidence up to a constant)."""
    covariance = variance * np.eye(len(y)) + matrix @ np.diag(prior) @ matrix.T
    inverse = np.linalg.inv(covariance)
    mean = prior * (matrix.T @ inverse @ y)
    spread = prior - prior**2 * np.einsum("ia,ij,ja->a", matrix, inverse, matrix)
    evidence = -(np.linalg.slogdet(covariance)[1] + y @ inverse @ y) / 2
    return mean, np.sqrt(np.maximum(spread, 0)), evidence


def sparse_bayesian(matrix: np.ndarray, y: np.ndarray, variance: float, steps: int = 150) -> tuple[np.ndarray, float]:
    """Tipping (2001) by expectation-maximisation, all of it dense: (mean, log of the evidence up to a constant)."""
    prior = np.full(matrix.shape[1], np.mean(y**2) / (matrix**2).sum(0).mean())
    for _ in range(steps):
        mean, spread, evidence = sparse_bayesian_step(matrix, y, prior, variance)
        prior = mean**2 + spread**2
    return mean, evidence


def most_probable_choice(matrix: np.ndarray, y: np.ndarray, power: float, rate: float, variance: float, most: int):
    """Try every choice of at most so many spikes; return the most probable one."""
    n = matrix.shape[1]
    best, chosen = -np.inf, ()
    for count in range(most + 1):
        for some in combinations(range(n), count):
            prior = np.zeros(n)
            prior[list(some)] = power
            evidence = sparse_bayesian_step(matrix, y, prior, variance)[2]
            told = evidence + count * np.log(rate) + (n - count) * np.log(1 - rate)
            if told > best:
                best, chosen = told, some
    return chosen, best
