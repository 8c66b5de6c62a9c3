"""One look for figures of traces: what a panel, an image, lobes, stems and marks are drawn like. matplotlib is optional."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from unconv.errors import UnconvError, printable
from unconv.render.rows import Array, Clock, Rows, thinned

INK, QUIET, ACCENT, BLUE = "#1d1c1a", "#6b675f", "#e2571b", "#2c7be5"
SIGNED = ("#0d3a78", BLUE, "#ffffff", ACCENT, "#7a2705")
GREYS = ("#ffffff", "#a8a8a8", "#101010")

_LINE, _PALE = "#dedad1", "#b9b4a9"
_MISSING = {SIGNED: "#d3cfc5", GREYS: "#f7d9c8"}  # where there is no number: a colour that the map lacks
_INCHES, _DPI = (8.0, 5.6), 200
_POINTS = 4000  # of a line: more cannot be told apart
_SMALLEST, _LARGEST = 3.0, 7.0  # diameters of marks, in points


def figure(where: str) -> Any:
    """Return an empty figure of matplotlib's, which belongs to nobody else: pyplot does not know it.

    Raises:
        UnconvError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnconvError(
            f"{where}: matplotlib cannot be imported ({error}), but pictures of traces need it. "
            'Install it with pip install "unconv[plot]".'
        ) from error
    return Figure(figsize=_INCHES, dpi=_DPI, layout="constrained", facecolor="white")


def png(drawn: Any) -> bytes:
    """Return a figure as PNG, 1600 x 1120 pixels at 200 dpi; the same picture gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    canvas: Any = FigureCanvasAgg(drawn)
    canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def house(axes: Any, across: str, along: str, title: str = "") -> None:
    """Give a panel its labels and the house's look: no frame on top and at the right, quiet lines."""
    axes.grid(False)
    axes.set_facecolor("white")
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=QUIET, linewidth=0.8)
    axes.tick_params(color=QUIET, labelcolor=INK, labelsize=9, length=3, width=0.8)
    axes.set_xlabel(across, color=INK, fontsize=9, parse_math=False)
    axes.set_ylabel(along, color=INK, fontsize=9, parse_math=False)
    axes.set_title(printable(title), color=INK, fontsize=9, loc="left", parse_math=False)


