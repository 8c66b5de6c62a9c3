"""Receiver functions beside rf's: whether they agree on measured traces, how near the truth they come, and how long they take.

    python benchmarks/receiver_functions.py
    python benchmarks/receiver_functions.py --repeats 9 --spikes 400

Needs rf and ObsPy (`pip install rf`) for the comparisons; without them only unconv's own numbers are printed. The measured
traces are the example that rf comes with, from the data folder ($UNCONV_DATA/inverse/seismic): of its 13 events those from
30 to 90 degrees away, which rf takes. Both programs are timed in one run, by turns, on one thread.

Where the iterative ones differ, it is since rf's correlations go round in twice the trace's length, and late spikes then meet
early ones from behind; with that copied, the correlation is 1.0000 on every trace.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unconv.inverse.fields.seismic.receivers import receiver_function

DATA = Path(os.environ.get("UNCONV_DATA", "../shared/data")) / "inverse" / "seismic"
BEFORE, AFTER, RATE, SECONDS = 25, 75, 20, 60
GRID = 1152  # unconv's FFT length for these traces
_CONVERSIONS = {4.0: 0.35, 13.5: 0.2, 17.5: -0.15}  # seconds after P: Ps, PpPs, PpSs


def optional() -> Any:
    """Return rf's deconvolution, or None where rf is not installed."""
    warnings.simplefilter("ignore")
    try:
        import rf.deconvolve as peer
    except ImportError:
        print("rf is not installed (pip install rf): its columns and the measured traces are left out.")
        return None
    return peer


def measured() -> tuple[np.ndarray, np.ndarray, float]:
    """Return radial and vertical components (events, n) around the P arrivals, rotated by rf, and their rate in Hz."""
    from obspy import read, read_events, read_inventory
    from rf import RFStream, rfstats

    events, inventory = read_events(DATA / "rf_example_events.xml"), read_inventory(DATA / "rf_example_inventory.xml")
    pairs = []
    stream = RFStream(read(str(DATA / "rf_example_data.mseed")))
    for event in events:
        origin = (event.preferred_origin() or event.origins[0]).time
        three = RFStream([trace.copy() for trace in stream if abs(trace.stats.starttime - origin - 300) < 5])
        rfstats(three, event=event, station=inventory.get_coordinates(three[0].id))
        if not three:  # rf leaves out what is nearer than 30 or farther than 90 degrees
            continue
        three.detrend("linear")
        three.filter("bandpass", freqmin=0.03, freqmax=1.5)
        three.trim2(-BEFORE, AFTER, "onset")
        three.rotate("NE->RT")
        pairs.append([three.select(component=letter)[0].data for letter in "RZ"])
    n = min(len(trace) for pair in pairs for trace in pair)
    both = np.array([[trace[:n] for trace in pair] for pair in pairs])
    return both[:, 0], both[:, 1], float(stream[0].stats.sampling_rate)


