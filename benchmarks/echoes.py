"""Two echoes closer together than the pulse is long: how often each method tells them apart, how near, and how long it takes.

    python benchmarks/echoes.py
    python benchmarks/echoes.py --trials 96 --whole

The pulse: a Gaussian one of 5 MHz, 60 % bandwidth at -6 dB, sampled at 100 MHz; its envelope is 29.4 samples wide at -6 dB. Two
echoes of amplitudes 1 and 0.8, the second upside down in every other trial, in a scan of 400 samples, anywhere between samples
(`--whole`: at whole samples, which favours methods on the grid). Success: exactly two echoes, each within
max(1, separation / 4) samples. The signal-to-noise ratio is that of the larger echo's peak to the noise's standard deviation;
in the second table that of the scan's mean power, over its 400 samples, to the noise's variance: some 10 dB less noise.

unconv's resolve_echoes is given the pulse, and nothing of the noise. Reweighted L1 is given the noise. Of both methods on the
grid, spikes of one sign on neighbouring samples are taken for one, at their centre, and those below a tenth of the largest
left out. Everything runs in one process, by turns, on one thread.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch

from unconv.inverse import Convolution, last, reweighted_l1
from unconv.inverse.fields import seismic, ultrasonic

RATE, FREQUENCY, BANDWIDTH = 100e6, 5e6, 0.6
SAMPLES = 400
SEPARATIONS = (24, 16, 12, 8, 6, 4, 3)
SNRS = (40, 30, 20)
WIDTH = 29.4  # samples, of the envelope at -6 dB
_LEAST = 0.1  # of the largest spike
_FAR = 12  # samples: separations from which delays are compared with the bound
# Half the -6 dB bandwidth is this many deviations of the Gaussian spectrum.
_SPREAD = np.sqrt(2 * np.log(2)) / (np.pi * BANDWIDTH * FREQUENCY)  # seconds, of the envelope


def pulse(t: np.ndarray) -> np.ndarray:
    """Return the pulse at times in samples."""
    seconds = t / RATE
    return np.exp(-((seconds / _SPREAD) ** 2) / 2) * np.cos(2 * np.pi * FREQUENCY * seconds)


HALF = round(5 * _SPREAD * RATE)
PULSE = pulse(np.arange(-HALF, HALF + 1.0))


def scans(separation: float, snr: float, trials: int, whole: bool, power: bool) -> tuple[np.ndarray, ...]:
    """Return scans (trials, n), delays (trials, 2) in samples, amplitudes (trials, 2) and noises (trials,)."""
    draw = np.random.default_rng(int(1000 * separation + snr))
    first = 150 + 50 * draw.random(trials)
    delays = np.stack([first, first + separation], 1)
    delays = np.round(delays) if whole else delays
    amplitudes = np.array([[1.0, 0.8 * (-1) ** k] for k in range(trials)])
    clean = sum_of(delays, amplitudes)
    size = (clean**2).mean(1) if power else np.ones(trials)
    noise = np.sqrt(size / 10 ** (snr / 10))
    return clean + noise[:, None] * draw.standard_normal(clean.shape), delays, amplitudes, noise


def sum_of(delays: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    return (amplitudes[..., None] * pulse(np.arange(SAMPLES) - delays[..., None])).sum(1)


def bounds(delays: np.ndarray, amplitudes: np.ndarray, noise: float) -> np.ndarray:
    """Return the Cramér-Rao bounds of two delays, in samples."""
    t = np.arange(SAMPLES) - delays[:, None]
    slopes = -amplitudes[:, None] * (pulse(t + 1e-4) - pulse(t - 1e-4)) / 2e-4
    jacobian = np.concatenate([slopes, pulse(t)])
    inverse: np.ndarray = np.linalg.inv(jacobian @ jacobian.T)
    return noise * np.sqrt(inverse.diagonal()[:2])


def merged(spikes: np.ndarray) -> np.ndarray:
    """Return the places of spikes, neighbours of one sign taken for one."""
    groups: list[list[int]] = []
    for at in np.flatnonzero(spikes).tolist():
        if groups and at == groups[-1][-1] + 1 and spikes[at] * spikes[groups[-1][-1]] > 0:
            groups[-1].append(at)
        else:
            groups.append([at])
    heights = np.array([spikes[group].sum() for group in groups])
    centres = np.array([np.average(group, weights=np.abs(spikes[group])) for group in groups])
    loud = np.abs(heights) > _LEAST * np.abs(heights).max(initial=0)
    return centres[loud]


def resolved(y: np.ndarray, _noise: np.ndarray) -> list[np.ndarray]:
    delays = np.asarray(ultrasonic.resolve_echoes(y, PULSE, RATE).delays)
    return [row[np.isfinite(row)] * RATE for row in delays]


def reweighted(y: np.ndarray, noise: np.ndarray) -> list[np.ndarray]:
    operator = Convolution(torch.from_numpy(PULSE), (SAMPLES,), "zero", centre=(HALF,))
    found = last(reweighted_l1(operator, torch.from_numpy(y), noise=torch.from_numpy(noise))).estimate
    return [merged(row) for row in found.numpy()]


def bayesian(y: np.ndarray, _noise: np.ndarray) -> list[np.ndarray]:
    return [merged(row) for row in seismic.sparse_spikes(y, PULSE, method="sbl-only").spikes]


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], list[np.ndarray]]] = {
    "unconv resolve_echoes": resolved,
    "unconv sbl-only, merged": bayesian,
    "reweighted L1, merged": reweighted,
}


def is_right(found: np.ndarray, delays: np.ndarray, separation: float) -> bool:
    return len(found) == 2 and bool((np.abs(np.sort(found) - delays) <= max(1, separation / 4)).all())


def table(trials: int, whole: bool, power: bool) -> None:
    meant = "the scan's mean power over the noise's variance" if power else "the larger echo's peak over the noise's deviation"
    print(f"\nshare of {trials} trials with exactly two echoes, in place; signal-to-noise ratio: {meant}")
    heads = "".join(f"{separation:4d} ({separation / WIDTH:.2f})" for separation in SEPARATIONS)
    print(f"  {'samples (of the -6 dB width)':32s}{heads}   ms a scan")
    errors: list[float] = []
    for snr in SNRS:
        shares: dict[str, list[float]] = {name: [] for name in METHODS}
        spent = dict.fromkeys(METHODS, 0.0)
        for separation in SEPARATIONS:
            y, delays, amplitudes, noise = scans(separation, snr, trials, whole, power)
            for name, method in METHODS.items():
                begun = time.perf_counter()
                found = method(y, noise)
                spent[name] += time.perf_counter() - begun
                right = [is_right(*pair, separation) for pair in zip(found, delays, strict=True)]
                shares[name].append(float(np.mean(right)))
                if method is resolved and snr == max(SNRS) and separation >= _FAR:
                    for k in np.flatnonzero(right):
                        errors += ((found[k] - delays[k]) / bounds(delays[k], amplitudes[k], noise[k])).tolist()
        for name, row in shares.items():
            cells = "".join(f"{share:11.2f}" for share in row)
            print(f"  {snr} dB  {name:25s}{cells}   {1e3 * spent[name] / trials / len(SEPARATIONS):9.1f}")
    ratio = float(np.sqrt(np.mean(np.square(errors))))
    print(f"  delays of resolve_echoes at {max(SNRS)} dB, {_FAR} samples and more: RMSE {ratio:.2f} of the Cramér-Rao bound")


def alone(trials: int, k: int = 16) -> None:
    """Print what a scan takes that comes alone, and in a batch."""
    y = scans(8, 30, trials, False, False)[0]
    times = []
    for each in y[:k]:
        begun = time.perf_counter()
        ultrasonic.resolve_echoes(each, PULSE, RATE)
        times.append(time.perf_counter() - begun)
    print(f"\nresolve_echoes, a scan that comes alone: {1e3 * float(np.median(times)):.1f} ms, median of {len(times)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24, help="of each separation and noise")
    parser.add_argument("--whole", action="store_true", help="echoes stand at whole samples")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for power in (False, True):
        table(arguments.trials, arguments.whole, power)
    alone(arguments.trials)


if __name__ == "__main__":
    main()
