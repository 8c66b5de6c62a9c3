"""What this machine reaches: every unit of a network's places, timed beside the convolution itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from unconv.pictures.decode import Source
from unconv.progress import Progress
from unconv.reverse.method_table import Method
from unconv.reverse.methods import Rules, method_named
from unconv.reverse.network import Network
from unconv.reverse.places import Place
from unconv.reverse.request import Request
from unconv.reverse.seed import Channels, Unit
from unconv.reverse.walking.cost import convolution_rate, wait
from unconv.version import __version__


@dataclass(frozen=True)
class Timing:
    """One place: its `units` went back in `seconds`.

    Args:
        gflop: 10⁹ floating-point operations that their windows need, counted as direct convolutions.
        rate: 10⁹ of them per second.
        share: of the convolution rate that was measured in the same run; more than 1 is possible, as tiles
            save multiplications.
        error: of half precision, as in `Reconstructions`.
    """

    place: str
    units: int
    seconds: float
    units_per_second: float
    gflop: float
    rate: float
    share: float
    error: float | None


def bench(
    network: Network,
    image: Source,
    places: Sequence[str | Place] = (),
    channels: Channels = "all",
    unit: Unit = "strongest",
    method: Method | Rules = "deconvnet",
    dtype: str | torch.dtype | None = None,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Time every place; without places, every rectified map. All numbers, ready for JSON."""
    began = time.perf_counter()
    recording = network.record(image, places or None)
    device = recording.tape.image.device
    wait(device)
    recorded = time.perf_counter() - began
    wanted = list(places) or recording.rectified()
    request = Request((), channels, unit, method, dtype)
    walk_dtype = recording.requested(wanted[0], replace(request, channels=[])).route.dtype
    limit = convolution_rate(walk_dtype, device)  # in this very run: machines, and their noise, differ
    rows = []
    for done, place in enumerate(wanted):
        name = place if isinstance(place, str) else place.name
        progress(name, done, len(wanted))
        units = recording.requested(place, request)
        # Before the clock starts: the error is measured by a second walk in float32.
        error, gflop = units.error, float(units.operations.sum()) / 1e9
        began = time.perf_counter()
        for _ in units.arrivals():
            pass
        wait(device)
        rows.append(_timing(name, len(units), time.perf_counter() - began, gflop, limit, error))
    progress("", len(wanted), len(wanted))
    total = _timing("all", sum(r.units for r in rows), sum(r.seconds for r in rows), sum(r.gflop for r in rows), limit, None)
    return {
        "network": network.name,
        "weights": network.weights,
        "image": list(recording.tape.image.shape[1:]),
        "preprocess": recording.preparation.numbers(),
        "method": method_named(method).name,
        "dtype": str(walk_dtype).removeprefix("torch."),
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "unconv": __version__,
        "seconds_recording": recorded,
        "convolution_rate": limit / 1e9,
        "places": [asdict(row) for row in rows],
        "total": asdict(total),
    }


def _timing(place: str, units: int, seconds: float, gflop: float, limit: float, error: float | None) -> Timing:
    seconds = max(seconds, 1e-9)
    rate = gflop / seconds
    return Timing(place, units, seconds, units / seconds, gflop, rate, 1e9 * rate / limit, error)
