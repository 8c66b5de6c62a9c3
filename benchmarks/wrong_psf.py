"""How often `deblur` says that a PSF does not fit: never of right ones, mostly of wrong ones.

    python benchmarks/wrong_psf.py --pictures 10 --seed 0

Photographs, scaled down by two, are blurred, given noise of 0.5 to 10, and every other one is saved as JPEG at a quality from
75 to 95. The PSF told is the right one, and then, in turns, one 0.7, 0.8, 1.2 or 1.3 times as wide, or turned by 20 degrees,
which are the columns. It needs the photographs of the data folder.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from pathlib import Path

import numpy as np
import torch
from photographs import blurred, photographs
from PIL import Image

from unconv.inverse.camera import Camera
from unconv.inverse.fields.image.deviation import deviation_of
from unconv.inverse.fields.image.fit import psf_hints
from unconv.inverse.psf import makers as psf
from unconv.inverse.psf.evidence import moved
from unconv.pictures.measured import measured

KERNELS = {
    "disk": [psf.disk(2), psf.disk(3), psf.disk(5)],
    "motion": [psf.motion(7, 20), psf.motion(11, 110), psf.motion(17, 60)],
    "uniform": [psf.uniform(3), psf.uniform(5), psf.uniform(7)],
    "gaussian": [psf.gaussian(1), psf.gaussian(1.8), psf.gaussian(3)],
    "airy": [psf.airy(2.5), psf.airy(4)],
}
WRONG = [(0.7, 0), (0.8, 0), (1.2, 0), (1.3, 0), (1.0, 20)]  # how many times as wide, turned by


def observed(picture: np.ndarray, kernel: torch.Tensor, rng: np.random.Generator, compressed: bool) -> np.ndarray:
    seen = blurred(picture, kernel)
    noisy = seen + float(rng.choice([0.5, 2, 5, 10])) * rng.standard_normal(seen.shape)
    samples = np.clip(np.round(noisy), 0, 255).astype(np.uint8)
    if not compressed:
        return samples
    file = io.BytesIO()
    Image.fromarray(samples).save(file, "JPEG", quality=int(rng.integers(75, 96)))
    with Image.open(file) as opened:
        return np.asarray(opened)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    data = Path(os.environ.get("UNCONV_DATA", "../shared/data")) / "imagenet_sample"
    pictures = photographs(data)
    chosen = rng.choice(len(pictures), asked.pictures, replace=False)
    right: dict[str, list[bool]] = {}
    wrong: dict[tuple[str, tuple[float, int]], list[bool]] = {}
    took = []
    for kind, kernels in KERNELS.items():
        for kernel in kernels:
            for number, at in enumerate(chosen):
                given = measured(observed(pictures[at], kernel, rng, number % 2 == 1))
                noise, _ = deviation_of(given.samples, given, "estimate", Camera())
                start = time.perf_counter()
                right.setdefault(kind, []).append(bool(psf_hints(given.samples, kernel, noise)))
                took.append(time.perf_counter() - start)
                way = WRONG[number % len(WRONG)]
                said = bool(psf_hints(given.samples, moved(kernel, *way), noise))
                wrong.setdefault((kind, way), []).append(said)
        rates = " | ".join(f"{np.mean(wrong[kind, way]):.0%}" for way in WRONG)
        print(f"| {kind} | {sum(right[kind])} of {len(right[kind])} | {rates} |", flush=True)
    print(f"false alarms: {sum(map(sum, right.values()))} of {sum(map(len, right.values()))}; {np.median(took):.2f} s a call")


if __name__ == "__main__":
    main()
