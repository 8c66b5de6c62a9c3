"""How often `deblur` says that a PSF does not fit: never of right ones, mostly of wrong ones.

    python benchmarks/wrong_psf.py --pictures 10 --seed 0

Photographs, scaled down by two, are blurred, given noise of 0.5 to 10, and every other one is saved as JPEG at a quality from
75 to 95. The PSF told is the right one, or one of another width, or turned. It needs the photographs of the data folder.
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
WRONG = [(1.0, 0), (0.7, 0), (0.8, 0), (1.2, 0), (1.3, 0), (1.0, 20)]  # how many times as wide, turned by


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
    said: dict[str, list[list[bool]]] = {}
    calls, began = 0, 0.0
    for kind, kernels in KERNELS.items():
        for kernel in kernels:
            for number, at in enumerate(chosen):
                given = measured(observed(pictures[at], kernel, rng, number % 2 == 1))
                noise, _ = deviation_of(given.samples, given, "estimate")
                row = []
                for scale, turn in WRONG:
                    start = time.perf_counter()
                    row.append(bool(psf_hints(given.samples, moved(kernel, scale, turn), noise)))
                    calls, began = calls + 1, began + time.perf_counter() - start
                said.setdefault(kind, []).append(row)
        rates = np.array(said[kind])
        print(f"{kind:9s}", " ".join(f"{rate:6.0%}" for rate in rates.mean(0)), f"of {len(rates)}", flush=True)
    every = np.concatenate([np.array(rows) for rows in said.values()])
    print("right: ", int(every[:, 0].sum()), "false alarms of", len(every), f"; {began / calls:.2f} s a call")
    print("wrong, ", WRONG[1:], np.round(every[:, 1:].mean(0), 2))


if __name__ == "__main__":
    main()
