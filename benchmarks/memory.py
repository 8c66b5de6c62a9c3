"""Does a restoration take the memory that is forecast for it?

    python benchmarks/memory.py [--methods dct tv] [--sizes 1024 2048 | --volumes 96] [--tiles 4] [--json FILE]

Each case is a process of its own on one thread, float32, with an unknown boundary and steps enough to come to every kind of
step. The peak is what the process holds at most during `deblur`, by the system's account, beyond what it held before, with the
picture. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from unconv.inverse.fields.image.table import METHODS
from unconv.inverse.fields.image.tiles import forecast

STEPS = {"tv": 26, "wavelet": 4, "richardson-lucy": 6, "similar": 4, "dct": 4}
PLANES, VOLUMES = (512, 1024, 2048), (48, 96, 128)  # lengths of a side
KERNELS = {2: (7, 7), 3: (5, 5, 5)}
CASE = """
import sys, torch
from unconv.inverse.fields.image import deblur
from unconv.inverse.psf import makers

def held(what):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(what)).split()[1])

method, steps, shape, axes, size, tiled = eval(sys.argv[1])
settings = {"noise": 3.0, "method": method, "steps": steps, "axes": axes}
psf = torch.ones(size) / torch.ones(size).numel()
small = [n if letter == "C" else 24 if "D" in axes else 80 for n, letter in zip(shape, axes)]
deblur(torch.rand(small) * 200, psf, **settings, memory=1e12)
picture = torch.rand(shape).mul_(200)
before = held("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
deblur(picture, psf, **settings, memory=tiled or 1e12)
print(held("VmHWM") - before)
"""


def measured(method: str, shape: tuple[int, ...], axes: str, size: tuple[int, ...], room: float | None = None) -> int:
    """Return the bytes that a restoration took at its peak."""
    case = (method, STEPS.get(method), shape, axes, size, room)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CASE, repr(case)], env=env, check=True, capture_output=True, text=True)
    return int(done.stdout)


def cases(methods: list[str], sizes: list[int], volumes: list[int]) -> list[tuple[str, tuple[int, ...], str]]:
    """Return (method, shape, axes) of each: grey and colour pictures and volumes."""
    found = []
    for method in methods:
        for n in sizes:
            found += [(method, (n, n), "HW"), (method, (3, n, n), "CHW")]
        if 3 in METHODS[method].axes:
            found += [(method, (n, n, n), "DHW") for n in volumes]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--sizes", nargs="*", type=int, default=PLANES, help="sides of pictures, grey and in colour")
    parser.add_argument("--volumes", nargs="*", type=int, default=VOLUMES, help="sides of volumes")
    parser.add_argument("--tiles", type=int, default=1, help="allow the forecast of one of so many tiles only")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for method, shape, axes in cases(arguments.methods, arguments.sizes, arguments.volumes):
        spatial = shape[1:] if axes == "CHW" else shape
        size, channels = KERNELS[len(spatial)], 3 if axes == "CHW" else 1
        whole = forecast(spatial, size, method, channels)
        room = whole / arguments.tiles if arguments.tiles > 1 else None
        peak, told = measured(method, shape, axes, size, room), room or whole
        rows.append({"method": method, "shape": shape, "peak": peak, "forecast": told, "ratio": peak / told})
        print(
            f"{method:16} {axes:4} {shape!s:20} {peak / 1e6:8.0f} MB, forecast {told / 1e6:8.0f}: {peak / told:5.2f}",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
