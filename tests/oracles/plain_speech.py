"""Formulas of speech processing in plain loops."""

from __future__ import annotations

import cmath
import math

import numpy as np


def all_pole(a, excitation):
    """y[n] = excitation[n] - a[1] y[n - 1] - ..."""
    a, made = np.asarray(a, float), np.zeros(len(a) - 1 + len(excitation))
    for at, value in enumerate(excitation, len(a) - 1):
        made[at] = value - a[1:] @ made[at - len(a) + 1 : at][::-1]
    return made[len(a) - 1 :]


def mel(frequency):
    return 1127 * math.log(1 + frequency / 700)


def log_mel(x, rate, bands, lowest, highest, emphasis):
    """HTK's and Kaldi's log-mel bands, each frame, frequency and band in a loop of its own."""
    k, hop = round(0.025 * rate), round(0.01 * rate)
    grid = 1
    while grid < k:
        grid *= 2
    corners = [mel(lowest) + (mel(highest) - mel(lowest)) * b / (bands + 1) for b in range(bands + 2)]
    rows = []
    for begin in range(0, len(x) - k + 1, hop):
        frame = [x[begin + i] - emphasis * x[begin + max(i - 1, 0)] for i in range(k)]
        frame = [v * (0.54 - 0.46 * math.cos(2 * math.pi * i / (k - 1))) for i, v in enumerate(frame)]
        power = []
        for f in range(grid // 2 + 1):
            total = sum(v * cmath.exp(-2j * math.pi * f * i / grid) for i, v in enumerate(frame))
            power.append(abs(total) ** 2)
        row = []
        for b in range(bands):
            left, middle, right = corners[b : b + 3]
            energy = 0.0
            for f, value in enumerate(power):
                at = mel(f * rate / grid)
                if left < at <= middle:
                    energy += value * (at - left) / (middle - left)
                elif middle < at < right:
                    energy += value * (right - at) / (right - middle)
            row.append(math.log(max(energy, 1e-10)))
        rows.append(row)
    return np.array(rows)


def mfcc(bands, coefficients):
    """HTK's cosine transform and lifter of log-mel bands (T, bands), c[0] as in Kaldi."""
    count = bands.shape[1]
    rows = []
    for row in bands:
        c = []
        for i in range(coefficients):
            total = sum(m * math.cos(math.pi * i * (j + 0.5) / count) for j, m in enumerate(row))
            scale = math.sqrt((1 if i == 0 else 2) / count)
            c.append(scale * total * (1 + 11 * math.sin(math.pi * i / 22)))
        rows.append(c)
    return np.array(rows)
