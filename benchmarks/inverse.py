"""How good and how fast is image restoration, beside what was published and beside scikit-image?

    python benchmarks/inverse.py --part scenarios --pictures FOLDER [--names cameraman house] [--json FILE]
    python benchmarks/inverse.py --part boundary --pictures FOLDER [--names cameraman house] [--json FILE]
    python benchmarks/inverse.py --part speed [--rounds 9] [--keep-memory] [--json FILE]

"scenarios": the six classic deblurring scenarios, circular blur, ISNR in dB over all pixels, nothing clipped. "boundary":
of a picture blurred with 9 × 9 equal weights only what no boundary had a part in is observed. Both use the defaults
of `deblur`, the same for all pictures. "speed": float32; all in this process and in turns; each time is the median over
the rounds, each ratio the median of the rounds' ratios. scikit-image is an optional peer: pip install scikit-image.
All parts take --device cuda, for ours; scikit-image stays on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from unconv.inverse.fields.image.restore import deblur
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.operators.spectral import Grid
from unconv.inverse.solvers.admm import admm_tv
from unconv.inverse.solvers.richardson_lucy import richardson_lucy
from unconv.inverse.solvers.wiener import wiener

try:
    from skimage import restoration
except ModuleNotFoundError:
    restoration = None

# glibc gives large blocks back to the kernel and takes them again, page by page; see ops.py.
KEPT = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**34)}

Array = np.ndarray[Any, Any]

# ISNR in dB that others reached. A picture is known by the PSNR of what is observed in the six scenarios, as published.
KNOWN = {
    "Cameraman": (22.23, 22.16, 20.76, 24.62, 23.36, 29.82),
    "House": (25.61, 25.46, 24.11, 28.06, 27.81, 29.98),
}
REFERENCES = {
    "an earlier prototype of the DCT frame": {
        "Cameraman": (7.76, 5.97, 8.99, 3.18, 3.72, 4.23),
        "House": (9.22, 7.70, 12.18, 5.05, 4.97, 5.89),
    },
    "BM3DDEB, run again": {
        "Cameraman": (8.18, 6.41, 8.29, 3.37, 3.78, 4.68),
        "House": (9.49, 8.26, 10.51, 5.54, 5.11, 7.30),
    },
    "IDD-BM3D, as published, from memory": {
        "Cameraman": (8.85, 7.12, 10.45, 3.98, 4.31, 4.89),
        "House": (9.95, 8.55, 12.89, 5.79, 5.74, 7.13),
    },
}


def normalised(kernel: Array) -> Array:
    return kernel / kernel.sum()


def rational() -> Array:
    i = np.arange(-7.0, 8)
    return normalised(1 / (1 + i[:, None] ** 2 + i**2))


def gaussian(sigma: float, size: int = 25) -> Array:
    line = np.exp(-0.5 * (np.arange(size) - size // 2) ** 2 / sigma**2)
    return normalised(np.outer(line, line))


def scenarios() -> list[tuple[Array, float | None]]:
    """(kernel, standard deviation of the noise on [0, 1]); None: 40 dB below the blurred picture's."""
    binomial = np.outer(*[[1.0, 4, 6, 4, 1]] * 2)
    return [
        (rational(), 2**0.5 / 255),
        (rational(), 8**0.5 / 255),
        (normalised(np.ones((9, 9))), None),
        (normalised(binomial), 7 / 255),
        (gaussian(1.6), 2 / 255),
        (gaussian(0.4), 8 / 255),
    ]


