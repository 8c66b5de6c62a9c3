"""What lamps brighter than white cost `deblur`, found as saturated and not; and how often any are found where there are none.

    python benchmarks/lamps.py --cases 3 --seed 0

Grey pictures of the data folder, 190 × 190 samples, darkened, with six lamps of 2 to 20 times white, are blurred as light, get
noise of 0.3 % of white, are clipped, and saved with 8 bits. PSNR in decibels, 10 samples from the border, everything brighter
than white taken for white. Then the pictures as they are are blurred, as light and as samples, and saved in both ways.
"""

from __future__ import annotations

import argparse
import io
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unconv.inverse import Convolution
from unconv.inverse.fields.image import deblur, restore
from unconv.inverse.psf import makers as psf
from unconv.pictures.measured import measured
from unconv.pictures.transfer import SRGB

BLURS = {
    "gaussian 1": psf.gaussian(1.0),
    "gaussian 2": psf.gaussian(2),
    "disk 3": psf.disk(3),
    "disk 5": psf.disk(5),
    "motion 11": psf.motion(11, 35),
    "uniform 5": psf.uniform(5),
}
SIDE, BORDER, LAMPS = 190, 10, 6


def light_of(path: Path) -> torch.Tensor:
    with Image.open(path) as picture:
        grey = np.asarray(picture.convert("L"), dtype=np.float64)
    top, left = ((n - SIDE) // 2 for n in grey.shape)
    return SRGB.light(torch.from_numpy(grey[top : top + SIDE, left : left + SIDE] / 255))


def with_lamps(light: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    lit = light * float(rng.uniform(0.1, 0.5))
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    for _ in range(LAMPS):
        (y, x), radius = rng.integers(20, SIDE - 20, 2), float(rng.uniform(0.6, 3))
        lit = lit + float(rng.uniform(2, 20)) * (((rows - y) ** 2 + (columns - x) ** 2) < radius**2)
    return lit


def seen(picture: torch.Tensor, kernel: torch.Tensor, rng: np.random.Generator, noise: float, light: bool) -> np.ndarray:
    """(h, w), 8 bits: less than the picture by what the kernel reaches."""
    blurred = Convolution(kernel.double(), picture.shape, "unknown").forward(picture)
    blurred = (blurred + noise * torch.from_numpy(rng.standard_normal(blurred.shape))).clamp(0, 1)
    return (255 * (SRGB.samples(blurred) if light else blurred)).round().byte().numpy()


def saved(samples: np.ndarray, file: str) -> Image.Image:
    written = io.BytesIO()
    Image.fromarray(samples).save(written, file, quality=88)
    return Image.open(written)


def psnr(truth: torch.Tensor, estimate: object) -> float:
    made = np.asarray(estimate, dtype=np.float64)
    reach = [(n - m) // 2 for n, m in zip(truth.shape, made.shape, strict=True)]
    right = truth.numpy()[tuple(slice(r, r + m) for r, m in zip(reach, made.shape, strict=True))]
    inside = (slice(BORDER, -BORDER),) * 2
    return float(10 * np.log10(255**2 / np.square(made - right)[inside].mean()))


def compared(picture: Image.Image, kernel: torch.Tensor, truth: torch.Tensor) -> tuple[list[float], bool]:
    """PSNR as observed, with no sample taken for spoiled, and as `deblur` is; whether it found saturated ones."""
    found, look = deblur(picture, kernel), restore.defects
    restore.defects = lambda *_, **__: (None, [])
    try:
        kept = deblur(picture, kernel)
    finally:
        restore.defects = look
    scores = [psnr(truth, made) for made in (picture, kept.picture, found.picture)]
    return scores, any("saturated" in note for note in found.notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=3, help="pictures for each blur and file")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    paths = sorted((Path(os.environ.get("UNCONV_DATA", "../shared/data")) / "standard_images").glob("*.png"))
    print("| blur | file | lamps found | observed | kept | as it is |\n|---|---|---|---|---|---|")
    for blur, kernel in BLURS.items():
        for file in ("PNG", "JPEG"):
            rows = []
            for _ in range(asked.cases):
                lit = with_lamps(light_of(paths[rng.integers(len(paths))]), rng)
                picture = saved(seen(lit, kernel, rng, 0.003, light=True), file)
                rows.append(compared(picture, kernel, 255 * SRGB.samples(lit.clamp(0, 1))))
            cells = [f"{score:.1f}" for score in np.mean([scores for scores, _ in rows], 0)]
            print(f"| {blur} | {file} | {sum(found for _, found in rows)} of {len(rows)} | {' | '.join(cells)} |", flush=True)
    alarms, count = 0, 0
    for path in paths:
        for kernel in BLURS.values():
            for light in (True, False):
                picture = light_of(path) if light else SRGB.samples(light_of(path))
                samples = seen(picture, kernel, rng, float(rng.choice([0, 0.004])), light)
                for file in ("PNG", "JPEG"):
                    notes = restore.defects(measured(saved(samples, file)), kernel)[1]
                    alarms, count = alarms + any("saturated" in note for note in notes), count + 1
    print(f"false alarms: {alarms} of {count}")


if __name__ == "__main__":
    main()