def synthetic(noise: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (radial, vertical, the true receiver function): a source of 15 s under a crust; `noise` by standard deviations."""
    draw = np.random.default_rng(seed)
    n = RATE * SECONDS
    source = np.zeros(n)
    source[: 15 * RATE] = draw.standard_normal(15 * RATE) * np.exp(-np.arange(15 * RATE) / (4 * RATE))
    spikes = np.zeros(n)
    for seconds, height in {0.0: 0.5, **_CONVERSIONS}.items():
        spikes[round(seconds * RATE)] = height
    vertical = smooth(source)
    radial = np.convolve(vertical, spikes)[:n]
    # 5 s of quiet before the wave, as a window of measured traces has.
    shift = 5 * RATE
    radial, vertical = (np.concatenate([np.zeros(shift), x[: n - shift]]) for x in (radial, vertical))
    # Noise in the band that the low-pass lets through: white noise of 20 Hz would be taken out by it.
    radial, vertical = (x + noise * x.std() * _unit(smooth(draw.standard_normal(n))) for x in (radial, vertical))
    truth = smooth(np.concatenate([np.zeros(shift), spikes[: n - shift]]))
    return radial, vertical, truth


def smooth(x: np.ndarray, gauss: float = 0.5) -> np.ndarray:
    """Low-pass by the Gaussian."""
    f = np.fft.rfftfreq(2 * len(x), 1 / RATE)
    return np.fft.irfft(np.fft.rfft(x, 2 * len(x)) * np.exp(-((f / gauss) ** 2) / 2))[: len(x)]


def _unit(x: np.ndarray) -> np.ndarray:
    return x / x.std()


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Return the correlation of two traces about zero."""
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def peers(peer: Any, radial: np.ndarray, vertical: np.ndarray, rate: float, method: str, before: float, **how: Any) -> Any:
    """Return rf's receiver function of one pair, normalised by the vertical component's own."""
    if method == "iterative":
        return peer.deconv_iterative([vertical, radial], vertical, rate, tshift=before, **how)[0][1]
    return peer.deconv_waterlevel([vertical, radial], vertical, rate, tshift=before, **how)[1].real


def on_measured(peer: Any) -> None:
    """Print how alike both programs' receiver functions are."""
    radial, vertical, rate = measured()
    # rf's water level goes round by default: what ends the trace falls on its beginning. So it is told unconv's FFT length.
    print(
        f"\n{len(radial)} events at CX.PB01, {radial.shape[1]} samples at {rate:g} Hz: correlation with rf's, least and median"
    )
    for method, how in {"iterative": {}, "waterlevel": {"waterlevel": 0.01, "nfft": GRID}}.items():
        found = receiver_function(radial, vertical, rate, method, start=-BEFORE)
        alike = []
        for r, v, ours in zip(radial, vertical, found.trace, strict=True):
            theirs = peers(peer, r, v, rate, method, BEFORE, **how)
            alike.append(likeness(theirs, ours))
        print(f"  {method:12s} {min(alike):.4f} {statistics.median(alike):.4f}   explained {np.median(found.fit):.2f}")


def on_synthetic(peer: Any, trials: int = 10) -> None:
    """Print how near the truth both come."""
    print(f"\nsynthetic, {trials} trials: mean correlation with the truth at SNR 100, 20 and 10; unconv's / rf's")
    for method, how in {"iterative": {}, "waterlevel": {"waterlevel": 0.01}, "multitaper": None}.items():
        cells = []
        for snr in (100, 20, 10):
            r, v, truth = (np.array(x) for x in zip(*(synthetic(1 / snr, seed) for seed in range(trials)), strict=True))
            ours = receiver_function(r, v, RATE, method, start=-5).trace
            # The window begins 5 s before time 0, where the truth has its direct wave.
            cell = f"{np.mean([likeness(*both) for both in zip(truth, ours, strict=True)]):.3f}"
            if peer is not None and how is not None:
                theirs = [peers(peer, *both, RATE, method, 5, **how) for both in zip(r, v, strict=True)]
                cell += f" / {np.mean([likeness(*both) for both in zip(truth, theirs, strict=True)]):.3f}"
            cells.append(cell)
        print(f"  {method:12s} " + "   ".join(cells))


def on_time(peer: Any, spikes: int, repeats: int) -> None:
    """Print the milliseconds a trace takes with all spikes put."""
    r, v, _ = (np.array(x) for x in zip(*(synthetic(0.1, seed) for seed in range(16)), strict=True))
    jobs: dict[str, tuple[int, Callable[[], Any]]] = {
        "unconv, one trace": (1, lambda: receiver_function(r[0], v[0], RATE, spikes=spikes, min_gain=0)),
        "unconv, 16 at once": (16, lambda: receiver_function(r, v, RATE, spikes=spikes, min_gain=0)),
    }
    if peer is not None:
        jobs["rf, one trace"] = (
            1,
            lambda: peer.deconv_iterative([r[0]], v[0], RATE, tshift=5, itmax=spikes, minderr=0, normalize=None),
        )
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats + 1):
        for name, (count, job) in jobs.items():
            begun = time.perf_counter()
            job()
            taken[name].append((time.perf_counter() - begun) * 1e3 / count)
    print(f"\niterative, {spikes} spikes in {r.shape[1]} samples, one component: ms a trace, median of {repeats}")
    for name, times in taken.items():
        print(f"  {name:20s} {statistics.median(times[1:]):8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--spikes", type=int, default=400)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    peer = optional()
    if peer is not None:
        on_measured(peer)
    on_synthetic(peer)
    on_time(peer, arguments.spikes, arguments.repeats)


if __name__ == "__main__":
    main()
