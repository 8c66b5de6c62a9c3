"""Spikes behind a wavelet: how near the truth each method comes, and how long it takes, beside PyLops and the dense form.

    python benchmarks/spikes.py
    python benchmarks/spikes.py --only quality,speed
    python benchmarks/spikes.py --file 4

Needs PyLops (`pip install pylops`) for the comparisons; without it only unconv's own numbers are printed. Everything is timed
in one run, by turns, on one thread.

The synthetic: 500 samples of 2 ms, a spike at a sample with probability .05, its amplitude Gaussian, a Ricker wavelet of
25 Hz (81 samples), white noise. Of a trace are told: the correlation of estimate and truth; Q = 10 log10 of the truth's energy
over that of the error; and F1 of spikes above a tenth of the largest true one, matched one to one within a sample.

`--file` makes a SEG-Y file of so many GB, and tells the command's time and its largest resident memory.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unconv.inverse.fields import seismic

SNRS = (30, 20, 10)
SEEDS, OTHERS = range(12), range(1000, 1100)
STRENGTHS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)  # times 2 noise |wavelet|
ITERATIONS, FEWER = 500, 100  # of FISTA, on the synthetic and on a section
STEPS = 150  # of expectation-maximisation in the dense form
_MISFIT = 0.1  # of the traces: how far an estimated wavelet may be off
_LOUD = 0.1  # of the largest true spike: smaller ones do not count for F1


def ricker(frequency: float, interval: float, count: int) -> np.ndarray:
    a = (np.pi * frequency * (np.arange(count) - count // 2) * interval) ** 2
    return (1 - 2 * a) * np.exp(-a)


WAVELET = ricker(25, 0.002, 81)


def synthetic(seed: int, snr: float, n: int = 500, wavelet: np.ndarray = WAVELET) -> tuple[np.ndarray, np.ndarray, float]:
    """Return (truth, observed, the noise's standard deviation)."""
    draw = np.random.default_rng(seed)
    truth = (draw.random(n) < 0.05) * draw.standard_normal(n)
    clean = np.convolve(truth, wavelet, "same")
    noise = float(np.sqrt(np.mean(clean**2) / 10 ** (snr / 10)))
    return truth, clean + noise * draw.standard_normal(n), noise


def many(seeds: Any, snr: float, *how: Any) -> tuple[np.ndarray, ...]:
    """Return truths and observations (count, n), and the noises (count,)."""
    truth, observed, noise = zip(*(synthetic(seed, snr, *how) for seed in seeds), strict=True)
    return np.array(truth), np.array(observed), np.array(noise)


def quality(truth: np.ndarray, estimate: np.ndarray) -> float:
    return float(10 * np.log10((truth**2).sum() / ((truth - estimate) ** 2).sum()))


def f1(truth: np.ndarray, estimate: np.ndarray) -> float:
    """Return F1 of the spikes above a tenth of the largest true one, matched one to one within a sample, nearest first."""
    least = _LOUD * np.abs(truth).max()
    right, told = (np.flatnonzero(np.abs(x) > least) for x in (truth, estimate))
    free, matched = set(told.tolist()), 0
    for reach in ((0,), (-1, 1)):
        still = []
        for at in right.tolist():
            hit = next((at + shift for shift in reach if at + shift in free), None)
            matched += hit is not None
            free.discard(hit)
            still += [at] if hit is None else []
        right = np.array(still, int)
    of_truth = int((np.abs(truth) > least).sum())
    return 2 * matched / max(1, of_truth + len(told))


def scores(truth: np.ndarray, estimate: np.ndarray) -> str:
    pairs = list(zip(truth, estimate, strict=True))
    told = np.mean([quality(*pair) for pair in pairs]), np.mean([f1(*pair) for pair in pairs])
    return f"{_correlation(truth, estimate):.3f} {told[0]:5.1f} {told[1]:.2f}"


def timed(job: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    made = job()
    return made, time.perf_counter() - begun


def optional() -> Any:
    """Return PyLops, or None where it is not installed."""
    warnings.simplefilter("ignore")
    try:
        import pylops
    except ImportError:
        print("PyLops is not installed (pip install pylops): its rows are left out.")
        return None
    return pylops


class Fista:
    """PyLops' FISTA on traces of n samples, its step known beforehand."""

    def __init__(self, pylops: Any, wavelet: np.ndarray, dims: int | tuple[int, int]) -> None:
        self.peer, self.size = pylops, float(np.linalg.norm(wavelet))
        n = dims if isinstance(dims, int) else dims[1]
        self.operator = pylops.signalprocessing.Convolve1D(dims, h=wavelet, offset=len(wavelet) // 2, axis=-1)
        self.step = 1 / float(np.abs(np.fft.fft(wavelet, 8 * n)).max() ** 2)

    def __call__(self, y: np.ndarray, strength: float, iterations: int) -> np.ndarray:
        """Minimise |A x - y|^2 / 2 + strength |x|: PyLops' eps is twice the strength."""
        solver = self.peer.optimization.sparsity.fista
        found = solver(self.operator, y.ravel(), niter=iterations, eps=2 * strength, alpha=self.step, tol=0)[0]
        return np.asarray(found).reshape(y.shape)

    def best(self, truth: np.ndarray, y: np.ndarray, noise: float) -> np.ndarray:
        """Return what comes nearest the truth, of all strengths."""
        tried = [self(y, factor * 2 * noise * self.size, ITERATIONS) for factor in STRENGTHS]
        return max(tried, key=lambda estimate: quality(truth, estimate))


def on_quality(pylops: Any) -> None:
    rows: dict[str, list[str]] = {}
    spent: dict[str, list[float]] = {}
    for snr in SNRS:
        truth, observed, noise = many(SEEDS, snr)
        _ours(truth, observed, rows, spent)
        if pylops is not None:
            fista = Fista(pylops, WAVELET, observed.shape[1])
            both = [timed(lambda: fista.best(*each)) for each in zip(truth, observed, noise, strict=True)]  # noqa: B023
            rows.setdefault("PyLops FISTA, best strength", []).append(scores(truth, np.array([x for x, _ in both])))
            one = 1e3 * statistics.median(s for _, s in both) / len(STRENGTHS)
            spent.setdefault("PyLops FISTA, best strength", []).append(one)
    print(f"\nsynthetic, {len(SEEDS)} seeds: correlation, Q in dB, F1 at {', '.join(map(str, SNRS))} dB; ms a trace")
    print("unconv estimates the noise; FISTA has the best of six strengths, by the true Q of each trace (ms of one strength)")
    _print(rows, spent)
    rows, spent = {}, {}
    for snr in SNRS:
        truth, observed, _ = many(OTHERS, snr)
        _ours(truth, observed, rows, spent)
    print(f"\nthe same with {len(OTHERS)} other seeds")
    _print(rows, spent)


def _ours(truth: np.ndarray, observed: np.ndarray, rows: dict[str, list[str]], spent: dict[str, list[float]]) -> None:
    """Add the scores and the milliseconds a trace of every method of ours."""
    for name in seismic.SPIKES:
        found, seconds = timed(lambda: seismic.sparse_spikes(observed, WAVELET, "estimate", name))  # noqa: B023
        rows.setdefault(f"unconv {name}", []).append(scores(truth, found.spikes))
        spent.setdefault(f"unconv {name}", []).append(1e3 * seconds / len(observed))


def _print(rows: dict[str, list[str]], spent: dict[str, list[float]]) -> None:
    for name, cells in rows.items():
        print(f"  {name:28s} " + "   ".join(cells) + f"   {statistics.median(spent[name]):6.1f}")


def dense_matrix(wavelet: np.ndarray, n: int) -> np.ndarray:
    return np.array([np.convolve(spike, wavelet, "same") for spike in np.eye(n)]).T


def dense_numpy(matrix: np.ndarray, y: np.ndarray, variance: float) -> np.ndarray:
    """Tipping (2001) by expectation-maximisation, with an explicit inverse."""
    prior = np.full(matrix.shape[1], np.mean(y**2) / (matrix**2).sum(0).mean())
    for _ in range(STEPS):
        scaled = prior[:, None] * matrix.T
        inverse = np.linalg.inv(variance * np.eye(len(y)) + matrix @ scaled)
        mean = scaled @ (inverse @ y)
        prior = mean**2 + prior - ((scaled @ inverse) * scaled).sum(1)
    return mean


def dense_torch(matrix: np.ndarray, observed: np.ndarray, variance: float) -> np.ndarray:
    """The same by Cholesky factors, float64."""
    a, y = torch.from_numpy(matrix), torch.from_numpy(observed)
    prior = torch.full((a.shape[1],), float(y.square().mean() / a.square().sum(0).mean()), dtype=torch.double)
    eye = torch.eye(len(y), dtype=torch.double)
    for _ in range(STEPS):
        scaled = prior[:, None] * a.T
        factor = torch.linalg.cholesky(variance * eye + a @ scaled)
        half = torch.linalg.solve_triangular(factor, scaled.T, upper=False)
        mean = half.T @ torch.linalg.solve_triangular(factor, y[:, None], upper=False)[:, 0]
        prior = mean.square() + prior - half.square().sum(0)
    return mean.numpy()


def on_speed(traces: int, rounds: int) -> None:
    truth, observed, noise = many(range(traces), 20)
    matrix = dense_matrix(WAVELET, observed.shape[1])
    taken: dict[str, list[float]] = {}
    near: dict[str, list[float]] = {}
    for k in range(rounds):
        for name, solve in (("dense, torch Cholesky", dense_torch), ("dense, numpy inverse", dense_numpy)):
            found, seconds = timed(lambda: solve(matrix, observed[k], noise[k] ** 2))  # noqa: B023
            taken.setdefault(name, []).append(1e3 * seconds)
            near.setdefault(name, []).append(quality(truth[k], found))
        for name in ("sbl-only", "sbl"):
            found, seconds = timed(lambda: seismic.sparse_spikes(observed, WAVELET, method=name))  # noqa: B023
            taken.setdefault(name, []).append(1e3 * seconds / traces)
            near.setdefault(name, []).append(quality(truth[k], found.spikes[k]))
    print(f"\n{traces} traces of {observed.shape[1]} samples, 20 dB: ms a trace, median of {rounds}; dense form's time over it")
    print(f"(dense: {STEPS} steps of expectation-maximisation, float64, noise known, of {rounds} traces, whose Q is told)")
    fastest = min(statistics.median(taken[name]) for name in taken if name.startswith("dense"))
    for name, times in taken.items():
        one = statistics.median(times)
        print(f"  {name:24s} {one:9.1f} {fastest / one:8.1f}x   Q {np.mean(near[name]):5.1f}")


def on_section(pylops: Any) -> None:
    wavelet = ricker(30, 0.004, 41)
    truth, observed, noise = many(range(601), 20, 1501, wavelet)
    observed = observed.astype(np.float32)
    print(f"\na section of {observed.shape[0]} traces of {observed.shape[1]} samples, 30 Hz at 4 ms, 20 dB; scores of ten")
    some = slice(0, 10)
    for name in ("sbl", "sbl-only", "l1"):
        found, seconds = timed(lambda: seismic.sparse_spikes(observed, wavelet, method=name))  # noqa: B023
        print(f"  unconv {name:34s} {seconds:7.1f} s   {scores(truth[some], found.spikes[some])}")
    if pylops is None:
        return
    strength = 2 * float(np.median(noise)) * float(np.linalg.norm(wavelet))
    single, together = Fista(pylops, wavelet, 1501), Fista(pylops, wavelet, (10, 1501))
    y = observed[some].astype(float)
    jobs: dict[str, Callable[[], np.ndarray]] = {
        "trace by trace": lambda: np.array([single(each, strength, FEWER) for each in y]),
        "together": lambda: together(y, strength, FEWER),
    }
    for name, job in jobs.items():
        estimate, seconds = timed(job)
        words = f"PyLops FISTA, {FEWER} its, {name}"
        print(f"  {words:41s} {60.1 * seconds:7.1f} s   {scores(truth[some], estimate)}   (60.1 times the time of 10)")


def on_wavelets(count: int = 60) -> None:
    print(
        f"\nwavelet estimated from {count} traces (81 samples, mixed phase), its sign set: correlation of spikes with the truth"
    )
    print(f"at {', '.join(map(str, SNRS))} dB; correlation of the wavelet, and its rotation in degrees")
    rows: dict[str, list[str]] = {}
    for snr in SNRS:
        truth, observed, _ = many(range(2000, 2000 + count), snr)
        for rounds in (None, 0, 3, 6):
            name, told = "known", ""
            wavelet, centre = WAVELET, 40
            if rounds is not None:
                made = seismic.estimate_wavelet(observed, 81, "mixed", rounds=rounds)
                likeness = float(np.corrcoef(made.samples, WAVELET)[0, 1])
                wavelet, centre, name = made.samples * np.sign(likeness), made.centre, f"{rounds} rounds"
                told = f"({abs(likeness):.3f}, {made.rotation:+.0f})"
            found = seismic.sparse_spikes(observed, wavelet, centre=centre)
            rows.setdefault(name, []).append(f"{_correlation(truth, found.spikes):.3f} {told:14s}")
            if rounds is not None:
                # What the wavelet gets wrong is no white noise, and is taken for spikes unless the noise is told to be larger.
                more = float(np.hypot(np.median(found.noise), _MISFIT * np.sqrt(np.mean(observed**2))))
                raised = seismic.sparse_spikes(observed, wavelet, more, centre=centre)
                rows.setdefault(f"{name}, raised", []).append(f"{_correlation(truth, raised.spikes):.3f} {'':14s}")
    for name, cells in rows.items():
        print(f"  {name:17s} " + "  ".join(cells))
    print(f'("raised": the noise that was estimated, and {_MISFIT:.0%} of the traces\' root mean square, in quadrature)')


def _correlation(truth: np.ndarray, estimate: np.ndarray) -> float:
    return float(np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(truth, estimate, strict=True)]))


def write_segy(path: Path, gigabytes: float, n: int = 1500, interval: int = 4000) -> int:
    """Write a SEG-Y file, revision 1, of IEEE floats, the same 1000 traces again and again; return their number."""
    wavelet = ricker(30, interval * 1e-6, 41)
    traces = many(range(1000), 20, n, wavelet)[1].astype(">f4")
    record = np.dtype([("header", "V240"), ("samples", ">f4", (n,))])
    times = max(1, round(gigabytes * 1e9 / (record.itemsize * len(traces))))
    with path.open("wb") as file:
        file.write((b"\xc3" + b"\x40" * 79) * 40)  # EBCDIC: a C and blanks
        header = bytearray(400)
        for place, value in ((3216, interval), (3220, n), (3224, 5), (3300, 1), (3500, 256), (3502, 1)):
            header[place - 3200 : place - 3198] = value.to_bytes(2, "big")
        header[300:302] = b"\x01\x00"  # revision 1.0
        file.write(header)
        for turn in range(times):
            block = np.zeros(len(traces), record)
            raw = block.view(np.uint8).reshape(len(traces), -1)
            numbers = np.arange(turn * len(traces) + 1, (turn + 1) * len(traces) + 1, dtype=">i4")
            raw[:, 0:4] = raw[:, 4:8] = numbers.view(np.uint8).reshape(-1, 4)
            raw[:, 28:30] = np.frombuffer(b"\x00\x01", np.uint8)  # a seismic trace
            raw[:, 114:116] = np.frombuffer(n.to_bytes(2, "big"), np.uint8)
            raw[:, 116:118] = np.frombuffer(interval.to_bytes(2, "big"), np.uint8)
            block["samples"] = traces
            file.write(block.tobytes())
    return times * len(traces)


def on_file(gigabytes: float, method: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, target, wave = (Path(folder) / name for name in ("big.sgy", "spikes.sgy", "wave.npy"))
        count = write_segy(source, gigabytes)
        np.save(wave, ricker(30, 0.004, 41))
        options = ["--wavelet", wave] if method in seismic.SPIKES else ["--length", 40]
        command = [sys.executable, "-m", "unconv", "spikes", source, target, "--method", method, *options]
        _, seconds = timed(lambda: subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL))
        # In kilobytes on Linux, in bytes on macOS.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1e6 if sys.platform != "darwin" else 1e9)
        size = source.stat().st_size / 1e9
        print(f"\nunconv spikes on {size:.1f} GB, {count} traces: {seconds:.0f} s, {1e3 * seconds / count:.1f} ms a trace,")
        print(f"largest resident memory {peak:.2f} GB; {target.stat().st_size / 1e9:.1f} GB came out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="quality,speed,section,wavelet", help="which parts, of these four")
    parser.add_argument("--traces", type=int, default=600, help="in the batch that is timed")
    parser.add_argument("--rounds", type=int, default=3, help="of timing; so many traces are solved by the dense form")
    parser.add_argument(
        "--file", type=float, metavar="GB", help="run the command on a SEG-Y file of so many GB, and nothing else"
    )
    parser.add_argument("--method", default="spiking", help="of --file; sbl takes some 30 ms a trace")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.file is not None:
        on_file(arguments.file, arguments.method)
        return
    pylops = optional()
    parts: dict[str, Callable[[], None]] = {
        "quality": lambda: on_quality(pylops),
        "speed": lambda: on_speed(arguments.traces, arguments.rounds),
        "section": lambda: on_section(pylops),
        "wavelet": on_wavelets,
    }
    for name in arguments.only.split(","):
        parts[name]()


if __name__ == "__main__":
    main()
