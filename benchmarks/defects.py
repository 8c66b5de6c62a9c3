"""What hot, dead and saturated samples cost `deblur`: as they are, told by NaN, and where there are none; and false alarms.

    python benchmarks/defects.py [--method tv] [--seed 0]

Photographs of scikit-image (pip install scikit-image), 200 × 200 samples, blurred and with noise of deviation 1 of 255; 0.5 %
of the samples, of any colour, are dead, or hot: 60 to 100 % of the range. PSNR 8 samples from the border.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from skimage import color, data

from unconv.inverse import Convolution
from unconv.inverse.fields.image import deblur
from unconv.inverse.psf import makers as psf

Array = np.ndarray[Any, Any]
BLURS = {
    "gaussian 1.6": psf.gaussian(1.6),
    "disk 3": psf.disk(3.0),
    "motion 11": psf.motion(11, 30),
    "uniform 7": psf.uniform(7),
}
SHARE = 0.005


def files(truth: Array, light: Array, rng: np.random.Generator) -> dict[str, tuple[Array, Array, float]]:
    """(truth, picture, its range) of each kind of file."""
    noisy = light + rng.standard_normal(light.shape)
    counted = rng.poisson(40 * light.clip(0)) + 100.0
    return {
        "8 bits": (truth, noisy.round().clip(0, 255).astype(np.uint8), 255.0),
        "16 bits, counts": (40 * truth + 100, counted.astype(np.uint16), 40 * 255.0),
        "float": (truth / 255, (noisy / 255).astype(np.float32), 1.0),
    }


def spoiled(picture: Array, top: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """The picture with defects, and with NaN in their places."""
    bad = rng.random(picture.shape) < SHARE
    values = np.where(rng.random(picture.shape) < 0.5, 0, top * rng.uniform(0.6, 1, picture.shape))
    return np.where(bad, values, picture).astype(picture.dtype), np.where(bad, np.nan, picture).astype(np.float32)


def psnr(truth: Array, estimate: Array, top: float) -> float:
    difference = (truth - np.asarray(estimate, float))[8:-8, 8:-8]
    return float(10 * np.log10(top**2 / np.square(difference).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="tv")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    whole = {"camera": data.camera(), "coffee, grey": 255 * color.rgb2gray(data.coffee()), "coffee, colour": data.coffee()}
    print("| picture | file | blur | observed | as it is | told by NaN | without defects | false alarms there |")
    print("|---|---|---|---|---|---|---|---|")
    for picture, samples in whole.items():
        truth = samples[100:300, 150:350].astype(float)
        for blur, kernel in BLURS.items():
            planes = torch.from_numpy(truth.reshape(200, 200, -1)).movedim(-1, 0)
            light = Convolution(kernel.double(), planes.shape, "reflect").forward(planes).movedim(0, -1).numpy()
            for file, (right, seen, top) in files(truth, light.reshape(truth.shape), rng).items():
                made = [deblur(each, kernel, method=asked.method) for each in (*spoiled(seen, top, rng), seen)]
                alarms = [note for note in made[-1].notes if "treated as missing" in note]
                scores = [psnr(right, made[0].observed, top), *(psnr(right, each.picture, top) for each in made)]
                cells = [f"{score:.1f}" for score in scores] + [alarms[0].split()[1] if alarms else "0"]
                print(f"| {picture} | {file} | {blur} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
