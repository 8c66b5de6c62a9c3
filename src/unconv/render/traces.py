"""Traces, spikes, echoes and receiver functions as PNG pictures, 1600 x 1120 pixels at 200 dpi."""

from __future__ import annotations

from typing import Any

import numpy as np

from unconv.kinds import checks_kinds
from unconv.render import panels
from unconv.render.rows import Clock, Rows, array, clock, rows, with_crossings

_WIDE, _HALF = (1400, 900), (700, 900)  # traces and samples of an image, and of one of two: no more than it has pixels
_WIGGLES = (60, 4000)  # traces, and samples of each
_POINTS = 520.0  # width of a picture's panels, together


@checks_kinds
def section_picture(
    before: Any, after: Any, times: Any, names: tuple[str, str] = ("traces", "spikes"), unit: str = "s"
) -> bytes:
    """Draw two sections side by side as images: time downward, trace numbers across, from 0.

    Each has its own scale, symmetric about zero, full at the 99th percentile of its magnitudes, zeros left out; its title says
    it. Of more than 700 traces, evenly chosen ones are shown, and the axis says so. NaN is grey.

    Args:
        before, after: (m, n), arrays or tensors.
        times: (n,), in equal steps. In "s", times below a second are shown in ms, and below a millisecond in µs.
        names: the titles.
        unit: of the times.

    Raises:
        UnconvError: matplotlib is missing.
        ShapeError, DtypeError, NonFinite: arrays that do not fit; times that are not finite or not in equal steps.
    """
    at = clock("section_picture", times, unit)
    figure, pairs = _side_by_side("section_picture", before, after, at, _HALF)
    for axes, shown, name in zip(figure.axes, pairs, names, strict=True):
        panels.image(axes, shown, shown.full, panels.SIGNED, at)
        title = panels.title_words(name, shown.full, "full colour at ±")
        panels.house(axes, shown.said("trace"), at.label if axes is figure.axes[0] else "", title)
    return panels.png(figure)


@checks_kinds
def wiggle_picture(
    before: Any, after: Any, times: Any, names: tuple[str, str] = ("traces", "spikes"), unit: str = "s"
) -> bytes:
    """Draw two sections side by side as wiggles with filled positive lobes: time downward, trace numbers across, from 0.

    Of more than 60 traces, evenly chosen ones are shown, and the axis says so. The 99th percentile of the magnitudes, zeros
    left out, reaches to the next trace; the title says it. NaN is a gap. Arguments and refusals as of `section_picture`.
    """
    at = clock("wiggle_picture", times, unit)
    figure, pairs = _side_by_side("wiggle_picture", before, after, at, _WIGGLES)
    for axes, shown, name in zip(figure.axes, pairs, names, strict=True):
        panels.wiggles(axes, shown, at)
        title = panels.title_words(name, shown.full, "one spacing is ")
        panels.house(axes, shown.said("trace"), at.label if axes is figure.axes[0] else "", title)
    return panels.png(figure)


def _side_by_side(where: str, before: Any, after: Any, at: Clock, most: tuple[int, int]) -> tuple[Any, tuple[Rows, Rows]]:
    """Return a figure of two panels that share the time axis, and the traces to draw in them."""
    first = rows(where, "before", before, at, *most)
    second = rows(where, "after", after, at, *most, first.count)
    figure = panels.figure(where)
    figure.subplots(1, 2, sharey=True)
    return figure, (first, second)


@checks_kinds
def spikes_picture(trace: Any, spikes: Any, deviation: Any, refit: Any, times: Any, unit: str = "s") -> bytes:
    """Draw one trace with its refit, what is left of it at the same scale, and the spikes with error bars.

    Args:
        trace, spikes, refit: (n,), arrays or tensors. Spikes that are zero are not drawn; NaN is a gap.
        deviation: (n,), standard deviations of the spikes: a bar reaches one up and one down. None or NaN: no bars.
        times, unit: as in `section_picture`.

    Raises:
        UnconvError, ShapeError, DtypeError, NonFinite: as `section_picture`.
    """
    where = "spikes_picture"
    at = clock(where, times, unit)
    given = {"trace": trace, "spikes": spikes, "refit": refit}
    line, heights, fit = (array(where, name, values, at.at.shape) for name, values in given.items())
    bars = None if deviation is None else array(where, "deviation", deviation, at.at.shape)
    figure = panels.figure(where)
    below = panels.fitted(figure, line, fit, at, "trace")
    there = np.isfinite(heights) & (heights != 0)
    panels.stems(below, at.at[there], heights[there], None if bars is None else bars[there])
    panels.house(below, at.label, "amplitude", "spikes" if bars is None else "spikes, bars of one standard deviation")
    return panels.png(figure)


