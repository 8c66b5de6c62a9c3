"""PNG pictures of recordings: spectrograms on one scale, and cepstra with echoes; 1600 x 1120 pixels at 200 dpi."""

from __future__ import annotations

from typing import Any

import numpy as np

from unconv.errors import NonFinite, ShapeError, counted, printable
from unconv.kinds import checks_kinds
from unconv.render import panels
from unconv.render.rows import Array, array

_SECONDS = 0.032  # of a frame: resolves both the harmonics of a voice and single syllables
_WIDE, _HIGH = 1400, 320  # columns and rows of an image: as many as it has pixels
_SPAN = 70.0  # dB of the colour scale
_COLOURS = ("#ffffff", "#e8e3d9", "#f2a27f", panels.ACCENT, "#7a2705", "#1d1c1a")
_POINTS = 4000
_MIN_HEIGHT = 0.1  # of the axis of a cepstrum: without it noise would look like peaks
_LABELLED = 6  # echoes with a label


@checks_kinds
def spectrogram_picture(
    before: Any, after: Any, rate: float, reference: Any = None, names: tuple[str, str, str] = ("before", "after", "reference")
) -> bytes:
    """Draw spectrograms of a recording before and after processing, and of a clean one, below each other on one scale.

    0 dB is the loudest point of the recording before, and the scale ends at -70 dB. The power of all frames in a column of
    pixels is averaged.

    Args:
        before, after: (n,), arrays or tensors of one channel.
        reference: (n,), the clean recording; None for two panels only.
        rate: samples a second.
        names: the titles.

    Raises:
        UnconvError: matplotlib is not installed.
        ShapeError: arrays of several lengths, or shorter than a frame.
        DtypeError, NonFinite: samples that are not real numbers; NaN or infinite samples.
    """
    where = "spectrogram_picture"
    signals = {"before": before, "after": after} | ({} if reference is None else {"reference": reference})
    powers = {name: _power(where, name, values, rate) for name, values in signals.items()}
    n = len(array(where, "before", before, (None,)))
    if any(len(np.ravel(values)) != n for values in signals.values()):
        lengths = {name: len(np.ravel(values)) for name, values in signals.items()}
        raise ShapeError(f"{where}: lengths are {lengths}, but one length was needed. Cut them to one length.")
    # One reference level for all panels: otherwise a result would look as loud as the recording.
    top = float(powers["before"].max()) or max(float(power.max()) for power in powers.values()) or 1.0
    figure = panels.figure(where)
    figure.subplots(len(powers), 1, sharex=True, sharey=True)
    rows = list(figure.axes)
    for axes, power, title in zip(rows, powers.values(), names, strict=False):
        shown = _image(axes, 10 * np.log10(np.maximum(power / top, 10 ** (-_SPAN / 10 - 1))), n / rate, rate / 2000)
        panels.house(axes, "time, s" if axes is rows[-1] else "", "frequency, kHz", title)
    bar = figure.colorbar(shown, ax=rows, aspect=40, pad=0.015, fraction=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(color=panels.QUIET, labelcolor=panels.INK, labelsize=9, length=3, width=0.8)
    bar.set_label("dB, 0 at the loudest point before", color=panels.INK, fontsize=9)
    bar.set_ticks([0, -10, -20, -30, -40, -50, -60, -70], labels=["0", *(f"−{k}" for k in range(10, 80, 10))])
    return panels.png(figure)


def _power(where: str, name: str, values: Any, rate: float) -> Array:
    """Return the power (rows, columns) of a recording's frames, averaged to the pixels of a panel."""
    samples = array(where, name, values, (None,))
    length = 1 << max(4, round(_SECONDS * rate)).bit_length() - 1
    if not rate > 0 or len(samples) < length:
        raise ShapeError(
            f"{where}: {name} has {counted(len(samples), 'sample')} at a rate of {rate:g}, but at least {length} at a rate "
            "above zero were needed. Pass a longer recording."
        )
    if not np.isfinite(samples).all():
        index = np.flatnonzero(~np.isfinite(samples))[0]
        raise NonFinite(
            f"{where}: {name} is NaN or infinite at sample {index}, but finite numbers were needed. Repair it there."
        )
    hop, window = length // 4, np.hanning(length + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(samples, length)[::hop]
    columns = min(_WIDE, len(frames))
    edges = np.arange(columns + 1) * len(frames) // columns
    power = np.empty((length // 2 + 1, columns))
    for column in range(columns):  # one by one: the frames of an hour at once would take gigabytes
        some = frames[edges[column] : edges[column + 1]]
        power[:, column] = np.square(np.abs(np.fft.rfft(some * window))).mean(0)
    rows = min(_HIGH, len(power))
    return np.add.reduceat(power, np.arange(rows) * len(power) // rows) if rows < len(power) else power


def _image(axes: Any, level: Array, seconds: float, kilohertz: float) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("unconv loudness", _COLOURS, 255)
    extent = {"extent": (0, seconds, 0, kilohertz), "aspect": "auto", "origin": "lower"}
    shown = axes.imshow(level, cmap=colours, vmin=-_SPAN, vmax=0, interpolation="nearest", **extent)
    panels.ticks(axes.xaxis, 8)
    panels.ticks(axes.yaxis, 5)
    return shown


@checks_kinds
def cepstrum_picture(cepstrum: Any, rate: float, delays: Any = (), gains: Any = (), shortest: float = 0.0) -> bytes:
    """Draw the power cepstrum of a recording over quefrency, with its echoes.

    Args:
        cepstrum: (m,), at quefrencies of 0, 1, ... samples.
        rate: samples a second.
        delays, gains: (K,), delays of the echoes in seconds, and their gains relative to the direct sound.
        shortest: shortest delay in seconds that was searched. Lower quefrencies, where voices have peaks, are drawn paler.

    Raises:
        UnconvError, ShapeError, DtypeError, NonFinite: as `spectrogram_picture`.
    """
    where = "cepstrum_picture"
    values = array(where, "cepstrum", cepstrum, (None,))
    late, sizes = (array(where, name, each, (None,)) for name, each in (("delays", delays), ("gains", gains)))
    if len(values) < 4 or not rate > 0 or len(late) != len(sizes):
        raise ShapeError(
            f"{where}: {counted(len(values), 'sample')} of a cepstrum at a rate of {rate:g}, {counted(len(late), 'delay')} and "
            f"{counted(len(sizes), 'gain')} came, but four samples or more at a rate above zero, and one gain for each delay, "
            "were needed."
        )
    figure = panels.figure(where)
    axes = figure.subplots()
    milliseconds = np.arange(len(values)) * 1000 / rate
    first = min(max(1, round(shortest * rate)), len(values) - 2)
    # The first quefrencies describe the spectral envelope and are many times larger than all others: the scale ignores them.
    for some, colour in ((slice(1, first + 1), "#b9b4a9"), (slice(first, None), panels.INK)):
        axes.plot(*_outline(milliseconds[some], values[some]), color=colour, linewidth=0.7)
    high = 1.15 * max(float(np.abs(values[first:]).max()), float(np.abs(sizes).max(initial=0.0)), _MIN_HEIGHT)
    axes.axhline(0, color=panels.QUIET, linewidth=0.8, zorder=0)
    panels.stems(axes, late * 1000, sizes, None)
    _label(axes, late * 1000, sizes, float(milliseconds[-1]))
    axes.set(xlim=(0, milliseconds[-1]), ylim=(-high, high))
    panels.ticks(axes.xaxis, 8)
    panels.ticks(axes.yaxis, 6)
    title = (
        "no echo found"
        if not len(late)
        else f"{len(late)} {'echo' if len(late) == 1 else 'echoes'} found; other peaks are sums and multiples of delays"
    )
    panels.house(axes, "quefrency, ms", "cepstrum of the power", printable(title))
    return panels.png(figure)


def _label(axes: Any, delays: Array, gains: Array, end: float) -> None:
    """Write delay and gain beside the first few stems; labels near the right end are to the left of the stem."""
    for delay, gain in list(zip(delays, gains, strict=True))[:_LABELLED]:
        right = delay > 0.75 * end
        axes.annotate(
            f"{panels.number_words(delay)} ms, gain {panels.number_words(gain, 2)}",
            (delay, gain),
            xytext=(-7 if right else 7, 3 if gain > 0 else -3),
            textcoords="offset points",
            ha="right" if right else "left",
            va="bottom" if gain > 0 else "top",
            fontsize=9,
            color=panels.INK,
        )


def _outline(at: Array, values: Array) -> tuple[Array, Array]:
    """Return a line of at most `_POINTS` points with the highest and the lowest value of each part, so that no peak is lost."""
    if len(values) <= _POINTS:
        return at, values
    starts = np.arange(_POINTS // 2) * len(values) // (_POINTS // 2)
    both = np.stack([np.maximum.reduceat(values, starts), np.minimum.reduceat(values, starts)], 1)
    return np.repeat(at[starts], 2), both.ravel()
