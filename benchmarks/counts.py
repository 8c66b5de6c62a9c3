"""What `deblur` makes of pictures whose noise is that of counts: star fields, spots, cells, and 16-bit photographs.

    python benchmarks/counts.py [--scenes stars spots cells photograph] [--seeds 0]
    python benchmarks/counts.py --cameras 200

Every picture is blurred, cut out of a larger one (an unknown boundary), counted (Poisson noise), multiplied by the camera's
gain, given its read noise and its offset, and rounded to 16 bits. PSNR is against the truth in the picture's units, 8 samples
from the border, with the truth's range as its peak. Flux errors are those of apertures of radius 5 around each bright
star or spot that stands alone, in per cent: the median of their sizes and the error of the sum. The best of our methods is
chosen by the truth. Richardson-Lucy of
scikit-image (optional: pip install scikit-image) gets the picture in photons, offset taken off, and as many steps as are
best by the truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from unconv.inverse.fields.image import deblur
from unconv.inverse.psf import makers as psf

try:
    from skimage import restoration
except ModuleNotFoundError:
    restoration = None

Array = np.ndarray[Any, Any]
SIDE, AROUND, MARGIN, APERTURE = 160, 16, 8, 5
CAMERAS = ((1, 0, 0), (0.5, 300, 3), (2, 100, 5), (4, 500, 10))  # gain, offset, read noise
STEPS = (1, 3, 10, 30, 100, 300)
OTHERS = ("similar", "dct", "tv", "wiener")  # with the noise estimated


@dataclass(frozen=True)
class Scene:
    """A truth in photons, with a rim that is blurred into the picture and then cut off; and what to measure in it."""

    truth: Array
    kernel: torch.Tensor
    points: list[tuple[int, int]] = field(default_factory=list)
    level: float = 0.0


def apart(rng: np.random.Generator, count: int, distance: float) -> Array:
    places: list[Array] = []
    while len(places) < count:
        place = rng.uniform(MARGIN + 4, SIDE - MARGIN - 4, 2)
        if all(np.hypot(*(place - other)) > distance for other in places):
            places.append(place)
    return np.array(places)


def stars(seed: int) -> Scene:
    """Points of 500 to 50,000 photons, some between samples, on a sky of 5."""
    rng = np.random.default_rng(seed)
    truth = np.full((SIDE + 2 * AROUND,) * 2, 5.0)
    places = np.round(apart(rng, 40, 13)).astype(int)
    for y, x in places:
        truth[y + AROUND, x + AROUND] += np.exp(rng.uniform(np.log(500), np.log(50_000)))
    return Scene(truth, psf.gaussian(1.6), [(int(y), int(x)) for y, x in places], 5.0)


def spots(seed: int) -> Scene:
    """Spots of standard deviation 1.2 and a peak of 30 to 600 photons, on a background of 10."""
    rng = np.random.default_rng(seed)
    truth = np.full((SIDE + 2 * AROUND,) * 2, 10.0)
    down, across = np.indices(truth.shape)
    places = apart(rng, 40, 14)
    for y, x in places + AROUND:
        truth += rng.uniform(30, 600) * np.exp(-0.5 * ((down - y) ** 2 + (across - x) ** 2) / 1.2**2)
    return Scene(truth, psf.gaussian(1.6), [(round(y), round(x)) for y, x in places], 10.0)


def cells(seed: int) -> Scene:
    """Round cells with brighter bodies inside, 20 to 400 photons, on a background of 20."""
    rng = np.random.default_rng(seed)
    truth = np.full((SIDE + 2 * AROUND,) * 2, 20.0)
    down, across = np.indices(truth.shape)
    for _ in range(14):
        y, x, a, b, turn = *rng.uniform(0, len(truth), 2), *rng.uniform(12, 24, 2), rng.uniform(0, np.pi)
        u = (down - y) * np.cos(turn) + (across - x) * np.sin(turn)
        v = (across - x) * np.cos(turn) - (down - y) * np.sin(turn)
        inside = (u / a) ** 2 + (v / b) ** 2 < 1
        truth[inside] = np.maximum(truth[inside], rng.uniform(60, 150))
        for _ in range(8):
            p, q = rng.uniform(-0.7, 0.7, 2)
            body = (u / a - p) ** 2 + (v / b - q) ** 2 < rng.uniform(0.01, 0.04)
            truth[body & inside] += rng.uniform(50, 250)
    return Scene(truth, psf.gaussian(1.6))


def photograph(seed: int) -> Scene:
    """A photograph (skimage's, else fractal noise) of up to 4,000 photons."""
    try:
        from skimage import data

        whole = np.asarray(data.camera(), dtype=float)
    except ModuleNotFoundError:
        rng = np.random.default_rng(seed)
        f = np.hypot(*np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(512)))
        whole = np.real(np.fft.ifft2(np.fft.fft2(rng.standard_normal((512, 512))) / np.maximum(f, 1 / 512)))
        whole = 255 * (whole - whole.min()) / np.ptp(whole)
    side = SIDE + 2 * AROUND
    return Scene(whole[60 : 60 + side, 150 : 150 + side] / 255 * 4000 + 20, psf.disk(2.0))