def observe(truth: Array, kernel: Array, sigma: float | None) -> tuple[Array, float]:
    """What is seen of the truth, going round, and the standard deviation of its noise; always the same noise."""
    whole = np.zeros(truth.shape)
    whole[tuple(slice(k) for k in kernel.shape)] = kernel
    whole = np.roll(whole, [-(k // 2) for k in kernel.shape], (0, 1))
    blurred = np.fft.irfft2(np.fft.rfft2(truth) * np.fft.rfft2(whole), truth.shape)
    sigma = blurred.std() / 100 if sigma is None else sigma
    return blurred + sigma * np.random.RandomState(0).randn(*truth.shape), sigma


def gained(truth: Array, observed: Array, estimate: Array) -> float:
    return float(10 * np.log10(np.square(truth - observed).sum() / np.square(truth - estimate).sum()))


def psnr(truth: Array, observed: Array) -> float:
    return float(-10 * np.log10(np.square(truth - observed).mean()))


def found(folders: Iterable[Path], names: list[str]) -> dict[str, Array]:
    """Grey, on [0, 1]."""
    files: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            print(f"There is no folder {folder.name!r}; skipped.")
            continue
        files |= {file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() in (".png", ".tif", ".tiff")}
    chosen = {stem: file for stem, file in files.items() if not names or any(n.lower() == stem.lower() for n in names)}
    for name in names:
        if not any(name.lower() == stem.lower() for stem in chosen):
            print(f"There is no picture {name!r}; skipped.")
    return {stem: np.asarray(Image.open(file).convert("L"), dtype=np.float64) / 255 for stem, file in chosen.items()}


def ours(observed: Array, kernel: Array, noise: str | float, boundary: str, method: str = "auto", device: str = "cpu") -> Array:
    seen = torch.from_numpy(observed.astype(np.float32)).to(device)
    return deblur(seen, torch.from_numpy(kernel), noise, boundary, method).picture.double().cpu().numpy()


def best(score: Callable[[float], float]) -> float:
    """The balance of the highest score: a search by the truth, which no user has."""
    trials = {power: score(10.0**power) for power in np.arange(-6, 3.5, 0.5)}
    for step in (0.25, 0.12, 0.06):
        top = max(trials, key=lambda power: trials[power])
        trials |= {power: score(10.0**power) for power in (top - step, top + step)}
    return max(trials.values())


def peers(observed: Array, kernel: Array, score: Callable[[Array], float]) -> dict[str, Callable[[], float]]:
    if restoration is None:
        return {}
    bayes = {"rng": 0}
    return {
        "scikit-image wiener, best balance by the truth": lambda: best(
            lambda balance: score(restoration.wiener(observed, kernel, balance, clip=False))
        ),
        "scikit-image unsupervised_wiener": lambda: score(
            restoration.unsupervised_wiener(observed, kernel, clip=False, **bayes)[0]
        ),
    }


def table(head: list[str], rows: dict[str, list[float]], digits: int = 2) -> None:
    print("\n| | " + " | ".join(head) + " |\n|" + "---|" * (len(head) + 1))
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{value:.{digits}f}" for value in values) + " |", flush=True)


def in_scenarios(pictures: dict[str, Array], only: list[str], device: str) -> Any:
    """Of each picture, of each method (or of those in `only`), the ISNR in the six scenarios."""
    everything: dict[str, dict[str, list[float]]] = {}
    twelve: dict[str, list[float]] = {}
    for name, truth in pictures.items():
        rows: dict[str, list[float]] = {}
        inputs, began = [], time.perf_counter()
        for kernel, given in scenarios():
            observed, sigma = observe(truth, kernel, given)
            inputs.append(psnr(truth, observed))

            def score(estimate: Array, truth: Array = truth, observed: Array = observed) -> float:
                return gained(truth, observed, estimate)

            runs: dict[str, tuple[str | float, str]] = {
                "default": (sigma, "auto"),
                "default, noise estimated": ("estimate", "auto"),
                "dct": (sigma, "dct"),
                "tv": (sigma, "tv"),
                "wiener": (sigma, "wiener"),
            }
            for method, (noise, chosen) in runs.items():
                if only and method not in only:
                    continue
                rows.setdefault(method, []).append(score(ours(observed, kernel, noise, "circular", chosen, device)))
            for method, run in peers(observed, kernel, score).items() if not only else ():
                rows.setdefault(method, []).append(run())
        known = next((k for k, v in KNOWN.items() if np.abs(np.subtract(v, inputs)).max() < 0.1), None)
        if known:
            for method, values in rows.items():
                twelve.setdefault(method, []).extend(values)
            for method, row in REFERENCES.items():
                rows[method] = list(row[known])
                twelve.setdefault(method, []).extend(row[known])
        shown = {"PSNR of what is observed": inputs, **rows}
        print(f"\n{known or name} ({' × '.join(map(str, truth.shape))}), {time.perf_counter() - began:.0f} s")
        table([*"123456", "mean"], {method: [*values, statistics.fmean(values)] for method, values in shown.items()})
        everything[name] = shown
    if twelve and all(len(values) == 12 for values in twelve.values()):
        print("\nThe twelve cells of Cameraman and House")
        frame = REFERENCES["an earlier prototype of the DCT frame"]
        reference = [cell for name in pictures for k, row in frame.items() if _is(pictures[name], k) for cell in row]
        least = {method: min(np.subtract(values, reference)) for method, values in twelve.items()}
        table(
            ["mean", "over the prototype", "its worst cell"],
            {
                method: [statistics.fmean(values), statistics.fmean(values) - statistics.fmean(reference), least[method]]
                for method, values in twelve.items()
            },
        )
    return everything


def _is(truth: Array, known: str) -> bool:
    inputs = [psnr(truth, observe(truth, kernel, given)[0]) for kernel, given in scenarios()]
    return bool(np.abs(np.subtract(KNOWN[known], inputs)).max() < 0.1)


def at_boundary(pictures: dict[str, Array], device: str, margin: int = 20) -> Any:
    kernel = normalised(np.ones((9, 9)))
    everything: dict[str, dict[str, list[float]]] = {}
    inner = (slice(margin, -margin),) * 2
    for name, whole in pictures.items():
        observed, sigma = observe(whole, kernel, None)
        cut = tuple(slice(k // 2, n - k // 2) for k, n in zip(kernel.shape, whole.shape, strict=True))
        truth, observed = whole[cut], np.ascontiguousarray(observed[cut])

        def score(estimate: Array, truth: Array = truth, observed: Array = observed) -> list[float]:
            return [gained(truth, observed, estimate), gained(truth[inner], observed[inner], estimate[inner])]

        rows: dict[str, list[float]] = {}
        for method in ("auto", "dct", "tv", "wiener", "richardson-lucy"):
            rows["default" if method == "auto" else method] = score(ours(observed, kernel, sigma, "unknown", method, device))
        rows["default, noise estimated"] = score(ours(observed, kernel, "estimate", "unknown", device=device))
        rows["tv, taken for circular"] = score(ours(observed, kernel, sigma, "circular", "tv", device))
        if restoration:
            every = [score(restoration.wiener(observed, kernel, 10.0**p, clip=False)) for p in np.arange(-4, 4.1, 0.25)]
            rows["scikit-image wiener, best balance by the truth"] = np.max(every, 0).tolist()
            rows["scikit-image unsupervised_wiener"] = score(
                restoration.unsupervised_wiener(observed, kernel, clip=False, rng=0)[0]
            )
            steps = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
            every = [score(restoration.richardson_lucy(observed, kernel, step, clip=False)) for step in steps]
            rows["scikit-image richardson_lucy, best of 1 to 128 steps by the truth"] = np.max(every, 0).tolist()
        print(f"\n{name}, {' × '.join(map(str, truth.shape))} observed")
        table(["all pixels", f"without {margin} at the edges"], rows)
        everything[name] = rows
    return everything


Runs = dict[str, Callable[[], object]]


def consumed(iterates: Iterable[Any]) -> None:
    for _ in iterates:
        pass


def pair_of(x: torch.Tensor) -> Callable[[], object]:
    return lambda: torch.fft.irfft2(torch.fft.rfft2(x), x.shape)


def wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def operations(side: int, device: str) -> tuple[Runs, dict[str, tuple[str, float]]]:
    """What is timed, and of what has such a floor the name of an FFT pair's time and how many of them."""
    kernel = gaussian(1.6)
    truth = np.random.RandomState(0).rand(side, side) * 0.1 + 0.3
    truth[side // 4 : side // 2, side // 4 :] += 0.5
    seen, sigma = observe(truth, kernel, 2 / 255)
    data = np.clip(seen, 0, None).astype(np.float32)
    y, taps = torch.from_numpy(data).to(device), torch.from_numpy(kernel.astype(np.float32))
    grid = tuple(fast_length(n + k - 1) for n, k in zip(y.shape, taps.shape, strict=True))
    large = torch.rand(grid).to(device)

    def blur(boundary: str) -> Convolution:
        if boundary != "unknown":
            return Convolution(taps, y.shape, boundary, method="fft")
        return Convolution(taps, tuple(n + k - 1 for n, k in zip(y.shape, taps.shape, strict=True)), boundary)

    ready = blur("circular")
    ready.spectrum(y)
    signal = Grid(ready, y).square_frequency().clamp(min=1e-6).reciprocal()
    runs: Runs = {
        "FFT pair": pair_of(y),
        "FFT pair of the unknown boundary's grid": pair_of(large),
        "wiener, nsr given, kernel's FFT kept": lambda: consumed(wiener(ready, y, nsr=1e-3)),
        "wiener, nsr given, kernel's FFT made": lambda: consumed(wiener(blur("circular"), y, nsr=1e-3)),
        "wiener, spectra given, kernel's FFT kept": lambda: consumed(wiener(ready, y, noise=sigma, signal=signal)),
        "wiener, nothing but noise given": lambda: consumed(wiener(ready, y, noise=sigma)),
    }
    floors = {name: ("FFT pair", 1.0) for name in runs if name.startswith("wiener")}
    for boundary in ("circular", "zero", "unknown"):
        name = f"richardson_lucy, 10 steps, {boundary}"
        runs[name] = lambda boundary=boundary: consumed(
            richardson_lucy(blur(boundary), y, steps=10, accelerate=False)  # type: ignore[arg-type]
        )
        floors[name] = ("FFT pair" if boundary == "circular" else "FFT pair of the unknown boundary's grid", 20.0)
    padded = Convolution(taps, grid, "unknown")
    inside = torch.nn.functional.pad(y, [0, grid[1] - 24 - side, 0, grid[0] - 24 - side])
    for name, (operator, observed) in {"circular": (ready, y), "unknown": (padded, inside)}.items():
        name = f"admm_tv, one step, {name}"
        endless = admm_tv(operator, observed, noise=sigma, steps=10**9, tolerance=0)
        runs[name] = lambda endless=endless: [next(endless) for _ in range(5)]
        floors[name] = ("FFT pair" if "circular" in name else "FFT pair of the unknown boundary's grid", 1.0)
    if restoration:
        runs["scikit-image wiener"] = lambda: restoration.wiener(data, kernel.astype(np.float32), 0.1, clip=False)
        runs["scikit-image richardson_lucy, 10 steps"] = lambda: restoration.richardson_lucy(
            data, kernel.astype(np.float32), num_iter=10
        )
    return runs, floors


def in_turns(runs: Runs, rounds: int, device: str) -> dict[str, list[float]]:
    """Of each, the seconds of every round; what takes less than 50 ms is run several times in a row."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    times = {}
    for name, run in runs.items():
        run()
        wait(device)
        began = time.perf_counter()
        run()
        wait(device)
        times[name] = max(1, min(20, int(0.05 / max(time.perf_counter() - began, 1e-6))))
    for round_ in range(rounds):
        for name, run in runs.items() if round_ % 2 else reversed(runs.items()):
            run()  # the one before leaves its own tensors in the caches
            wait(device)
            began = time.perf_counter()
            for _ in range(times[name]):
                run()
            wait(device)
            steps = 5 if name.startswith("admm_tv") else 1  # five, as every fifth looks at the penalties
            spent[name].append((time.perf_counter() - began) / times[name] / steps)
    return spent


def ratio(these: list[float], those: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(these, those, strict=True))


def at_speed(rounds: int, device: str) -> Any:
    everything = {}
    for side in (512, 2048):
        runs, floors = operations(side, device)
        spent = in_turns(runs, rounds if side < 1000 else max(3, rounds // 2), device)
        load = os.getloadavg()[0]
        print(f"\n{side} × {side}, float32, {device}, load average {load:.1f}")
        print("\n| | median | over its FFT pairs | in FFT pairs a step | scikit-image takes |\n|---|---|---|---|---|")
        rows = {}
        for name, seconds in spent.items():
            words = [f"{1000 * statistics.median(seconds):.3g} ms", "", "", ""]
            row: dict[str, float] = {"seconds": statistics.median(seconds)}
            if name in floors:
                floor, pairs = floors[name]
                row["pairs"] = ratio(seconds, spent[floor]) / pairs
                words[2 if name.startswith("admm") else 1] = f"{row['pairs']:.2f}"
            peer = {"richard": "scikit-image richardson_lucy, 10 steps", "wiener,": "scikit-image wiener"}.get(name[:7])
            if peer in spent:
                row["peer"] = ratio(spent[peer], seconds)
                words[3] = f"{row['peer']:.1f} times as long"
            rows[name] = row
            print(f"| {name} | {' | '.join(words)} |", flush=True)
        everything[str(side)] = {"load": load, "rows": rows}
    everything["deblur"] = whole_pictures(512, max(1, rounds // 4), device)
    return everything


def whole_pictures(side: int, rounds: int, device: str) -> dict[str, float]:
    kernel = normalised(np.ones((9, 9)))
    truth = np.kron(np.random.RandomState(0).rand(side // 16, side // 16), np.ones((16, 16)))
    observed, sigma = observe(truth, kernel, None)
    spent: dict[str, list[float]] = {}
    for _ in range(rounds):
        for boundary in ("unknown", "circular"):
            for method in ("auto", "dct", "tv", "wiener"):
                began = time.perf_counter()
                ours(observed, kernel, sigma, boundary, method, device)
                spent.setdefault(f"{'default' if method == 'auto' else method}, {boundary}", []).append(
                    time.perf_counter() - began
                )
    print(f"\ndeblur, {side} × {side}, {device}, load average {os.getloadavg()[0]:.1f}\n\n| | median |\n|---|---|")
    medians = {name: statistics.median(seconds) for name, seconds in spent.items()}
    for name, seconds in medians.items():
        print(f"| {name} | {seconds:.2f} s |", flush=True)
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("scenarios", "boundary", "speed"), action="append")
    parser.add_argument("--pictures", type=Path, nargs="+", default=[], metavar="FOLDER")
    parser.add_argument("--names", nargs="+", default=[], help="files without their suffix; all without it")
    parser.add_argument("--methods", nargs="+", default=[], help="of the scenarios, such as default, dct; all without it")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--keep-memory", action="store_true", help="let glibc keep large blocks, as a long-lived process may")
    parser.add_argument("--device", default="cpu", help="of ours")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.keep_memory and any(os.environ.get(name) != value for name, value in KEPT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KEPT)
    if restoration is None:
        print("scikit-image is not installed; there is no peer.")
    parts = arguments.part or ["scenarios", "boundary", "speed"]
    pictures = found(arguments.pictures, arguments.names)
    if not pictures and parts != ["speed"]:
        print("No pictures; only the speed can be measured. Give --pictures FOLDER.")
    facts: dict[str, Any] = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    if pictures and "scenarios" in parts:
        facts["scenarios"] = in_scenarios(pictures, arguments.methods, arguments.device)
    if pictures and "boundary" in parts:
        facts["boundary"] = at_boundary(pictures, arguments.device)
    if "speed" in parts:
        facts["speed"] = at_speed(arguments.rounds, arguments.device)
    print(json.dumps({key: facts[key] for key in ("threads", "torch")}))
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
