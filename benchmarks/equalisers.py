"""Equalisers of known channels: closed forms, distances, bit error rates on Proakis' channels, and symbols a second.

    python benchmarks/equalisers.py
    python benchmarks/equalisers.py --only rates --bits 2000000 --json rates.json

`forms` compares finite equalisers (31 taps; 24 taps and decisions fed back) with endless ones, `losses` distances with Proakis'
table, `rates` counted bit error rates of BPSK with those of an earlier, separate program (2e6 bits on B and C, 2e5 on A),
`speed` measures symbols a second of the processor's time, on one thread, beside what the memory traffic, the exponentials or
the FFTs alone would allow.

Errors come in bursts: a rate's 95 % interval is Wilson's for as many independent bits as vary as much, by batches of 500.
After a rate: "=" the earlier value, up to its rounding to two digits, lies in the interval; "~" the two intervals overlap; "!"
they do not; "<" the interval lies below the matched-filter bound, which cannot be.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unconv.inverse import bcjr, viterbi
from unconv.inverse.fields import channel

CHANNELS = {
    "A": np.array([[0.04, -0.05, 0.07, -0.21, -0.5, 0.72, 0.36, 0, 0.21, 0.03, 0.07]]),
    "B": np.array([[0.407, 0.815, 0.407]]),
    "C": np.array([[0.227, 0.46, 0.688, 0.46, 0.227]]),
}
CHANNELS = {name: taps / np.linalg.norm(taps) for name, taps in CHANNELS.items()}
WORST = {3: ([0.5, 0.71, 0.5], 2.3), 4: ([0.38, 0.6, 0.6, 0.38], 4.2), 5: ([0.29, 0.5, 0.58, 0.5, 0.29], 5.7)}
WORST[6] = ([0.23, 0.42, 0.52, 0.52, 0.42, 0.23], 7.0)
LOSSES = {"A": 0.0, "B": 1.76, "C": 5.01}
# Eb/N0 in dB: linear, feedback, most likely sequence; None: no error was counted.
EARLIER = {
    "A": {6: (9.3e-3, 4.9e-3, 2.7e-3), 8: (2.2e-3, 5.8e-4, 2.1e-4), 10: (1.9e-4, 5e-6, None), 12: (1.5e-5, None, None)},
    "B": {
        6: (9.4e-2, 5.8e-2, 2.7e-2),
        8: (7.1e-2, 2.3e-2, 5.0e-3),
        10: (5.4e-2, 5.6e-3, 3.9e-4),
        12: (3.8e-2, 7.3e-4, 3.5e-6),
        14: (2.8e-2, 3.7e-5, None),
        16: (1.8e-2, None, None),
    },
    "C": {
        6: (1.8e-1, 1.6e-1, 1.1e-1),
        8: (1.6e-1, 1.1e-1, 4.8e-2),
        10: (1.3e-1, 5.6e-2, 1.2e-2),
        12: (1.1e-1, 2.2e-2, 1.4e-3),
        14: (9.0e-2, 6.0e-3, 7.5e-5),
        16: (7.1e-2, 9.5e-4, 1.0e-6),
    },
}
EARLIER_BITS = {"A": 2e5, "B": 2e6, "C": 2e6}
BPSK, LENGTH, FORWARD = np.array([-1.0, 1.0], np.float32), 31, 24
_EDGE, _BATCH = 64, 500  # symbols left out at the end; bits of a batch


def level(snr: float) -> float:
    return float(np.sqrt(0.5 * 10 ** (-snr / 10)))


def link(taps: np.ndarray, count: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return bits (count,) and what is observed of them, (1, count), in single precision."""
    draw = np.random.default_rng(seed)
    bits = draw.integers(0, 2, count)
    clean = np.convolve(2.0 * bits - 1, taps[0])[:count]
    return bits, (clean + noise * draw.standard_normal(count)).astype(np.float32)[None]


def wilson(rate: float, count: float) -> tuple[float, float]:
    z = 1.96
    middle = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return max(0.0, middle - half), middle + half


