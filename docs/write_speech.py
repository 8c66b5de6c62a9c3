"""Run the code of the page on speech, and write its picture and sounds: `UNCONV_DATA=... python docs/write_speech.py`.

Only the English page is run; the Chinese page gets its blocks and outputs.
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
    content = spectrogram_picture(before, after, names["array"].rate, names=("one microphone of eight", "wpe-wiener", ""))
    # A third of the bytes; on this scale nobody can see more colours.
    with Image.open(io.BytesIO(content)) as picture:
        picture.convert("RGB").quantize(48, dither=Image.Dither.NONE).save(images / "dereverberated.png", optimize=True)


def sounds(names: Mapping[str, Any], folder: Path) -> None:
    """Write the sounds of the page, five seconds each, with equal power."""
    folder.mkdir(exist_ok=True)
    reverberant, rate = names["reverberant"], names["rate"]
    dry = speech.dereverb(reverberant, rate, "wpe-wiener").signal
    signals = {
        "meeting": names["recorded"][0],
        "meeting-dry": names["meeting"].signal[0],
        "room": reverberant[0],
        "room-dry": dry[0],
    }
    for name, signal in signals.items():
        part = signal[: _SECONDS * rate]
        soundfile.write(folder / f"{name}.flac", 0.08 * part / np.std(part), rate, subtype="PCM_16")


if __name__ == "__main__":
    names: dict[str, Any] = {}
    page = runpy.run_path(str(DOCS / "write_steps.py"))["executed"](PAGE, DOCS, names)
    (DOCS / PAGE).write_text(page)
    pictures(names, DOCS / "images")
    sounds(names, DOCS / "sounds")
    runpy.run_path(str(DOCS / "write_chinese.py"))["refresh"](PAGE.removesuffix(".md"))
