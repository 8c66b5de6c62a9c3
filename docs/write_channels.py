"""Run the code of the page on channels and draw its pictures: `python docs/write_channels.py`.

The English page is run, and the Chinese page gets its blocks and outputs.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np

from unconv.inverse.fields import channel
from unconv.render.constellations import constellation_picture, error_rate_picture

DOCS = Path(__file__).parent
PAGE = "channels.md"


def pictures(images: Path) -> None:
    """Draw 16-QAM before and after, and error rates of Proakis' channel B over the signal-to-noise ratio."""
    random = np.random.default_rng(1)
    sixteen = channel.constellation("16qam")
    samples = np.convolve(sixteen.symbols(random.integers(0, 16, 4_000)), [0.1, 1.0, 0.3 - 0.2j, 0.1j])
    samples = samples + 0.05 * (random.standard_normal(4_003) + 1j * random.standard_normal(4_003))
    result = channel.equalize(samples, constellation=sixteen)
    (images / "constellation.png").write_bytes(constellation_picture(samples, result.soft, sixteen.points))
    ratios, taps = np.arange(2, 17, 2), [0.407, 0.815, 0.407]
    rates: dict[str, list[channel.ErrorRate]] = {"mmse": [], "decision-feedback": [], "mlse": []}
    for ratio in ratios:
        sent = np.sign(random.standard_normal(100_000))
        received = np.convolve(sent, taps) + np.sqrt(0.5 / 10 ** (ratio / 10)) * random.standard_normal(100_002)
        for method, row in rates.items():
            row.append(channel.equalize(received, taps, method=method).symbol_errors(sent))
    bound = {"matched-filter bound": channel.matched_filter_bound(ratios)}
    (images / "error-rates.png").write_bytes(error_rate_picture(ratios, rates, bound, "Eb/N0, dB", "bit error rate"))


if __name__ == "__main__":
    page = runpy.run_path(str(DOCS / "write_steps.py"))["executed"](PAGE, DOCS)
    (DOCS / PAGE).write_text(page)
    pictures(DOCS / "images")
    runpy.run_path(str(DOCS / "write_chinese.py"))["refresh"]("channels")