def interval(wrong: np.ndarray) -> tuple[float, float, float, float]:
    """Return the rate of errors, its interval, and by how much batches vary more than independent bits would."""
    batches = wrong[: len(wrong) // _BATCH * _BATCH].reshape(-1, _BATCH).sum(1)
    rate = float(wrong.mean())
    expected = _BATCH * rate * (1 - rate)
    more = max(1.0, float(batches.var()) / expected) if expected else 1.0
    return rate, *wilson(rate, len(wrong) / more), more


def forms(told: dict[str, Any]) -> None:
    print("Mean squared errors: endless equalisers, and how far finite ones are from them")
    print("channel  dB   linear  31 taps    feedback  24 + L-1    zero forcing  with feedback")
    rows = []
    for name, taps in CHANNELS.items():
        for snr in (8, 10):
            endless = channel.infinite_length(taps, level(snr))
            near = channel.linear_equalizer(taps, level(snr), LENGTH).error - endless.linear
            fed = channel.decision_feedback_equalizer(taps, level(snr), FORWARD).error - endless.feedback
            sound = "" if max(near, fed) < 1e-3 else "  more than 1e-3"
            print(
                f"{name:7} {snr:3d}   {endless.linear:.4f}  +{near:.1e}   {endless.feedback:.4f}    +{fed:.1e}    "
                f"{endless.zero_forcing:12.4f}  {endless.zero_forcing_feedback:.4f}{sound}"
            )
            rows.append({"channel": name, "snr": snr, **vars(endless), "linear_excess": near, "feedback_excess": fed})
    told["forms"] = rows


def losses(told: dict[str, Any]) -> None:
    print("\nLoss of the most likely sequence against the matched-filter bound, dB: here, and in Proakis' table")
    cases = [(name, taps, LOSSES[name]) for name, taps in CHANNELS.items()]
    cases += [(f"worst of {count} taps", np.array([taps]), loss) for count, (taps, loss) in WORST.items()]
    rows = []
    for name, taps, earlier in cases:
        found = channel.minimum_distance(taps)
        print(f"{name:16} {found.loss:5.2f}  {earlier:5.2f}  by the difference {found.error}")
        rows.append({"channel": name, "loss": found.loss, "earlier": earlier})
    told["losses"] = rows


def _mark(found: tuple[float, float, float, float], earlier: float | None, count: float, bound: float) -> str:
    _, low, high, more = found
    if high < bound:
        return "<"
    value = earlier or 0.0
    rounding = 0.5 * 10 ** (np.floor(np.log10(value)) - 1) if value else 0.0
    if low - rounding <= value <= high + rounding:
        return "="
    theirs = wilson(value, count / more)
    return "~" if theirs[0] <= high and low <= theirs[1] else "!"


def rates(told: dict[str, Any], bits: int) -> None:
    print(f"\nBit error rates of {bits} bits, [95 % interval], and the earlier value")
    rows = []
    for name, taps in CHANNELS.items():
        print(f"channel {name}: Eb/N0, matched-filter bound, linear, feedback, most likely sequence, and its approximation")
        for snr, earlier in EARLIER[name].items():
            sent, y = link(taps, bits, level(snr), 1000 + snr)
            linear = channel.linear_equalizer(taps, level(snr), LENGTH).equalized(y) > 0
            _, fed = channel.decision_feedback_equalizer(taps, level(snr), FORWARD).equalized(y, BPSK)
            likely = viterbi(y, taps, BPSK).indices
            bound = channel.matched_filter_bound(float(snr))
            line = f"{snr:3d}  {bound:.1e}"
            row: dict[str, Any] = {"channel": name, "snr": snr, "bits": bits, "bound": bound}
            for kind, made, value in zip(("linear", "feedback", "sequence"), (linear, fed, likely), earlier, strict=True):
                found = interval((made != sent)[:-_EDGE])
                mark = _mark(found, value, EARLIER_BITS[name], bound)
                line += f"  {found[0]:.2e} [{found[1]:.1e} {found[2]:.1e}] {value or 0:.1e}{mark}"
                row[kind] = {"rate": found[0], "interval": found[1:3], "bursts": found[3], "earlier": value, "mark": mark}
            row["approximation"] = channel.sequence_error_rate(taps, float(snr))
            print(f"{line}  {row['approximation']:.1e}", flush=True)
            rows.append(row)
    told["rates"] = rows


def seconds(job: Callable[[], Any], least: int = 3) -> float:
    """Return the shortest of some times, of the processor: others use the machine, too."""
    job()
    spent = []
    for _ in range(least):
        begun = time.process_time()
        job()
        spent.append(time.process_time() - begun)
    return min(spent)


def _traffic(kind: torch.dtype) -> float:
    """Return bytes a second that an addition moves in cache."""
    a, b, c = (torch.ones(2**16, dtype=kind) for _ in range(3))
    spent = seconds(lambda: [torch.add(a, b, out=c) for _ in range(200)], 20)
    return 200 * 3 * a.numel() * a.element_size() / spent


def _exponentials(kind: torch.dtype) -> float:
    a, b = torch.linspace(-20, 0, 2**16, dtype=kind), torch.empty(2**16, dtype=kind)
    return 50 * a.numel() / seconds(lambda: [torch.exp(a, out=b) for _ in range(50)], 20)


def _viterbi_bytes(size: int, memory: int, parts: int) -> float:
    """Bytes that each symbol's step reads and writes: branches, sums, minima, decisions; and the way back."""
    states, branches = size**memory, size ** (memory + 1)
    branch = parts + 1 + branches
    sums, least = 2 * branches + states, branches + states
    decide = (size - 1) * 4 * states
    return 4.0 * (branch + sums + least + decide) + states + 5 * 8


def speed(told: dict[str, Any], count: int) -> None:
    torch.set_num_threads(1)
    print("\nMillion symbols a second on one thread, single precision unless said; what the counted limit would allow")
    rows = []

    def tell(what: str, spent: float, symbols: int, limit: float, counted: str) -> None:
        reached, most = symbols / spent / 1e6, limit / 1e6
        print(f"{what:52} {reached:7.2f}  limit {most:7.1f}: {counted}", flush=True)
        rows.append({"what": what, "million_symbols_a_second": reached, "limit": most, "counted": counted})

    bandwidth, singles, doubles = _traffic(torch.float32), _exponentials(torch.float32), _exponentials(torch.float64)
    print(
        f"an addition in cache moves {bandwidth / 1e9:.1f} GB/s; "
        f"{singles / 1e6:.0f} million exponentials a second, {doubles / 1e6:.0f} in double precision"
    )
    qpsk = np.array([1 + 1j, 1 - 1j, -1 + 1j, -1 - 1j], np.complex64) / np.sqrt(2)
    for name, points, taps in (
        ("4 states, BPSK, 3 taps", BPSK, CHANNELS["B"]),
        ("16 states, BPSK, 5 taps", BPSK, CHANNELS["C"]),
        ("16 states, QPSK, 3 taps", qpsk, CHANNELS["B"]),
        ("1024 states, BPSK, 11 taps", BPSK, CHANNELS["A"]),
    ):
        many = count if len(taps[0]) < 8 else count // 20
        _, y = link(taps, many, level(8), 1)
        y = y if points is BPSK else (y + 1j * link(taps, many, level(8), 2)[1]).astype(np.complex64) / np.float32(np.sqrt(2))
        moved = _viterbi_bytes(len(points), taps.shape[1] - 1, 1 if points is BPSK else 2)
        spent = seconds(lambda y=y, taps=taps, points=points: viterbi(y, taps, points))
        tell(f"viterbi, {name}", spent, many, bandwidth / moved, f"{moved:.0f} bytes a symbol")
        if len(taps[0]) < 8:
            branches, states = len(points) ** taps.shape[1], len(points) ** (taps.shape[1] - 1)
            for kind, rate in ((np.float32, singles), (np.float64, doubles)):
                # Forwards, backwards, and over the joint costs; a sum of two takes one exponential.
                halves = 2 if len(points) == 2 else 1
                needed = 2 * (branches // halves + states) + states + len(points)
                wide = y.astype(np.result_type(y, kind))[:, : count // 2]
                spent = seconds(lambda y=wide, taps=taps, points=points: bcjr(y, taps, points, level(8)), 2)
                word = f"bcjr, {name}{', double' if kind is np.float64 else ''}"
                tell(word, spent, wide.shape[1], rate / needed, f"{needed} exponentials and logarithms a symbol")
    draw = np.random.default_rng(3)
    own = (draw.standard_normal((count // 100, 1, 3)) + 1j * draw.standard_normal((count // 100, 1, 3))).astype(np.complex64)
    y = (draw.standard_normal((count // 100, 1, 100)) + 1j * draw.standard_normal((count // 100, 1, 100))).astype(np.complex64)
    # Weights are read for each channel, and products written and read again for each row of them.
    moved = _viterbi_bytes(4, 2, 2) + 4.0 * 64 * 3 * 2
    spent = seconds(lambda: viterbi(y, own, qpsk))
    tell(
        f"viterbi, QPSK, {count // 100} bursts of 100, each its channel", spent, count, bandwidth / moved, f"{moved:.0f} bytes"
    )
    _filters(tell, count, bandwidth)
    told["speed"] = rows


def _filters(tell: Callable[..., None], count: int, bandwidth: float) -> None:
    for name in ("B", "C"):
        taps = CHANNELS[name]
        _, y = link(taps, count, level(8), 1)
        linear = channel.linear_equalizer(taps, level(8), LENGTH)
        blocks = torch.zeros(count // 994, 1024)
        ffts = seconds(lambda blocks=blocks: torch.fft.irfft(torch.fft.rfft(blocks), 1024))
        tell(
            f"linear equaliser, {LENGTH} taps, channel {name}",
            seconds(lambda linear=linear, y=y: linear.equalized(y)),
            count,
            count / ffts,
            "2 FFTs",
        )
        back = channel.decision_feedback_equalizer(taps, level(8), FORWARD)
        # Feedback is read for each tap; then sums, a comparison, numbers of 8 bytes, points, and all of it written.
        moved = 4 * len(back.feedback) + 4 * 6 + 8 * 6
        limit = 1 / (ffts / count + moved / bandwidth)
        spent = seconds(lambda back=back, y=y: back.equalized(y, BPSK))
        tell(
            f"decision feedback, {FORWARD} + {len(back.feedback)} taps, channel {name}",
            spent,
            count,
            limit,
            f"2 FFTs, {moved} bytes",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="forms,losses,rates,speed")
    parser.add_argument("--bits", type=int, default=200_000, help="bits of each error rate")
    parser.add_argument("--symbols", type=int, default=1_000_000, help="symbols of each measurement of speed")
    parser.add_argument("--json", type=Path, help="a file that takes the numbers")
    asked = parser.parse_args()
    told: dict[str, Any] = {}
    jobs = {
        "forms": lambda: forms(told),
        "losses": lambda: losses(told),
        "rates": lambda: rates(told, asked.bits),
        "speed": lambda: speed(told, asked.symbols),
    }
    for name in asked.only.split(","):
        jobs[name]()
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