def ticks(axis: Any, most: int, count: int | None = None) -> None:
    """Put at most about `most` ticks at round numbers; on an axis of `count` traces, at whole numbers that there are."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    steps = [1, 2, 5, 10] if count else [1, 2, 2.5, 5, 10]
    locator: Any = MaxNLocator(most, steps=steps, integer=count is not None)
    if count is not None:
        locator = FixedLocator([each for each in locator.tick_values(0, max(count - 1, 1)) if 0 <= each < count])
    axis.set_major_locator(locator)
    axis.set_major_formatter(FuncFormatter(lambda value, _: number_words(value, 12)))


def number_words(value: float, digits: int = 3) -> str:
    """Return a number to be read: 4,740 or 0.0312, and 3.1e−09 where it is small."""
    shown = float(f"{value + 0.0:.{digits}g}")
    if 1 <= abs(shown) < 1e15 and shown == int(shown):
        return f"{shown:,.0f}".replace("-", "−")
    return f"{shown:,.{digits}g}".replace("-", "−")


def title_words(name: str, full: float, words: str) -> str:
    """Name what a panel shows, and its scale: "traces, full colour at ±0.4"."""
    return f"{name}, {words}{number_words(full)}" if full else f"{name}, all zero"


def image(axes: Any, rows: Rows, full: float, colours: tuple[str, ...], times: Clock) -> None:
    """Draw traces as columns of an image, time downward."""
    from matplotlib.colors import LinearSegmentedColormap

    # An odd number of colours has one for zero.
    spread = LinearSegmentedColormap.from_list("unconv", colours, 255).with_extremes(bad=_MISSING[colours])
    first, last = times.edges
    place = {"extent": (-0.5, rows.count - 0.5, last, first), "aspect": "auto", "origin": "upper"}
    scaled = rows.values.T / (full or 1.0)
    axes.imshow(scaled, cmap=spread, vmin=-1, vmax=1, interpolation="nearest", **place)
    axes.set_xlim(-0.5, rows.count - 0.5)
    ticks(axes.xaxis, 8, rows.count)
    ticks(axes.yaxis, 8)


def wiggles(axes: Any, rows: Rows, times: Clock) -> None:
    """Draw traces as lines downward, with positive lobes filled."""
    for at, values, place in rows.wiggles():
        axes.fill_betweenx(at, place, place + np.maximum(values, 0), color=INK, linewidth=0)
        axes.plot(place + values, at, color=INK, linewidth=0.5)
    axes.set(xlim=rows.span, ylim=times.edges[::-1])
    ticks(axes.xaxis, 8, rows.count)
    ticks(axes.yaxis, 8)


def lobes(axes: Any, at: Array, values: Array, place: float, sign: int) -> None:
    """Draw a line along time with its lobes filled: orange above zero, blue below."""
    for lobe, colour in ((np.maximum(values, 0), ACCENT), (np.minimum(values, 0), BLUE)):
        axes.fill_between(at, place, place + sign * lobe, color=colour, linewidth=0)
    axes.plot(at, place + sign * values, color=INK, linewidth=0.6)


def fitted(drawn: Any, trace: Array, refit: Array | None, times: Clock, noun: str) -> Any:
    """Draw a trace with its refit, and what is left of it at the same scale; return the panel below, for the stems."""
    high = _reach(trace, refit) or 1.0
    left = None if refit is None else trace - refit
    share = 0.0 if left is None else max(_reach(left) / high, 0.25)
    ratios = [3.0, 2.5] if left is None else [3.0, 3 * share, 2.5]
    panels = drawn.subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
    top = panels[0]
    top.plot(*thinned(times, trace, _POINTS), color=_PALE, linewidth=2.4, label=noun)
    if refit is not None and left is not None:
        top.plot(*thinned(times, refit, _POINTS), color=ACCENT, linewidth=0.9, label="refit")
        panels[1].plot(*thinned(times, left, _POINTS), color=QUIET, linewidth=0.8)
        house(panels[1], "", "", "what is left, at the same scale")
    house(top, "", "amplitude")
    for axes, reach in zip(panels[:-1], (high, share * high), strict=False):
        axes.axhline(0, color=_LINE, linewidth=0.8, zorder=0)
        axes.tick_params(labelbottom=False)
        axes.set_ylim(-reach, reach)
        ticks(axes.yaxis, 6 if reach > high / 2 else 2)
    legend(top, top)
    panels[-1].set_xlim(times.edges)
    ticks(panels[-1].xaxis, 8)
    return panels[-1]


def _reach(*lines: Array | None) -> float:
    """Return 1.05 times the largest magnitude."""
    sizes = [np.abs(line[np.isfinite(line)]).max(initial=0.0) for line in lines if line is not None]
    return 1.05 * float(max(sizes))


def stems(axes: Any, at: Array, heights: Array, bars: Array | None) -> None:
    """Draw spikes (k,) as stems from zero, orange above and blue below, with bars of one deviation up and down."""
    colours = np.where(heights > 0, ACCENT, BLUE)
    axes.axhline(0, color=QUIET, linewidth=0.8, zorder=0)
    axes.vlines(at, 0, heights, colors=colours, linewidth=1.2)
    axes.scatter(at, heights, s=9, c=colours, linewidths=0, zorder=3)
    reach = np.abs(heights)
    if bars is not None:
        axes.vlines(at, heights - bars, heights + bars, colors=INK, linewidth=0.8, zorder=4)
        reach = reach + np.nan_to_num(bars)
    high = _reach(reach) or 1.0
    axes.set_ylim(-high, high)
    ticks(axes.yaxis, 6)


def marks(axes: Any, rows: Rows, at: Array, sizes: Array, wide: float) -> None:
    """Mark the echoes (m, K) of the scans shown: orange upright, blue upside down, areas as their sizes.

    Args:
        wide: points of the panel's width: marks of neighbours do not cover each other, as long as they can be seen.
    """
    at, sizes = at[rows.numbers], sizes[rows.numbers]
    across = np.broadcast_to(rows.places[:, None], at.shape)
    there = np.isfinite(at) & np.isfinite(sizes) & (sizes != 0)
    largest = np.abs(sizes[there]).max(initial=0.0) or 1.0
    most = min(max(wide / len(rows.numbers), _SMALLEST), _LARGEST) ** 2
    for sign, colour, words in ((1, ACCENT, "upright"), (-1, BLUE, "upside down")):
        some = there & (np.sign(sizes) == sign)
        area = np.maximum(most * np.abs(sizes[some]) / largest, _SMALLEST**2 / 2)
        axes.scatter(across[some], at[some], s=area, c=colour, edgecolors="white", linewidths=0.3, label=words)


def legend(axes: Any, source: Any) -> None:
    """Name what a panel, the source, shows, above the right end of a panel."""
    handles, words = source.get_legend_handles_labels()
    box = axes.legend(
        handles,
        words,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=2,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        borderaxespad=0.0,
        handlelength=1.6,
        handletextpad=0.4,
        columnspacing=1.2,
    )
    for handle in box.legend_handles:
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([24.0])