@checks_kinds
def echoes_picture(scans: Any, times: Any, delays: Any, amplitudes: Any, refit: Any = None, unit: str = "s") -> bytes:
    """Draw A-scans as the image of a B-scan, their echoes marked; a single one as a line, its echoes as stems.

    Echoes that stand upright are orange, those upside down blue, and areas of marks grow with amplitudes.

    Args:
        scans: (m, n), arrays or tensors. Of more than 1,400, or 700 beside a refit, evenly chosen ones are shown,
            and the axis says so. NaN is pale orange.
        delays, amplitudes: (m, K), NaN where a scan has fewer echoes; delays in the unit of the times.
        refit: (m, n), the sum of the echoes, or None: drawn beside the scans at their scale, or over the single one.
        times, unit: as in `section_picture`.

    Raises:
        UnconvError, ShapeError, DtypeError, NonFinite: as `section_picture`.
    """
    where = "echoes_picture"
    at = clock(where, times, unit)
    most = _WIDE if refit is None else _HALF
    shown = rows(where, "scans", scans, at, *most)
    late = array(where, "delays", delays, (shown.count, None)) * at.factor
    sizes = array(where, "amplitudes", amplitudes, late.shape)
    sums = [] if refit is None else [rows(where, "refit", refit, at, *most, shown.count)]
    figure = panels.figure(where)
    if shown.count == 1:
        fit = None if refit is None else array(where, "refit", refit, (1, len(at.at)))[0]
        below = panels.fitted(figure, array(where, "scans", scans, (1, len(at.at)))[0], fit, at, "scan")
        there = np.isfinite(late[0]) & np.isfinite(sizes[0])
        panels.stems(below, late[0][there], sizes[0][there], None)
        panels.house(below, at.label, "amplitude", "echoes")
        return panels.png(figure)
    figure.subplots(1, 1 + len(sums), sharey=True)
    for axes, each in zip(figure.axes, [shown, *sums], strict=True):
        panels.image(axes, each, shown.full, panels.GREYS, at)
        panels.house(axes, shown.said("scan"), "", "sum of the echoes")
    first = figure.axes[0]
    panels.house(first, shown.said("scan"), at.label, panels.title_words("scans", shown.full, "black and white at ±"))
    panels.marks(first, shown, late, sizes, _POINTS / len(figure.axes))
    panels.legend(figure.axes[-1], first)
    return panels.png(figure)


@checks_kinds
def receiver_picture(traces: Any, times: Any, unit: str = "s") -> bytes:
    """Draw receiver functions as wiggles over time, the first one highest, and their mean above them.

    Positive lobes are orange, negative ones blue. The mean is over all of them, except NaN; of more than 60, evenly chosen
    ones are shown below it, and the axis says so.

    Args:
        traces: (m, n), arrays or tensors.
        times: (n,), after the direct wave; `unit` as in `section_picture`.

    Raises:
        UnconvError, ShapeError, DtypeError, NonFinite: as `section_picture`.
    """
    where = "receiver_picture"
    at = clock(where, times, unit)
    shown = rows(where, "traces", traces, at, *_WIGGLES)
    every = array(where, "traces", traces, (shown.count, len(at.at)))
    counts = np.isfinite(every).sum(0)
    mean = np.divide(np.nansum(every, 0), counts, out=np.full(len(at.at), np.nan), where=counts > 0)
    figure = panels.figure(where)
    high, low = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3))
    panels.lobes(high, *with_crossings(at.at, mean), 0, 1)
    for when, values, place in shown.wiggles():
        panels.lobes(low, when, values, place, -1)
    for axes in (high, low):
        axes.axvline(0, color=panels.QUIET, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    low.set(xlim=at.edges, ylim=shown.span[::-1])
    panels.ticks(high.yaxis, 4)
    panels.ticks(low.yaxis, 8, shown.count)
    panels.ticks(low.xaxis, 8)
    panels.house(high, "", "amplitude", f"mean of {int(np.isfinite(every).any(1).sum()):,}")
    panels.house(low, at.label, shown.said("trace"), panels.title_words("receiver functions", shown.full, "one spacing is "))
    return panels.png(figure)
