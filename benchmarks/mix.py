"""What `deblur` makes of a large random mix of pictures, blurs, noises and files, with nothing said but the PSF.

    python benchmarks/mix.py --cases 2000 --seed 0 --workers 2

Every case draws one of each kind at random. Gains are in decibels of the mean square error over what was observed, on
all of the picture. A case is lost if it is worse by more than 0.1 dB. It needs the pictures of the data folder.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
import warnings
from collections.abc import Callable
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from unconv.inverse.fields.image import deblur
from unconv.inverse.psf import makers as psf

LOST = -0.1
Picture = np.ndarray[Any, Any]
Draw = np.random.Generator
DATA = Path(os.environ.get("UNCONV_DATA", "../shared/data"))

# Pictures: 0 to 255, (H, W) or (H, W, 3), with a margin that only the blur sees.


@cache
def files(folder: str, pattern: str) -> list[Path]:
    found = sorted((DATA / folder).glob(pattern))
    if not found:
        raise SystemExit(f"there is no {pattern} in {DATA / folder}; set UNCONV_DATA")
    return found


def photograph(rng: Draw, side: tuple[int, int]) -> Picture:
    path = files("imagenet_sample", "*.jpg")[int(rng.integers(len(files("imagenet_sample", "*.jpg"))))]
    with Image.open(path) as picture:
        half = picture.convert("RGB").resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)
    return part(np.asarray(half, dtype=float), rng, side)


def classic(rng: Draw, side: tuple[int, int]) -> Picture:
    path = files("standard_images", "*.png")[int(rng.integers(len(files("standard_images", "*.png"))))]
    with Image.open(path) as picture:
        return part(np.asarray(picture.convert("RGB" if picture.mode in ("RGB", "P") else "L"), dtype=float), rng, side)


def part(samples: Picture, rng: Draw, side: tuple[int, int]) -> Picture:
    if any(n < m for n, m in zip(samples.shape, side, strict=False)):
        pads = [(0, max(0, m - n)) for n, m in zip(samples.shape, side, strict=False)]
        samples = np.pad(samples, pads + [(0, 0)] * (samples.ndim - 2), mode="reflect")
    y, x = (int(rng.integers(n - m + 1)) for n, m in zip(samples.shape, side, strict=False))
    return samples[y : y + side[0], x : x + side[1]]


def text(rng: Draw, side: tuple[int, int]) -> Picture:
    page = Image.new("L", side[::-1], 255 - int(rng.integers(60)))
    draw, size = ImageDraw.Draw(page), int(rng.integers(9, 22))
    font = ImageFont.load_default(size)
    for row in range(0, side[0], int(size * 1.3)):
        draw.text((4, row), "".join(map(chr, rng.integers(33, 123, side[1] // 4))), fill=int(rng.integers(70)), font=font)
    return np.asarray(page, dtype=float)


def barcode(rng: Draw, side: tuple[int, int]) -> Picture:
    if rng.random() < 0.5:
        bars = np.repeat(rng.integers(0, 2, side[1]), int(rng.integers(2, 5)))[: side[1]]
        return 30 + 200.0 * np.broadcast_to(bars, side)
    cell = int(rng.integers(3, 7))
    cells = rng.integers(0, 2, [-(-n // cell) for n in side])
    return 30 + 200.0 * np.kron(cells, np.ones((cell, cell)))[: side[0], : side[1]]


def drawing(rng: Draw, side: tuple[int, int]) -> Picture:
    page = Image.new("RGB", side[::-1], tuple(int(v) for v in rng.integers(0, 256, 3)))
    draw = ImageDraw.Draw(page)
    for _ in range(int(rng.integers(3, 25))):
        y, x = (int(v) for v in rng.integers(0, side))
        box, fill = (
            [x, y, x + int(rng.integers(3, 80)), y + int(rng.integers(3, 80))],
            tuple(int(v) for v in rng.integers(0, 256, 3)),
        )
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(box, fill=fill)
    return np.asarray(page, dtype=float)


def spots(rng: Draw, side: tuple[int, int]) -> Picture:
    picture = np.full(side, float(rng.integers(2, 30)))
    for _ in range(int(rng.integers(5, 60))):
        picture[tuple(int(v) for v in rng.integers(0, side))] += 10 ** rng.uniform(2, 4)
    return np.minimum(smooth(picture, 1.0).numpy(), 255)


def soft(rng: Draw, side: tuple[int, int]) -> Picture:
    coarse = Image.fromarray(rng.uniform(20, 235, (int(rng.integers(2, 7)), int(rng.integers(2, 7)))).astype(np.float32))
    return np.asarray(coarse.resize(side[::-1], Image.Resampling.BICUBIC), dtype=float).clip(0, 255)


PICTURES: dict[str, Callable[[Draw, tuple[int, int]], Picture]] = {
    "photograph": photograph,
    "classic picture": classic,
    "text": text,
    "barcode": barcode,
    "drawing": drawing,
    "spots": spots,
    "soft": soft,
}
PICTURE_ODDS = (0.35, 0.25, 0.12, 0.08, 0.1, 0.05, 0.05)

# Blurs


def shake(rng: Draw) -> torch.Tensor:
    """Draw the path of a hand, whose speed changes at random."""
    side, steps = int(rng.integers(9, 24)), 400
    speed = np.cumsum(rng.standard_normal((steps, 2)), 0)
    path = np.cumsum(speed - speed.mean(0) * rng.uniform(0, 1), 0)
    path = (path - path.min(0)) / max(np.ptp(path, 0).max(), 1e-9) * (side - 4) + 2
    path += side // 2 + 0.5 - path.mean(0)  # its mass in the middle, else what was observed is also shifted
    drawn, _, _ = np.histogram2d(path[:, 0], path[:, 1], bins=side, range=[[0, side], [0, side]])
    return smooth(drawn / drawn.sum(), 0.6).float()


def smooth(picture: Picture, width: float) -> torch.Tensor:
    kernel = psf.gaussian(width).double()[None, None]
    return torch.nn.functional.conv2d(torch.from_numpy(picture)[None, None], kernel, padding="same")[0, 0]


BLURS: dict[str, Callable[[Draw], torch.Tensor]] = {
    "gaussian": lambda rng: psf.gaussian(float(rng.uniform(0.5, 4))),
    "disk": lambda rng: psf.disk(float(rng.uniform(0.8, 6))),
    "motion": lambda rng: psf.motion(float(rng.uniform(2, 25)), float(rng.uniform(0, 180))),
    "uniform": lambda rng: psf.uniform(int(rng.integers(2, 13))),
    "shake": shake,
}

# Noises: what is added to 0 to 255.


def coloured(seen: Picture, rng: Draw) -> Picture:
    width, size = float(rng.uniform(0.5, 1.5)), float(rng.choice([1, 2, 4]))
    noise = smooth(rng.standard_normal(seen.shape[:2]), width).numpy()
    return seen + (size * noise / noise.std()).reshape(noise.shape + (1,) * (seen.ndim - 2))


NOISES: dict[str, Callable[[Picture, Draw], Picture]] = {
    "none": lambda seen, rng: seen,
    "white": lambda seen, rng: seen + float(10 ** rng.uniform(-1, 1.5)) * rng.standard_normal(seen.shape),
    "shot": lambda seen, rng: rng.poisson(np.maximum(seen, 0) * (g := 10 ** rng.uniform(-0.5, 1.5))) / g,
    "coloured": coloured,
}
NOISE_ODDS = (0.25, 0.5, 0.15, 0.1)

# Files: what is made of the noisy picture before it is given to `deblur`.


def eight(seen: Picture, rng: Draw) -> Picture:
    return np.clip(np.round(seen), 0, 255).astype(np.uint8)


def sixteen(seen: Picture, rng: Draw) -> Picture:
    return np.clip(np.round(seen * 257), 0, 65535).astype(np.uint16)


def packed(kind: str) -> Callable[[Picture, Draw], Picture]:
    def save(seen: Picture, rng: Draw) -> Picture:
        file, how = io.BytesIO(), {"subsampling": int(rng.choice([0, 2]))} if kind == "JPEG" else {}
        Image.fromarray(eight(seen, rng)).save(file, kind, quality=int(rng.integers(50, 99)), **how)
        with Image.open(file) as picture:
            return np.asarray(picture.convert("L" if seen.ndim == 2 else "RGB"))

    return save


def demosaicked(seen: Picture, rng: Draw) -> Picture:
    """What a camera with a Bayer filter makes of it, its missing colours the means of their neighbours."""
    if seen.ndim == 2:
        return eight(seen, rng)
    kept = np.zeros(seen.shape)
    for channel, places in enumerate([[(0, 0)], [(0, 1), (1, 0)], [(1, 1)]]):
        for y, x in places:
            kept[y::2, x::2, channel] = 1
    triangle = torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=torch.float64)[None, None]
    total, share = (
        torch.nn.functional.conv2d(torch.from_numpy(a).permute(2, 0, 1)[:, None], triangle, padding=1)[:, 0]
        for a in (np.asarray(eight(seen, rng), float) * kept, kept)
    )
    return eight((total / share).permute(1, 2, 0).numpy(), rng)


def smoothed(seen: Picture, rng: Draw) -> Picture:
    """What a telephone does to noise."""
    return np.asarray(Image.fromarray(eight(seen, rng)).filter(ImageFilter.MedianFilter(3)))


def sharpened(seen: Picture, rng: Draw) -> Picture:
    return np.asarray(Image.fromarray(eight(seen, rng)).filter(ImageFilter.UnsharpMask(1, int(rng.integers(30, 90)), 2)))


def telephone(seen: Picture, rng: Draw) -> Picture:
    return packed("JPEG")(sharpened(smoothed(seen, rng).astype(float), rng).astype(float), rng)


FILES: dict[str, Callable[[Picture, Draw], Picture]] = {
    "float": lambda seen, rng: seen,
    "8 bits": eight,
    "16 bits": sixteen,
    "JPEG": packed("JPEG"),
    "WebP": packed("WEBP"),
    "demosaicked": demosaicked,
    "median filter": smoothed,
    "sharpened": sharpened,
    "telephone": telephone,
}
FILE_ODDS = (0.12, 0.2, 0.08, 0.25, 0.07, 0.08, 0.06, 0.07, 0.07)


def blurred(picture: Picture, kernel: torch.Tensor) -> Picture:
    planes = torch.from_numpy(picture.reshape(*picture.shape[:2], -1)).permute(2, 0, 1)[:, None]
    seen = torch.nn.functional.conv2d(planes, kernel.double().flip(0, 1)[None, None])[:, 0].permute(1, 2, 0).numpy()
    return seen.reshape(*seen.shape[:2], *picture.shape[2:])


def chosen(table: dict[str, Any], rng: Draw, odds: tuple[float, ...] | None = None) -> str:
    return str(rng.choice(list(table), p=odds))


def made(number: int, seed: int) -> tuple[dict[str, Any], Picture, Picture, torch.Tensor]:
    """(what it is, observed, truth in its units, PSF) of one case."""
    rng = np.random.default_rng([seed, number])
    kinds = {
        "picture": chosen(PICTURES, rng, PICTURE_ODDS),
        "blur": chosen(BLURS, rng),
        "noise": chosen(NOISES, rng, NOISE_ODDS),
    }
    kinds["file"] = chosen(FILES, rng, FILE_ODDS)
    kernel = BLURS[kinds["blur"]](rng)
    size = [int(n) for n in np.exp(rng.uniform(np.log(40), np.log(150), 2))]
    sharp = PICTURES[kinds["picture"]](rng, (size[0] + kernel.shape[0] - 1, size[1] + kernel.shape[1] - 1))
    if sharp.ndim == 3 and rng.random() < 0.6:
        sharp = sharp.mean(2)  # most are grey, which takes a third of the time
    # Where the PSF's middle stands.
    inside = tuple(slice(k - 1 - k // 2, k - 1 - k // 2 + n) for k, n in zip(kernel.shape, size, strict=True))
    observed = FILES[kinds["file"]](NOISES[kinds["noise"]](blurred(sharp, kernel), rng), rng)
    scale = 257.0 if kinds["file"] == "16 bits" else 1.0
    return {"number": number, "size": size, **kinds}, observed, sharp[inside] * scale, kernel


def error(picture: Picture, truth: Picture) -> float:
    return float(((np.asarray(picture, float) - truth) ** 2).mean())


def case(job: tuple[int, int, str]) -> dict[str, Any]:
    number, seed, method = job
    torch.set_num_threads(1)
    said, observed, truth, kernel = made(number, seed)
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = deblur(observed, kernel, method=method)
    took = time.perf_counter() - begun
    before, after = error(observed, truth), error(found.picture, truth)
    gain = 10 * np.log10(max(before, 1e-12) / max(after, 1e-12))
    return {
        **said,
        "gain": float(gain),
        "psnr": float(10 * np.log10((truth.max() or 1) ** 2 / max(before, 1e-12))),
        "seconds": took,
        "noise found": found.noise,
        "notes": found.notes,
    }


def table(rows: list[dict[str, Any]]) -> None:
    print("\n| kind | cases | mean gain | median | least | lost |\n|---|---|---|---|---|---|")
    for kind in ("picture", "blur", "noise", "file"):
        for name in dict.fromkeys(row[kind] for row in sorted(rows, key=lambda row: str(row[kind]))):
            line(f"{kind}: {name}", [row["gain"] for row in rows if row[kind] == name])
    line("all", [row["gain"] for row in rows])


def line(name: str, gains: list[float]) -> None:
    lost = sum(gain < LOST for gain in gains)
    print(f"| {name} | {len(gains)} | {np.mean(gains):.2f} | {np.median(gains):.2f} | {min(gains):.2f} | {lost} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", default="auto")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--out", help="write every case to this file, a line of JSON each; those that it holds are not made again"
    )
    asked = parser.parse_args()
    out = None if asked.out is None else Path(asked.out)
    rows = [json.loads(row) for row in out.read_text().splitlines()] if out is not None and out.exists() else []
    done = {row["number"] for row in rows}
    jobs = [(number, asked.seed, asked.method) for number in range(asked.cases) if number not in done]
    with get_context("spawn").Pool(asked.workers) as pool:
        for row in pool.imap(case, jobs):
            rows.append(row)
            if out is not None:
                with out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            if row["gain"] < LOST:
                print({key: value for key, value in row.items() if key != "notes"}, flush=True)
    table(rows)


if __name__ == "__main__":
    main()
