"""Run the code of the page on speech, and make its picture and sounds: `UNCONV_DATA=... python docs/write_speech.py`.

The English page is run; the blocks of the Chinese one are the same, and get the same outputs.
"""

from __future__ import annotations

import io
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from unconv.inverse.fields import speech
from unconv.render.spectrograms import spectrogram_picture

DOCS = Path(__file__).parent
PAGE = "speech.md"
_SECONDS = 5


def pictures(names: Mapping[str, Any], images: Path) -> None:
    """Draw the meeting's first microphone before and after."""
    before, after = names["recorded"][0], names["meeting"].signal[0]
    drawn = spectrogram_picture(before, after, names["array"].rate, names=("one microphone of eight", "wpe-wiener", ""))
    # A third of the bytes; the scale has no more colours than that which anybody tells apart.
    with Image.open(io.BytesIO(drawn)) as picture:
        picture.convert("RGB").quantize(48, dither=Image.Dither.NONE).save(images / "dereverberated.png", optimize=True)


def sounds(names: Mapping[str, Any], folder: Path) -> None:
    """Write what the page lets hear, five seconds each, as loud as each other."""
    folder.mkdir(exist_ok=True)
    heard, rate = names["heard"], names["rate"]
    dry = speech.dereverb(heard, rate, "wpe-wiener").signal
    heard_and_made = {
        "meeting": names["recorded"][0],
        "meeting-dry": names["meeting"].signal[0],
        "room": heard[0],
        "room-dry": dry[0],
    }
    for name, signal in heard_and_made.items():
        part = signal[: _SECONDS * rate]
        soundfile.write(folder / f"{name}.flac", 0.08 * part / np.std(part), rate, subtype="PCM_16")


if __name__ == "__main__":
    made: dict[str, Any] = {}
    page = runpy.run_path(str(DOCS / "write_steps.py"))["executed"](PAGE, DOCS, made)
    (DOCS / PAGE).write_text(page)
    pictures(made, DOCS / "images")
    sounds(made, DOCS / "sounds")
    runpy.run_path(str(DOCS / "write_chinese.py"))["refresh"](PAGE.removesuffix(".md"))
