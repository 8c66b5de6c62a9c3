"""How well kernels are estimated: error ratios on Levin's eight kernels and four photographs, as the literature reports them.

    python benchmarks/blind.py --pictures ../shared/data/standard_images --kernels ../shared/data/inverse/kernels/Levin09.mat

Each photograph is scaled to 281 x 281, blurred without any boundary, cut to 255 x 255, and given white noise of 1 % of the
range (Sun et al., ICCP 2013). The error ratio (Levin et al., CVPR 2009) is the squared error of the picture restored with the
estimated kernel over that with the true one, both by total variation, each at its best shift by quarters of a sample, 15
samples from the border. The estimator is told the kernel's size, as in that literature. It needs h5py and scipy.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage

from unconv.inverse import EstimatedKernel, estimate_and_judge
from unconv.inverse.fields.image import deblur
from unconv.inverse.psf import makers as psf

SIDE, WIDE, BORDER, RANGE = 255, 281, 15, 255.0
FOUR = ("boat512", "couple512", "man512", "sk_camera512")  # chosen before anything was measured
RATIOS = (1.5, 2, 3, 5)


def levin_kernels(path: Path) -> list[torch.Tensor]:
    with h5py.File(path) as file:
        cells = [np.asarray(file[cell]).T for cell in file["kernels"][()].flat]
    return [torch.from_numpy(cell / cell.sum()).double() for cell in cells]


def photograph(path: Path) -> torch.Tensor:
    with Image.open(path) as picture:
        grey = picture.convert("L")
    side = min(grey.size)
    cut = grey.crop(((grey.width - side) // 2, (grey.height - side) // 2, (grey.width + side) // 2, (grey.height + side) // 2))
    return torch.from_numpy(np.asarray(cut.resize((WIDE, WIDE), Image.Resampling.LANCZOS), dtype=np.float64))


def observe(wide: torch.Tensor, kernel: torch.Tensor, noise: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what was there and what was seen of it, both 255 x 255."""
    seen = F.conv2d(wide[None, None], kernel.flip(0, 1)[None, None])[0, 0]
    top, left = ((n - SIDE) // 2 for n in seen.shape)
    seen = seen[top : top + SIDE, left : left + SIDE]
    down, right = (at + k - 1 - k // 2 for at, k in zip((top, left), kernel.shape, strict=True))
    truth = wide[down : down + SIDE, right : right + SIDE]
    return truth, seen + noise * torch.randn(seen.shape, generator=torch.Generator().manual_seed(seed)).double()


def squared_error(restored: np.ndarray, truth: np.ndarray, reach: int = 5) -> float:
    """The sum of squared errors at the best shift: whole samples first, then quarters of one around the best."""

    def at(shift: tuple[float, float]) -> float:
        moved = ndimage.shift(restored, shift, order=3, mode="nearest") if any(s % 1 for s in shift) else None
        moved = np.roll(restored, tuple(map(int, shift)), (0, 1)) if moved is None else moved
        inside = (slice(BORDER, -BORDER),) * 2
        return float(((moved - truth)[inside] ** 2).sum())

    best = min(((float(y), float(x)) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)), key=at)
    for step in (0.5, 0.25):
        best = min(((best[0] + y * step, best[1] + x * step) for y in (-1, 0, 1) for x in (-1, 0, 1)), key=at)
    return at(best)


def error_with(kernel: torch.Tensor, seen: torch.Tensor, truth: torch.Tensor, noise: float) -> tuple[float, np.ndarray]:
    restored = np.asarray(deblur(seen, kernel, noise=noise, method="tv").picture)
    return squared_error(restored, truth.numpy()), restored


def shown(kernel: torch.Tensor, side: int = 81) -> np.ndarray:
    scaled = (kernel / kernel.max() * 255).byte().numpy()
    return np.asarray(Image.fromarray(scaled).resize((side, side), Image.Resampling.NEAREST))


def harder(names: list[str], folder: Path, kernels: list[torch.Tensor], count: int) -> None:
    """Judge estimates of all kinds: smaller pictures, more noise, other blurs, sizes told too small or too large."""
    rng, rows = np.random.default_rng(0), []
    kernels = [*kernels, psf.disk(2), psf.disk(3.5), psf.gaussian(1.2), psf.gaussian(2), psf.motion(9, 30), psf.motion(15, 100)]
    for number in range(count):
        kernel, name = kernels[rng.integers(len(kernels))], names[rng.integers(len(names))]
        side, noise = int(rng.integers(96, SIDE)), float(rng.choice([0.5, 1, 2, 4])) / 100 * RANGE
        told = max(3, max(kernel.shape) + 2 * int(rng.integers(-2, 5)))
        truth, seen = (part[:side, :side] for part in observe(photograph(folder / f"{name}.png"), kernel, noise, number))
        found = estimate_and_judge(seen.float(), told)
        right, ours = (error_with(k, seen, truth, noise)[0] for k in (kernel, found.kernel))
        rows.append((ours / right, found.confidence, found.trusted))
        size = "x".join(map(str, kernel.shape))
        print(f"{name:15s} {side} noise {noise:4.1f} kernel {size} told {told}  ratio {ours / right:6.2f}", end="  ")
        print(f"{found.confidence:.2f}", *(note.split(":")[1][:24] for note in found.notes[:-1]), sep=" |", flush=True)
    table = np.array(rows)
    for word, chosen in (("trusted", table[:, 2] > 0), ("untrusted", table[:, 2] == 0)):
        part = table[chosen, 0]
        shares = "  ".join(f"<= {limit}: {(part <= limit).mean():.0%}" for limit in RATIOS)
        print(f"{word}: {len(part)} of {count}, ratio {np.median(part):.2f} in the median,  {shares}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    data = Path(os.environ.get("UNCONV_DATA", "../shared/data"))
    parser.add_argument("--pictures", type=Path, default=data / "standard_images")
    parser.add_argument("--names", nargs="+", default=FOUR)
    parser.add_argument("--kernels", type=Path, default=data / "inverse/kernels/Levin09.mat")
    parser.add_argument("--noise", type=float, default=1.0, help="per cent of the range")
    parser.add_argument("--larger", type=int, default=0, help="samples that the size told exceeds the kernel's by")
    parser.add_argument("--show", type=Path, help="a folder for the kernels, true above estimated, and the restored pictures")
    parser.add_argument("--harder", type=int, default=0, help="so many cases of all kinds instead, to see which to trust")
    asked = parser.parse_args()
    noise = asked.noise / 100 * RANGE
    kernels = levin_kernels(asked.kernels)
    if asked.harder:
        harder(sorted(path.stem for path in asked.pictures.glob("*.png")), asked.pictures, kernels, asked.harder)
        return
    ratios, trust = [], []
    for name in asked.names:
        wide = photograph(asked.pictures / f"{name}.png")
        sheet, row = [], []
        for number, kernel in enumerate(kernels, 1):
            truth, seen = observe(wide, kernel, noise, number)
            began = time.perf_counter()
            judged: EstimatedKernel = estimate_and_judge(seen.float(), [k + asked.larger for k in kernel.shape])
            found = judged.kernel
            taken = time.perf_counter() - began
            right, best = error_with(kernel, seen, truth, noise)
            ours, restored = error_with(found, seen, truth, noise)
            row.append(ours / right)
            trust.append(judged.trusted)
            print(
                f"{name:14s} kernel {number}  ratio {ours / right:6.2f}  confidence {judged.confidence:.2f}  {taken:5.1f} s",
                flush=True,
            )
            sheet.append(np.concatenate([shown(kernel), shown(found)]))
            if asked.show:
                three = np.concatenate([seen.numpy(), restored, best], 1).clip(0, 255).astype(np.uint8)
                Image.fromarray(three).save(asked.show / f"{name}-{number}.png")
        ratios += row
        if asked.show:
            Image.fromarray(np.concatenate(sheet, 1)).save(asked.show / f"{name}-kernels.png")
    found_ratios = np.array(ratios)
    print(f"trusted {sum(trust)} of {len(trust)}; worst of them {found_ratios[np.array(trust)].max(initial=0):.2f}")
    print(f"mean {found_ratios.mean():.2f}, median {np.median(found_ratios):.2f}, worst {found_ratios.max():.2f}")
    print("  ".join(f"<= {limit}: {(found_ratios <= limit).mean():.0%}" for limit in RATIOS))


if __name__ == "__main__":
    main()
