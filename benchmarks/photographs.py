"""What `deblur` makes of photographs as JPEG: from the file, from its samples alone, and from a part of them.

    python benchmarks/photographs.py --pictures 40 --seed 0

Each picture is scaled down by two, blurred, given noise, and saved as JPEG at a quality from 75 to 95, all drawn at random.
Gains are in decibels over what was observed, 12 samples from the border. It needs the photographs of the data folder.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from unconv.inverse.fields.image import deblur
from unconv.inverse.psf import makers as psf

KERNELS = {"disk 3": psf.disk(3.0), "motion 11": psf.motion(11, 30), "gaussian 1.8": psf.gaussian(1.8)}
SIDE, MARGIN = 192, 12


def photographs(folder: Path) -> list[np.ndarray]:
    found = []
    for path in sorted(folder.glob("*.jpg")):
        with Image.open(path) as picture:
            small = picture.convert("RGB").resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)
        samples = np.asarray(small, dtype=float)
        if min(samples.shape[:2]) >= 100:
            found.append(samples[:SIDE, :SIDE])
    return found


def blurred(picture: np.ndarray, kernel: torch.Tensor) -> np.ndarray:
    pads = [(k // 2, k // 2) for k in kernel.shape] + [(0, 0)]
    planes = torch.from_numpy(np.pad(picture, pads, mode="reflect")).permute(2, 0, 1)[:, None]
    seen: np.ndarray = F.conv2d(planes, kernel.double().flip(0, 1)[None, None])[:, 0].permute(1, 2, 0).numpy()
    return seen


def gain(restored: np.ndarray, observed: np.ndarray, truth: np.ndarray) -> float:
    inside = slice(MARGIN, -MARGIN)
    before, after = (((np.asarray(a, float) - truth)[inside, inside] ** 2).mean() for a in (observed, restored))
    return float(10 * np.log10(before / after))


def cases(pictures: list[np.ndarray], count: int, seed: int) -> Iterator[tuple[str, int, float, list[float]]]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        name = list(KERNELS)[number % len(KERNELS)]
        truth = pictures[int(rng.integers(len(pictures)))]
        quality, noise = int(rng.integers(75, 96)), float(rng.choice([0, 1, 2, 4]))
        seen = blurred(truth, KERNELS[name])
        noisy = np.clip(np.round(seen + noise * rng.standard_normal(seen.shape)), 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(noisy).save(file, "JPEG", quality=quality, subsampling=int(rng.choice([0, 2])))
        with Image.open(file) as picture:
            samples = np.asarray(picture)
            ways = [(picture, samples, truth), (samples, samples, truth), (*[samples[3:-2, 5:-1]] * 2, truth[3:-2, 5:-1])]
            gains = [gain(np.asarray(deblur(given, KERNELS[name]).picture), o, right) for given, o, right in ways]
        yield name, quality, noise, gains


def table(rows: dict[str, list[list[float]]]) -> Iterator[str]:
    """Rows of a table, one for each kind of case and one for all: how many, and of each gain the mean and the least."""
    for name, found in [*rows.items(), ("all", [gains for part in rows.values() for gains in part])]:
        cells = " | ".join(f"{column.mean():.2f}, {column.min():.2f}" for column in np.array(found).T)
        yield f"{name} | {len(found)} | {cells} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    data = Path(os.environ.get("UNCONV_DATA", "../shared/data")) / "imagenet_sample"
    rows: dict[str, list[list[float]]] = {}
    for name, quality, noise, gains in cases(photographs(data), asked.pictures, asked.seed):
        print(f"{name:13s} quality {quality}  noise {noise:.0f}  " + "  ".join(f"{g:6.2f}" for g in gains), flush=True)
        rows.setdefault(name, []).append(gains)
    print("\n| blur | cases | file: mean, least | samples alone | a part of them |\n|---|---|---|---|---|")
    print("\n".join(f"| {row}" for row in table(rows)))


if __name__ == "__main__":
    main()
