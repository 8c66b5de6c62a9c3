"""Dereverberation beside nara_wpe's: how near the direct sound it comes in measured and simulated rooms, and how long it takes.

    python benchmarks/speech.py
    python benchmarks/speech.py --json speech.json --repeats 5

Needs the data folder ($UNCONV_DATA/inverse), and `pip install pesq pystoi`; pyroomacoustics for simulated rooms, h5py for
the measured one, nara_wpe for its rows: what is not installed is said and left out.

Cases: three CMU ARCTIC utterances (11 s, 16 kHz), each by itself, in the University of Surrey's room A (two ears, source
straight ahead and at 45 degrees) and in a shoebox of 6 x 5 x 3 m by the image method, eight microphones on a circle of 20 cm
across, at three reverberation times. All methods get the same recordings, without noise. The reference is the direct sound at
the first microphone: each response until 2.5 ms after its peak. PESQ is wide-band; CD the cepstral distance of 24 coefficients,
means taken away, at most 10 dB a frame; SI-SDR is in dB. Each number is a mean over the utterances.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import time
import warnings
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unconv.inverse.fields.speech import dereverb

DATA = Path(os.environ.get("UNCONV_DATA", "../shared/data")) / "inverse"
RATE = 16000
UTTERANCES = ("aew_a0001", "aew_a0002", "axb_a0004")
TAPS = {1: 40, 2: 20, 8: 10}  # nara_wpe's, by the number of channels
LONG_TAPS = {1: 200, 2: 100, 8: 25}  # half as many unknowns as there are frames
LONG_ROOM = "shoebox, RT60 0.6 s"  # in which they are tried
Signal = np.ndarray[Any, np.dtype[np.float64]]


def optional(name: str) -> Any:
    """Return a module, or None where it is not installed."""
    warnings.simplefilter("ignore")
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed: what needs it is left out.")
        return None


def utterances() -> list[Signal]:
    found = []
    for name in UTTERANCES:
        with wave.open(str(DATA / "speech" / f"cmu_arctic_us_{name}.wav")) as file:
            found.append(np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768)
    return found


def rooms() -> dict[str, Signal]:
    """Return impulse responses by the names of their rooms: (channels, taps)."""
    found = {}
    if h5py := optional("h5py"):
        with h5py.File(DATA / "rir" / "UniS_Room_A_BRIR_16k.sofa") as file:
            places = file["SourcePosition"][:, 0]
            for angle in (0, 45):
                found[f"Surrey A, {angle} degrees"] = file["Data.IR"][int(np.flatnonzero(places == angle)[0])]
    if pyroom := optional("pyroomacoustics"):
        for seconds in (0.3, 0.6, 0.9):
            found[f"shoebox, RT60 {seconds} s"] = shoebox(pyroom, seconds)
    return found


def shoebox(
    pyroom: Any,
    seconds: float,
    size: tuple[float, float, float] = (6, 5, 3),
    centre: tuple[float, float, float] = (2.5, 2.0, 1.4),
    source: tuple[float, float, float] = (4.2, 3.4, 1.6),
    radius: float = 0.1,
    microphones: int = 8,
) -> Signal:
    """Return responses (microphones, taps) of a circular array by the image method."""
    absorption, order = pyroom.inverse_sabine(seconds, size)
    room = pyroom.ShoeBox(size, fs=RATE, materials=pyroom.Material(absorption), max_order=order)
    room.add_source(source)
    angles = 2 * np.pi * np.arange(microphones) / microphones
    around = np.array([radius * np.cos(angles), radius * np.sin(angles), 0 * angles])
    room.add_microphone(np.array(centre)[:, None] + around)
    room.compute_rir()
    responses = [each[0] for each in room.rir]
    longest = max(map(len, responses))
    return np.stack([np.pad(each, (0, longest - len(each))) for each in responses])


def heard(source: Signal, responses: Signal) -> tuple[Signal, Signal]:
    """Return (what the microphones hear, the direct sound at the first), (channels, n) and (n,)."""
    n = len(source)
    peak = int(np.argmax(np.abs(responses[0]))) + round(0.0025 * RATE)
    return np.array([convolved(source, each)[:n] for each in responses]), convolved(source, responses[0][:peak])[:n]


def convolved(a: Signal, b: Signal) -> Signal:
    length = 2 ** (len(a) + len(b)).bit_length()
    return np.fft.irfft(np.fft.rfft(a, length) * np.fft.rfft(b, length))


def cepstral_distance(reference: Signal, signal: Signal) -> float:
    """Return the mean over frames of 25 ms every 10 ms, in dB, as the REVERB challenge's tools compute it."""
    both = [_cepstra(x) for x in (reference, signal)]
    away = both[0] - both[1]
    distance = 10 / np.log(10) * np.sqrt(away[:, 0] ** 2 + 2 * (away[:, 1:] ** 2).sum(1))
    return float(np.minimum(distance, 10).mean())


