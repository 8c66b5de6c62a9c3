"""Weighted prediction error in plain loops, frame by frame and tap by tap, in complex128."""

from __future__ import annotations

import numpy as np


def past(y: np.ndarray, t: int, taps: int, delay: int) -> np.ndarray:
    """The channels of the frames t - delay, t - delay - 1, ... of y (D, T), `taps` of them, one below the other."""
    zero = np.zeros(len(y), complex)
    return np.concatenate([y[:, t - delay - k] if t >= delay + k else zero for k in range(taps)])


def wpe(spectra: np.ndarray, taps: int, delay: int, iterations: int, floor: float = 1e-10, context: int = 0) -> np.ndarray:
    """Yoshioka & Nakatani (2012), algorithm 1 with one power for all channels: (F, D, T)."""
    result = spectra.copy()
    for f, y in enumerate(spectra):
        channels, frames = y.shape
        x = y.copy()
        for _ in range(iterations):
            power = [np.mean(np.abs(x[:, t]) ** 2) for t in range(frames)]
            power = [np.mean(power[max(0, t - context) : t + context + 1]) for t in range(frames)]
            power = [max(p, floor * max(power)) for p in power]
            covariance = np.zeros((taps * channels, taps * channels), complex)
            correlation = np.zeros((taps * channels, channels), complex)
            for t in range(frames):
                z = past(y, t, taps, delay)
                covariance += np.outer(z, z.conj()) / power[t]
                correlation += np.outer(z, y[:, t].conj()) / power[t]
            filters = np.linalg.solve(covariance, correlation)
            for t in range(frames):
                x[:, t] = y[:, t] - filters.conj().T @ past(y, t, taps, delay)
        result[f] = x
    return result


def online_wpe(spectra: np.ndarray, taps: int, delay: int, forgetting: float, prior: float) -> np.ndarray:
    """Least squares of all frames so far, solved anew after each: what the recursion must come to. (F, D, T)."""
    result = spectra.copy()
    for f, y in enumerate(spectra):
        channels, frames = y.shape
        covariance = prior * np.eye(taps * channels, dtype=complex)
        correlation = np.zeros((taps * channels, channels), complex)
        for t in range(frames):
            z = past(y, t, taps, delay)
            result[f, :, t] = y[:, t] - np.linalg.solve(covariance, correlation).conj().T @ z
            near = [np.mean(np.abs(y[:, s]) ** 2) if s >= 0 else 0.0 for s in range(t - taps - delay, t + 1)]
            if np.abs(z).max() > 0:
                covariance = forgetting * covariance + np.outer(z, z.conj()) / np.mean(near)
                correlation = forgetting * correlation + np.outer(z, y[:, t].conj()) / np.mean(near)
    return result