SCENES: dict[str, Callable[[int], Scene]] = {"stars": stars, "spots": spots, "cells": cells, "photograph": photograph}


def inside(picture: Array) -> Array:
    return picture[AROUND : AROUND + SIDE, AROUND : AROUND + SIDE]


def observed(scene: Scene, gain: float, offset: float, read_noise: float, seed: int) -> Array:
    """What a camera of 16 bits makes of a scene."""
    rng = np.random.default_rng(1000 + seed)
    kernel = scene.kernel.double()
    pads = [k // 2 for k in kernel.shape]
    wide = torch.from_numpy(np.pad(scene.truth, [(p, p) for p in pads], mode="edge"))[None, None]
    light = inside(F.conv2d(wide, kernel.flip(0, 1)[None, None])[0, 0].numpy())
    counted = rng.poisson(light) + read_noise * rng.standard_normal(light.shape)
    return np.clip(np.round(gain * counted + offset), 0, 65535).astype(np.uint16)


def psnr(truth: Array, estimate: Array) -> float:
    cut = (slice(MARGIN, -MARGIN),) * 2
    return float(10 * np.log10(np.ptp(truth) ** 2 / np.square(truth - estimate)[cut].mean()))


def fluxes(scene: Scene, estimate: Array) -> tuple[float, float]:
    """(median size of the errors, error of the sum) in per cent, of points with at least 2,000 photons."""
    down, across = np.indices(estimate.shape)
    pairs = []
    for y, x in scene.points:
        disc = np.hypot(down - y, across - x) <= APERTURE
        pairs.append([(picture - scene.level)[disc].sum() for picture in (inside(scene.truth), estimate)])
    right, found = np.array([pair for pair in pairs if pair[0] > 2000]).T
    return 100 * float(np.median(np.abs(found / right - 1))), 100 * float(found.sum() / right.sum() - 1)


def lucy(seen: Array, scene: Scene, score: Callable[[Array], float]) -> Array | None:
    if restoration is None:
        return None
    photons = np.clip(seen, 1e-3, None)
    rim = [k // 2 for k in scene.kernel.shape]
    wide, cut = np.pad(photons, [(r, r) for r in rim], mode="reflect"), (slice(rim[0], -rim[0]), slice(rim[1], -rim[1]))
    top = wide.max()
    made = (restoration.richardson_lucy(wide / top, scene.kernel.numpy(), n, clip=False)[cut] * top for n in STEPS)
    return max(made, key=score)


def photons(picture: Any, camera: tuple[float, float, float]) -> Array:
    gain, offset, _ = camera
    return (np.asarray(picture, dtype=float) - offset) / gain


def measured_row(scene: Scene, camera: tuple[float, float, float], seed: int) -> dict[str, tuple[Array, str]]:
    """What came of one picture, in photons, by column, and the method."""
    seen = observed(scene, *camera, seed).astype(np.float32)  # not cut to 16 bits, as fluxes want it
    truth = inside(scene.truth)
    chosen, found = deblur(seen, scene.kernel), deblur(seen, scene.kernel, "poisson")
    ours = {name: deblur(seen, scene.kernel, method=name).picture for name in OTHERS} | {"richardson-lucy": found.picture}
    best = max(ours, key=lambda name: psnr(truth, photons(ours[name], camera)))
    gain, offset, read_noise = camera
    told = deblur(seen, scene.kernel, "poisson", gain=gain, offset=offset, read_noise=read_noise)
    row = {"observed": (seen, ""), "default": (chosen.picture, chosen.method), "best of ours": (ours[best], best)}
    row |= {"poisson": (found.picture, ""), "poisson, camera told": (told.picture, "")}
    made = {name: (photons(picture, camera), method) for name, (picture, method) in row.items()}
    peer = lucy(photons(seen, camera), scene, lambda estimate: psnr(truth, estimate))
    return made if peer is None else made | {"scikit-image, best": (peer, "")}


def scenes(names: list[str], seeds: list[int]) -> None:
    """Print a table: means over the seeds."""
    columns = ["observed", "default", "best of ours", "poisson", "poisson, camera told", "scikit-image, best"]
    print(f"| scene | gain, offset, read noise | {' | '.join(columns)} |")
    print(f"|---|---|{'---|' * len(columns)}")
    for name in names:
        for camera in CAMERAS:
            made = [(scene := SCENES[name](seed), measured_row(scene, camera, seed)) for seed in seeds]
            cells = []
            for column in columns:
                each = [(scene, *row[column]) for scene, row in made if column in row]
                if not each:
                    cells.append("–")
                    continue
                cell = f"{np.mean([psnr(inside(scene.truth), picture) for scene, picture, _ in each]):.1f}"
                if made[0][0].points:
                    flux = [fluxes(scene, picture) for scene, picture, _ in each]
                    cell += " ({:.1f}, {:+.1f})".format(*np.mean(flux, 0))
                cells.append(" ".join([cell, *sorted({method for *_, method in each if method})]))
            print(f"| {name} | {', '.join(f'{number:g}' for number in camera)} | {' | '.join(cells)} |", flush=True)


def cameras(names: list[str], seed: int, count: int) -> None:
    """Print how "poisson" does with cameras that it is not told: gains, offsets and read noise at random."""
    rng = np.random.default_rng(seed)
    gains = []
    for number in range(count):
        gain, offset = float(np.exp(rng.uniform(np.log(0.25), np.log(8)))), float(rng.uniform(0, 1000) * (rng.random() > 0.2))
        camera, own = (gain, offset, float(rng.uniform(0, 20))), int(rng.integers(10**6))
        scene = SCENES[names[number % len(names)]](own)
        seen, truth = observed(scene, *camera, own).astype(np.float32), inside(scene.truth)
        said = dict(zip(("gain", "offset", "read_noise"), camera, strict=True))
        pictures = [seen, *(deblur(seen, scene.kernel, "poisson", **each).picture for each in ({}, said))]
        gains.append([psnr(truth, photons(picture, camera)) for picture in pictures])
    before, found, told = np.array(gains).T
    print(f"{count} pictures: not told {np.mean(found - before):+.1f} dB (worst {np.min(found - before):+.1f}), told", end=" ")
    print(
        f"{np.mean(told - before):+.1f} dB (worst {np.min(told - before):+.1f}); not told is more than 1 dB below told", end=" "
    )
    print(f"{int(np.sum(found < told - 1))} times, by {np.max(told - found):.1f} dB at most.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=list(SCENES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--cameras", type=int, default=0, help="so many pictures of cameras at random, by the first seed")
    asked = parser.parse_args()
    if asked.cameras:
        cameras(asked.scenes, asked.seeds[0], asked.cameras)
    else:
        scenes(asked.scenes, asked.seeds)


if __name__ == "__main__":
    main()