def _cepstra(x: Signal) -> Signal:
    frames = np.lib.stride_tricks.sliding_window_view(x, 400)[::160] * np.hanning(400)
    magnitude = np.abs(np.fft.rfft(frames, 512))
    cepstra = np.fft.irfft(np.log(np.maximum(magnitude, 1e-5 * magnitude.max())))[:, :25]
    return cepstra - cepstra.mean(0)


def distortion_ratio(reference: Signal, signal: Signal) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB."""
    part = (reference @ signal) / (reference @ reference) * reference
    return float(10 * np.log10((part @ part) / ((signal - part) @ (signal - part))))


def methods(peer: Any, room: str, channels: int) -> dict[str, Callable[[Signal, int], Signal]]:
    """Return what is compared, by name: from (recording, its channels) to a result."""
    found: dict[str, Callable[[Signal, int], Signal]] = {"reverberant": lambda y, _: y}
    if peer:
        found["nara_wpe 0.0.11"] = lambda y, channels: nara(peer, y, TAPS[channels])
    found["unconv wpe"] = lambda y, channels: dereverb(y, RATE, "wpe", taps=TAPS[channels]).signal
    for method in ("wpe-wiener", "wpe-mvdr", "wpe-online"):
        if method == "wpe-mvdr" and channels == 1:  # it does what wpe-wiener does
            continue
        found[f"unconv {method}"] = lambda y, _, method=method: dereverb(y, RATE, method).signal
    if room != LONG_ROOM:
        return found
    if peer:
        found["nara_wpe, over-long taps"] = lambda y, channels: nara(peer, y, LONG_TAPS[channels])
    for method in ("wpe", "wpe-wiener"):
        name = f"unconv {method}, over-long taps"
        found[name] = lambda y, channels, method=method: dereverb(y, RATE, method, taps=LONG_TAPS[channels]).signal
    return found


def nara(peer: Any, signal: Signal, taps: int, variant: str = "wpe_v8") -> Signal:
    """Run nara_wpe as its examples do: 512 / 128, delay 3, 3 iterations."""
    tools = importlib.import_module("nara_wpe.utils")
    spectra = tools.stft(signal, 512, 128).transpose(2, 0, 1)
    early = getattr(peer, variant)(spectra, taps=taps, delay=3, iterations=3)
    return np.asarray(tools.istft(early.transpose(1, 2, 0), 512, 128)[:, : signal.shape[1]])


def quality(peer: Any) -> dict[str, dict[str, list[float]]]:
    """Print and return (PESQ, STOI, CD, SI-SDR) of the first channel: by case, then by method."""
    pesq, stoi = optional("pesq"), optional("pystoi")
    table: dict[str, dict[str, list[float]]] = {}
    if not (pesq and stoi):
        return table
    for room, responses in rooms().items():
        recordings = [heard(source, responses) for source in utterances()]
        for channels in (count for count in TAPS if count <= len(responses)):
            case = f"{room}, {channels} channel{'s' if channels > 1 else ''}"
            print(f"\n{case:36}{'PESQ':>7}{'STOI':>7}{'CD':>7}{'SI-SDR':>8}")
            table[case] = {}
            for name, method in methods(peer, room, channels).items():
                scores = []
                for observed, direct in recordings:
                    result = method(observed[:channels], channels)[0]
                    numbers = pesq.pesq(RATE, direct, result, "wb"), stoi.stoi(direct, result, RATE)
                    scores.append([*numbers, cepstral_distance(direct, result), distortion_ratio(direct, result)])
                mean = [float(value) for value in np.mean(scores, 0)]
                table[case][name] = mean
                print(f"  {name:34}{mean[0]:7.2f}{mean[1]:7.3f}{mean[2]:7.2f}{mean[3]:8.2f}", flush=True)
    return table


def summary(table: dict[str, dict[str, list[float]]]) -> None:
    """Print each method's mean PESQ above nara_wpe's, and the least of any case, by the number of channels."""
    base = "nara_wpe 0.0.11"
    print(f"\nPESQ above {base}: mean, least of all rooms")
    for channels in TAPS:
        cases = [rows for case, rows in table.items() if f", {channels} channel" in case and base in rows]
        for name in cases[0] if cases else ():
            above = [rows[name][0] - rows[base][0] for rows in cases]
            print(f"  {channels} channels, {name:34}{statistics.mean(above):+7.3f}{min(above):+7.3f}")


def speed(peer: Any, repeats: int) -> dict[str, float]:
    """Print and return real-time factors: seconds of work for one of sound, by turns in one run, medians."""
    sound = np.concatenate(utterances())
    seconds = len(sound) / RATE
    draw = np.random.default_rng(0)
    responses = draw.standard_normal((8, RATE // 2)) * 10 ** (-3 * np.arange(RATE // 2) / (RATE // 2))
    observed = np.array([convolved(sound, each)[: len(sound)] for each in responses])
    print(f"\nreal-time factor of {seconds:.1f} s at {RATE} Hz, 3 iterations; median of {repeats}")
    table = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        limits = optional("threadpoolctl")
        held = limits.threadpool_limits(threads) if limits else None
        for channels, taps in TAPS.items():
            y = observed[:channels]
            runs: dict[str, Callable[[], Any]] = {}
            if peer:
                runs["nara_wpe wpe (the README's)"] = lambda y=y, taps=taps: nara(peer, y, taps, "wpe")
                runs["nara_wpe wpe_v8"] = lambda y=y, taps=taps: nara(peer, y, taps)
            runs["unconv wpe"] = lambda y=y, taps=taps: dereverb(y, RATE, "wpe", taps=taps)
            runs["unconv wpe, float32"] = lambda y=y, taps=taps: dereverb(y.astype(np.float32), RATE, "wpe", taps=taps)
            runs["unconv wpe-wiener"] = lambda y=y: dereverb(y.astype(np.float32), RATE, "wpe-wiener")
            taken: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(repeats):
                for name, run in runs.items():
                    start = time.perf_counter()
                    run()
                    taken[name].append((time.perf_counter() - start) / seconds)
            for name, factors in taken.items():
                table[f"{threads} threads, {channels} channels, {name}"] = statistics.median(factors)
                print(f"  {threads} threads, {channels} channels, {name:30}{statistics.median(factors):8.3f}", flush=True)
        del held
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=["quality", "speed"])
    asked = parser.parse_args()
    peer = optional("nara_wpe.wpe")
    table = {} if asked.only == "speed" else quality(peer)
    if table:
        summary(table)
    factors = {} if asked.only == "quality" else speed(peer, asked.repeats)
    if asked.json:
        asked.json.write_text(json.dumps({"quality": table, "real-time factors": factors}, indent=1))


if __name__ == "__main__":
    main()
