"""How well kernels are estimated: error ratios on Levin's eight kernels and four photographs, as the literature reports them.

    python benchmarks/blind.py --pictures ../shared/data/standard_images --kernels ../shared/data/inverse/kernels/Levin09.mat

Each photograph is scaled to 281 x 281, blurred without any boundary, cut to 255 x 255, and given white noise of 1 % of the
range (Sun et al., ICCP 2013). The error ratio (Levin et al., CVPR 2009) is the squared error of the picture restored with the
estimated kernel over that with the true one, both by total variation, each at its best shift by quarters of a sample, 15
samples from the border. The estimator is told the kernel's size, as in that literature. It needs h5py and scipy.

With --mixed 150 cases of many kinds are drawn instead, and what is said of them stands beside their error ratios.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from pathlib import Path
from typing import NamedTuple

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
BAD = 3.0


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


class Case(NamedTuple):
    """A picture that was seen through a known kernel, and the size told of it."""

    words: str
    kernel: torch.Tensor
    truth: torch.Tensor
    seen: torch.Tensor
    noise: float
    told: int


def case(seed: int, pictures: list[Path], kernels: list[torch.Tensor]) -> Case:
    """Draw a picture of 96 to 320 samples a side, one of Levin's kernels or another, a noise, a file and a size to tell."""
    rng = np.random.default_rng(seed)
    others = [psf.disk(2), psf.disk(3.5), psf.gaussian(1.2), psf.gaussian(2)]
    others += [psf.motion(9, 30), psf.motion(15, 100), psf.motion(21, 60)]
    among = kernels if rng.random() < 0.6 else others
    kernel = among[rng.integers(len(among))].double()
    longest = max(kernel.shape)
    while True:
        path, side = pictures[rng.integers(len(pictures))], int(rng.integers(96, 321))
        with Image.open(path) as picture:
            grey = picture.convert("L")
        if min(grey.size) >= side + longest:
            break
    short = int(rng.integers(side + longest, min(grey.size) + 1))
    scaled = [max(short, round(n * short / min(grey.size))) for n in grey.size]
    left, top = (int(rng.integers(n - side - longest + 1)) for n in scaled)
    cut = grey.resize((scaled[0], scaled[1]), Image.Resampling.LANCZOS).crop(
        (left, top, left + side + longest, top + side + longest)
    )
    wide = torch.from_numpy(np.asarray(cut, dtype=np.float64))
    seen = F.conv2d(wide[None, None], kernel.flip(0, 1)[None, None])[0, 0][:side, :side]
    truth = wide[tuple(slice(k - 1 - k // 2, k - 1 - k // 2 + side) for k in kernel.shape)]
    noise = float(rng.choice([0.25, 0.5, 1, 2])) / 100 * RANGE
    seen, file, error = saved(seen + noise * torch.from_numpy(rng.standard_normal(seen.shape)), rng)
    told = max(5, longest + int(rng.choice([-2, 0, 2, 4, 8]))) | 1
    words = f"{path.stem:15s} {side} noise {noise:4.1f} {file:6s} kernel {kernel.shape[0]}x{kernel.shape[1]} told {told}"
    return Case(words, kernel, truth, seen, max(noise, error), told)


def saved(seen: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, str, float]:
    """The picture as it comes from a file, the file's kind, and an error of its samples, at least."""
    file = str(rng.choice(["float", "8 bits", "JPEG"], p=[0.3, 0.35, 0.35]))
    if file == "float":
        return seen, file, 0.3
    seen = seen.round().clamp(0, 255)
    if file == "8 bits":
        return seen, file, 0.5
    written = io.BytesIO()
    Image.fromarray(seen.byte().numpy()).save(written, "JPEG", quality=int(rng.integers(75, 96)))
    with Image.open(written) as opened:
        return torch.from_numpy(np.asarray(opened).astype(np.float64)), file, 2.0


def mixed(pictures: list[Path], kernels: list[torch.Tensor], count: int, seed: int) -> None:
    """Judge estimates of all kinds, and set what is said of them beside their error ratios."""
    rows = []
    for number in range(seed, seed + count):
        given = case(number, pictures, kernels)
        found = estimate_and_judge(given.seen.float(), given.told)
        right, ours = (error_with(k, given.seen, given.truth, given.noise)[0] for k in (given.kernel, found.kernel))
        rows.append((min(given.seen.shape), ours / right, found.trusted))
        word = "trusted" if found.trusted else "warned of"
        print(f"{given.words}  ratio {ours / right:6.2f}  {found.confidence:.2f} {word}", flush=True)
    print("| samples a side | cases | ratio above 3 | of these warned of | of the others | median ratio, trusted | warned of |")
    print("|---|---|---|---|---|---|---|")
    table = np.array(rows)
    for words, least, most in (("96 to 159", 0, 160), ("160 to 255", 160, 256), ("256 to 320", 256, 999), ("all", 0, 999)):
        part = table[(table[:, 0] >= least) & (table[:, 0] < most)]
        bad, warned = part[:, 1] > BAD, part[:, 2] == 0
        cells = [len(part), bad.sum(), f"{warned[bad].sum()} of {bad.sum()}", f"{warned[~bad].sum()} of {(~bad).sum()}"]
        cells += [f"{np.median(part[of, 1]):.2f}" if of.any() else "" for of in (~warned, warned)]
        print(f"| {words} | {' | '.join(map(str, cells))} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    data = Path(os.environ.get("UNCONV_DATA", "../shared/data"))
    parser.add_argument("--pictures", type=Path, default=data / "standard_images")
    parser.add_argument("--names", nargs="+", default=FOUR)
    parser.add_argument("--kernels", type=Path, default=data / "inverse/kernels/Levin09.mat")
    parser.add_argument("--noise", type=float, default=1.0, help="per cent of the range")
    parser.add_argument("--larger", type=int, default=0, help="samples that the size told exceeds the kernel's by")
    parser.add_argument("--show", type=Path, help="a folder for the kernels, true above estimated, and the restored pictures")
    parser.add_argument("--more", type=Path, default=data / "inverse/images", help="more pictures, for --mixed")
    parser.add_argument("--mixed", type=int, default=0, help="so many cases of all kinds instead, to see which to trust")
    parser.add_argument("--seed", type=int, default=1000, help="of the first of them")
    asked = parser.parse_args()
    noise = asked.noise / 100 * RANGE
    kernels = levin_kernels(asked.kernels)
    if asked.mixed:
        pictures = [path for folder in (asked.pictures, asked.more) for path in sorted(folder.glob("*.png"))]
        mixed(pictures, kernels, asked.mixed, asked.seed)
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
