"""PNG pictures of traces, spikes, echoes and receiver functions, 1600 x 1120 pixels at 200 dpi."""

from __future__ import annotations

from typing import Any

import numpy as np

from unconv.kinds import checks_kinds
from unconv.render import panels
from unconv.render.rows import Clock, Rows, array, clock, rows, with_crossings

_WIDE, _HALF = (1400, 900), (700, 900)  # traces and samples of a single image, and of one of two: as many as it has pixels
_WIGGLES = (60, 4000)  # traces, and samples of each
_POINTS = 520.0  # width of all panels of a picture together


@checks_kinds
def section_picture(
    before: Any, after: Any, times: Any, names: tuple[str, str] = ("traces", "spikes"), unit: str = "s"
) -> bytes:
    """Draw two sections side by side as images, with time downward and trace numbers across, from 0.

    Each section has its own colour scale, symmetric about zero. The full colour is at the 99th percentile of the magnitudes
    without zeros; the title gives its value. If there are more than 700 traces, evenly spaced ones are shown, and the axis says
    how many. NaN is grey.

    Args:
        before, after: (m, n), arrays or tensors.
        times: (n,), in equal steps. With the unit "s", times below a second are shown in ms, and below a millisecond in µs.
        names: the titles.
        unit: of the times.

    Raises:
        UnconvError: matplotlib is not installed.
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
    """Draw two sections side by side as wiggles with filled positive lobes, with time downward and trace numbers across.

    A value at the 99th percentile of the magnitudes without zeros reaches the next trace; the title gives this value. If there
    are more than 60 traces, evenly spaced ones are shown, and the axis says how many. NaN is a gap. Arguments and errors are
    those of `section_picture`.
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
    """Draw one trace with its refit, the residual at the same scale, and the spikes with error bars.

    Args:
        trace, spikes, refit: (n,), arrays or tensors. Spikes of zero are not drawn; NaN is a gap.
        deviation: (n,), standard deviations of the spikes. A bar reaches one deviation up and one down; None and NaN have none.
        times, unit: as in `section_picture`.

    Raises:
        UnconvError, ShapeError, DtypeError, NonFinite: as `section_picture`.
    """
    where = "spikes_picture"
    at = clock(where, times, unit)
    arguments = {"trace": trace, "spikes": spikes, "refit": refit}
    line, heights, fit = (array(where, name, values, at.at.shape) for name, values in arguments.items())
    bars = None if deviation is None else array(where, "deviation", deviation, at.at.shape)
    figure = panels.figure(where)
    below = panels.trace_panels(figure, line, fit, at, "trace")
    drawn = np.isfinite(heights) & (heights != 0)
    panels.stems(below, at.at[drawn], heights[drawn], None if bars is None else bars[drawn])
    panels.house(below, at.label, "amplitude", "spikes" if bars is None else "spikes, bars of one standard deviation")
    return panels.png(figure)


@checks_kinds
def echoes_picture(scans: Any, times: Any, delays: Any, amplitudes: Any, refit: Any = None, unit: str = "s") -> bytes:
    """Draw A-scans as the image of a B-scan with marked echoes; a single scan as a line, with its echoes as stems.

    Marks of positive echoes are orange and those of negative ones blue; their areas grow with the amplitudes.

    Args:
        scans: (m, n), arrays or tensors. If there are more than 1,400, or more than 700 beside a refit, evenly spaced ones are
            shown, and the axis says how many. NaN is pale orange.
        delays, amplitudes: (m, K), NaN beyond the number of echoes of a scan; delays in the unit of the times.
        refit: (m, n), the sum of the echoes, or None. It is drawn beside the scans at the same scale, or over a single scan.
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
        below = panels.trace_panels(figure, array(where, "scans", scans, (1, len(at.at)))[0], fit, at, "scan")
        drawn = np.isfinite(late[0]) & np.isfinite(sizes[0])
        panels.stems(below, late[0][drawn], sizes[0][drawn], None)
        panels.house(below, at.label, "amplitude", "echoes")
        return panels.png(figure)
    figure.subplots(1, 1 + len(sums), sharey=True)
    # Both panels have the scale of the scans, so that the refit can be compared with them.
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
    """Draw receiver functions as wiggles over time, the first at the top, and their mean above them.

    Positive lobes are orange, negative ones blue. The mean is over all functions, without NaN. If there are more than 60,
    evenly spaced ones are shown below it, and the axis says how many.

    Args:
        traces: (m, n), arrays or tensors.
        times: (n,), after the direct wave.
        unit: as in `section_picture`.

    Raises:
        UnconvError, ShapeError, DtypeError, NonFinite: as `section_picture`.
    """
    where = "receiver_picture"
    at = clock(where, times, unit)
    shown = rows(where, "traces", traces, at, *_WIGGLES)
    # The mean is over all functions, not only over those that are drawn.
    every = array(where, "traces", traces, (shown.count, len(at.at)))
    counts = np.isfinite(every).sum(0)
    mean = np.divide(np.nansum(every, 0), counts, out=np.full(len(at.at), np.nan), where=counts > 0)
    figure = panels.figure(where)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3))
    panels.lobes(upper, *with_crossings(at.at, mean), 0, 1)
    for at_times, values, position in shown.wiggles():
        # Trace numbers grow downward, so a positive lobe has to be drawn upward.
        panels.lobes(lower, at_times, values, position, -1)
    for axes in (upper, lower):
        axes.axvline(0, color=panels.QUIET, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    lower.set(xlim=at.edges, ylim=shown.span[::-1])
    panels.ticks(upper.yaxis, 4)
    panels.ticks(lower.yaxis, 8, shown.count)
    panels.ticks(lower.xaxis, 8)
    panels.house(upper, "", "amplitude", f"mean of {int(np.isfinite(every).any(1).sum()):,}")
    panels.house(lower, at.label, shown.said("trace"), panels.title_words("receiver functions", shown.full, "one spacing is "))
    return panels.png(figure)
