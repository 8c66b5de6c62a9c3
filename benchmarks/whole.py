"""How long does a whole picture take, and how much memory, with nothing said but the PSF?

    python benchmarks/whole.py --pictures FOLDER [--sizes 512 4000x3000] [--rounds 5] [--threads 2]

Each picture is laid out of those in the folder, mirrored where they end, as large as it is asked for; a lens out of focus by
3 samples blurs it, noise of 2 of 255 is added, and 8 bits are kept: in grey as an array, in colour as a JPEG of quality 92.
Each round is a process of its own, which restores a small picture first. Beside its seconds stand those that its threads
worked, which say more where others work on the machine, too, and how many processors these others took meanwhile. The peak
is what the process holds beyond what it held before. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from unconv.inverse.fields.image.tiles import forecast
from unconv.inverse.psf import makers

RADIUS, NOISE, QUALITY = 3.0, 2.0, 92
CASE = """
import json, os, sys, time
import numpy as np, torch
from PIL import Image
from unconv.inverse.fields.image import deblur
from unconv.inverse.psf import makers

def held(what):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(what)).split()[1])

def busy():
    ticks = [int(n) for n in open("/proc/stat").readline().split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")

file, radius, threads = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
picture = file if file.endswith(".jpg") else np.asarray(Image.open(file))
psf = makers.disk(radius)
with Image.open(file) as small:
    deblur(np.asarray(small.crop((0, 0, 64, 64))), psf)
open("/proc/self/clear_refs", "w").write("5")
before, others = held("VmRSS"), busy()
began, worked = time.perf_counter(), time.process_time()
found = deblur(picture, psf)
seconds, worked, others = time.perf_counter() - began, time.process_time() - worked, busy() - others
said = {"seconds": seconds, "worked": worked, "others": (others - worked) / seconds}
print(json.dumps({**said, "peak": held("VmHWM") - before, "noise": found.noise, "notes": found.notes}))
"""


def laid_out(files: list[Path], size: tuple[int, int], mode: str) -> np.ndarray[Any, Any]:
    """Lay pictures side by side and below each other until they fill the size."""
    rows: list[np.ndarray[Any, Any]] = []
    number = 0
    while sum(len(row) for row in rows) < size[0]:
        row: list[np.ndarray[Any, Any]] = []
        while sum(part.shape[1] for part in row) < size[1]:
            with Image.open(files[number % len(files)]) as picture:
                part = np.asarray(picture.convert(mode))
            row.append(part[:, ::-1] if number // len(files) % 2 else part)
            number += 1
        height = min(len(part) for part in row)
        rows.append(np.concatenate([part[:height] for part in row], 1)[:, : size[1]])
    return np.concatenate(rows)[: size[0]]


def seen(truth: np.ndarray[Any, Any]) -> Image.Image:
    """The picture as a lens out of focus sees it, with noise, in 8 bits."""
    kernel = makers.disk(RADIUS).float()
    planes = torch.from_numpy(truth.copy()).float().reshape(*truth.shape[:2], -1).permute(2, 0, 1)[:, None]
    padded = torch.nn.functional.pad(planes, [n // 2 for n in kernel.shape[::-1] for _ in range(2)], mode="reflect")
    blurred = torch.nn.functional.conv2d(padded, kernel[None, None])[:, 0]
    noisy = blurred + NOISE * torch.randn(blurred.shape, generator=torch.Generator().manual_seed(0))
    return Image.fromarray(noisy.round().clamp(0, 255).byte().permute(1, 2, 0).squeeze(-1).numpy())


def restored(file: Path, threads: int) -> dict[str, Any]:
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    case = [sys.executable, "-c", CASE, str(file), str(RADIUS), str(threads)]
    made: dict[str, Any] = json.loads(subprocess.run(case, env=env, check=True, capture_output=True, text=True).stdout)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--sizes", nargs="+", default=["512", "4000x3000"], help="width x height, or a side")
    parser.add_argument("--kinds", nargs="+", default=["grey", "colour"], choices=("grey", "colour"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    files = sorted(asked.pictures.glob("*.png"))
    print(
        "| picture | seconds, median | least | worked | others' processors | peak | forecast |\n|---|---|---|---|---|---|---|"
    )
    for size in asked.sizes:
        width, height = ([int(n) for n in size.split("x")] * 2)[:2]
        for kind in asked.kinds:
            with tempfile.TemporaryDirectory() as folder:
                truth = laid_out(files, (height, width), "L" if kind == "grey" else "RGB")
                file = Path(folder) / ("picture.png" if kind == "grey" else "picture.jpg")
                seen(truth).save(file, **({} if kind == "grey" else {"quality": QUALITY}))
                rounds = [restored(file, asked.threads) for _ in range(asked.rounds)]
            taken = forecast((height, width), tuple(makers.disk(RADIUS).shape), "similar", 1 if kind == "grey" else 3)
            seconds = [r["seconds"] for r in rounds]
            cells = [f"{statistics.median(seconds):.1f}", f"{min(seconds):.1f}"]
            cells += [f"{statistics.median(r[key] for r in rounds):.1f}" for key in ("worked", "others")]
            cells += [f"{max(r['peak'] for r in rounds) / 1e6:.0f} MB", f"{taken / 1e6:.0f} MB"]
            print(f"| {width} × {height}, {kind} | {' | '.join(cells)} |", flush=True)
            print(*rounds[0]["notes"], sep="\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
