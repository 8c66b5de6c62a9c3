"""Time every unit of a network's places, and compare with the speed of torch's convolution on this machine."""

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
    """The timing of one place: its `units` were run backwards in `seconds`.

    Args:
        gflop: 10⁹ floating-point operations that their windows need, counted as direct convolutions.
        rate: 10⁹ floating-point operations per second.
        share: the rate as a share of the convolution rate in the same run; more than 1 is possible, as Winograd
            saves multiplications.
        error: the error of half precision, as in `Reconstructions`.
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
    """Time some places, by default every rectified map, and return all numbers, ready for JSON."""
    began = time.perf_counter()
    recording = network.record(image, places or None)
    device = recording.tape.image.device
    wait(device)
    recorded = time.perf_counter() - began
    names = list(places) or recording.rectified()
    request = Request((), channels, unit, method, dtype)
    walk_dtype = recording.requested(names[0], replace(request, channels=[])).route.dtype
    limit = convolution_rate(walk_dtype, device)  # in this run: machines and their load differ
    rows = []
    for number, place in enumerate(names):
        name = place if isinstance(place, str) else place.name
        progress(name, number, len(names))
        units = recording.requested(place, request)
        # Before the clock starts, as the error takes a second walk in float32.
        error, gflop = units.error, float(units.operations.sum()) / 1e9
        began = time.perf_counter()
        for _ in units.arrivals():
            pass
        wait(device)
        rows.append(_timing(name, len(units), time.perf_counter() - began, gflop, limit, error))
    progress("", len(names), len(names))
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
