"""A room whose responses are known, undone: SI-SDR of the dry speech by each method, with one and two microphones.

    UNCONV_DATA=data python benchmarks/known_rooms.py

The speech: three sentences of CMU Arctic, one after the other, 10.7 s at 16 kHz. The room: room A of Surrey, measured with a
dummy head, places 0, 18 and 30 of the 37 in UniS_Room_A_BRIR_16k.sofa. Recordings end with the speech, while the room still
sounds. White noise of the level said is added to both ears. The noise is estimated by the method.
"plain" is the least-squares inverse of every frequency, with one strength that is told the noise: what a textbook would do.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import h5py
import numpy as np
import soundfile
from numpy.fft import irfft, rfft

from unconv.inverse.fields.speech import invert_room

DATA = Path(os.environ.get("UNCONV_DATA", "data")) / "inverse"
NAMES = ("cmu_arctic_us_aew_a0001.wav", "cmu_arctic_us_aew_a0002.wav", "cmu_arctic_us_axb_a0004.wav")


def si_sdr(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Return dB of the truth in the estimate, at whatever gain, over all else in it."""
    part = (estimate @ truth) / (truth @ truth) * truth
    return 10 * np.log10((part @ part) / ((estimate - part) @ (estimate - part)))


def plain(wet: np.ndarray, rooms: np.ndarray, strength: float) -> np.ndarray:
    """Return the sum of conj(H) Y over that of |H|^2 and the strength."""
    grid = 1 << (wet.shape[1] + rooms.shape[1]).bit_length()
    h = rfft(rooms, grid)
    return irfft((h.conj() * rfft(wet, grid)).sum(0) / ((np.abs(h) ** 2).sum(0) + strength), grid)[: wet.shape[1]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--places", type=int, nargs="*", default=[0, 18, 30])
    places = parser.parse_args().places
    sounds = [soundfile.read(DATA / "speech" / name) for name in NAMES]
    dry, rate = np.concatenate([sound for sound, _ in sounds]), sounds[0][1]
    with h5py.File(DATA / "rir" / "UniS_Room_A_BRIR_16k.sofa") as file:
        responses = file["Data.IR"][()]
    print("place  SNR, dB  ears  recording  plain  tikhonov  wiener  noise estimated / true  seconds")
    for place in places:
        rooms = responses[place]
        clean = np.stack([np.convolve(dry, room)[: len(dry)] for room in rooms])
        for snr in (60, 40, 20):
            level = np.sqrt(np.mean(clean**2)) * 10 ** (-snr / 20)
            wet = clean + level * np.random.default_rng(snr).standard_normal(clean.shape)
            for ears in (1, 2):
                begun = time.perf_counter()
                found = invert_room(wet[:ears], rooms[:ears], rate)
                seconds = time.perf_counter() - begun
                even = invert_room(wet[:ears], rooms[:ears], rate, method="tikhonov").signal
                book = plain(wet[:ears], rooms[:ears], level**2 / np.mean(dry**2))
                scores = [si_sdr(each, dry) for each in (wet[0], book, even, found.signal)]
                shown = "".join(f"{score:8.1f}" for score in scores)
                print(f"{place:5d} {snr:8d} {ears:5d} {shown} {found.noise / level:14.2f} {seconds:14.2f}", flush=True)


if __name__ == "__main__":
    main()
