"""What it brings to restore photographs as light: blurred as light, as by a lens, and as samples, as by programs.

    python benchmarks/linear.py --pictures 60 --seed 0

Each picture is scaled down by two, blurred either way, given noise of its samples, and rounded to 8 bits; two in three are
saved as JPEG. All is drawn at random. Gains are in decibels over what was observed, in samples, 12 from the border: with
linear=False, with linear=True, and with what linear="auto" chose; without a profile, and with sRGB's in the file. It needs the
photographs of the data folder.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from photographs import blurred, gain, photographs, table
from PIL import Image, ImageCms

from unconv.inverse.fields.image import deblur
from unconv.inverse.psf import makers as psf
from unconv.pictures.transfer import SRGB

KERNELS = {
    "disk 3": psf.disk(3.0),
    "disk 5": psf.disk(5.0),
    "motion 11": psf.motion(11, 30),
    "gaussian 1": psf.gaussian(1.0),
    "gaussian 1.8": psf.gaussian(1.8),
}
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
Picture = np.ndarray[Any, Any]


def blurred_as_light(truth: Picture, kernel: torch.Tensor) -> Picture:
    light = SRGB.light(torch.from_numpy(truth / 255.0)).numpy()
    return 255 * SRGB.samples(torch.from_numpy(blurred(light, kernel))).numpy()


def filed(samples: Picture, quality: int, profile: bytes | None) -> Image.Image:
    file = io.BytesIO()
    kind, settings = ("JPEG", {"quality": quality}) if quality else ("PNG", {})
    Image.fromarray(samples).save(file, kind, icc_profile=profile, **settings)
    return Image.open(file)


def chosen(picture: Image.Image, kernel: torch.Tensor) -> bool:
    """Whether "auto" restores it as light."""
    return any("restored as light" in note for note in deblur(picture, kernel, method="wiener").notes)


def cases(pictures: list[Picture], count: int, seed: int) -> Iterator[tuple[str, str, list[float]]]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        name = list(KERNELS)[number % len(KERNELS)]
        truth, noise = pictures[int(rng.integers(len(pictures)))], float(rng.choice([0.5, 1, 2, 4]))
        quality = int(rng.choice([0, 85, 95]))
        for how, seen in (
            ("light", blurred_as_light(truth, KERNELS[name])),
            ("samples", blurred(truth, KERNELS[name])),
        ):
            noisy = np.clip(np.round(seen + noise * rng.standard_normal(seen.shape)), 0, 255).astype(np.uint8)
            plain, said = (filed(noisy, quality, profile) for profile in (None, PROFILE))
            observed = np.asarray(plain)
            gains = [
                gain(np.asarray(deblur(plain, KERNELS[name], linear=linear).picture), observed, truth)
                for linear in (False, True)
            ]
            yield how, name, [*gains, *(gains[chosen(picture, KERNELS[name])] for picture in (plain, said))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    data = Path(os.environ.get("UNCONV_DATA", "../shared/data")) / "imagenet_sample"
    rows: dict[tuple[str, str], list[list[float]]] = {}
    for how, name, gains in cases(photographs(data), asked.pictures, asked.seed):
        print(f"{how:8s} {name:13s} " + "  ".join(f"{each:6.2f}" for each in gains), flush=True)
        rows.setdefault((how, name), []).append(gains)
    print("\n| blurred | blur | cases | False: mean, least | True | auto, no profile | auto, profile |")
    print("|---|---|---|---|---|---|---|")
    for how in ("light", "samples"):
        mine = {name: found for (each, name), found in rows.items() if each == how}
        print("\n".join(f"| as {how} | {row}" for row in table(mine)))


if __name__ == "__main__":
    main()
