"""The parts of all figures of traces, in one style: panels, images, lobes, stems and marks. matplotlib is optional."""

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
_MISSING = {SIGNED: "#d3cfc5", GREYS: "#f7d9c8"}  # for NaN: a colour that does not occur in the map
_INCHES, _DPI = (8.0, 5.6), 200
_POINTS = 4000  # of a line: more than this cannot be seen
_MIN_MARK, _MAX_MARK = 3.0, 7.0  # diameters of marks, in points


def figure(where: str) -> Any:
    """Return an empty matplotlib figure that is not registered with pyplot.

    Raises:
        UnconvError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnconvError(
            f"{where}: matplotlib cannot be imported ({error}), but this picture needs it. "
            'Install it with pip install "unconv[plot]".'
        ) from error
    return Figure(figsize=_INCHES, dpi=_DPI, layout="constrained", facecolor="white")


def png(figure: Any) -> bytes:
    """Return a figure as PNG, 1600 x 1120 pixels at 200 dpi. The same picture gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    canvas: Any = FigureCanvasAgg(figure)
    # Without the version of matplotlib, which would change the bytes.
    canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def house(axes: Any, across: str, along: str, title: str = "") -> None:
    """Label a panel, and style it: grey axis lines, and no frame at the top and right."""
    axes.grid(False)
    axes.set_facecolor("white")
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=QUIET, linewidth=0.8)
    axes.tick_params(color=QUIET, labelcolor=INK, labelsize=9, length=3, width=0.8)
    axes.set_xlabel(across, color=INK, fontsize=9, parse_math=False)
    axes.set_ylabel(along, color=INK, fontsize=9, parse_math=False)
    axes.set_title(printable(title), color=INK, fontsize=9, loc="left", parse_math=False)


def ticks(axis: Any, most: int, count: int | None = None) -> None:
    """Place about `most` ticks or fewer at round numbers; on an axis of `count` traces, at existing trace numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    steps = [1, 2, 5, 10] if count else [1, 2, 2.5, 5, 10]
    locator: Any = MaxNLocator(most, steps=steps, integer=count is not None)
    if count is not None:
        locator = FixedLocator([each for each in locator.tick_values(0, max(count - 1, 1)) if 0 <= each < count])
    axis.set_major_locator(locator)
    axis.set_major_formatter(FuncFormatter(lambda value, _: number_words(value, 12)))


def number_words(value: float, digits: int = 3) -> str:
    """Return a number for a label: 4,740 or 0.0312, and 3.1e−09 if it is small."""
    shown = float(f"{value + 0.0:.{digits}g}")
    if 1 <= abs(shown) < 1e15 and shown == int(shown):
        return f"{shown:,.0f}".replace("-", "−")
    return f"{shown:,.{digits}g}".replace("-", "−")


def title_words(name: str, full: float, words: str) -> str:
    """Return the title of a panel with its scale: "traces, full colour at ±0.4"."""
    return f"{name}, {words}{number_words(full)}" if full else f"{name}, all zero"


def image(axes: Any, rows: Rows, full: float, colours: tuple[str, ...], times: Clock) -> None:
    """Draw traces as columns of an image, with time downward."""
    from matplotlib.colors import LinearSegmentedColormap

    # With an odd number of colours, the middle one is exactly zero.
    colour_map = LinearSegmentedColormap.from_list("unconv", colours, 255).with_extremes(bad=_MISSING[colours])
    first, last = times.edges
    extent = {"extent": (-0.5, rows.count - 0.5, last, first), "aspect": "auto", "origin": "upper"}
    scaled = rows.values.T / (full or 1.0)
    axes.imshow(scaled, cmap=colour_map, vmin=-1, vmax=1, interpolation="nearest", **extent)
    axes.set_xlim(-0.5, rows.count - 0.5)
    ticks(axes.xaxis, 8, rows.count)
    ticks(axes.yaxis, 8)


def wiggles(axes: Any, rows: Rows, times: Clock) -> None:
    """Draw traces as vertical lines with filled positive lobes, with time downward."""
    for at, values, position in rows.wiggles():
        axes.fill_betweenx(at, position, position + np.maximum(values, 0), color=INK, linewidth=0)
        axes.plot(position + values, at, color=INK, linewidth=0.5)
    axes.set(xlim=rows.span, ylim=times.edges[::-1])
    ticks(axes.xaxis, 8, rows.count)
    ticks(axes.yaxis, 8)


def lobes(axes: Any, at: Array, values: Array, position: float, sign: int) -> None:
    """Draw a line along time with filled lobes: orange above zero, blue below."""
    for lobe, colour in ((np.maximum(values, 0), ACCENT), (np.minimum(values, 0), BLUE)):
        axes.fill_between(at, position, position + sign * lobe, color=colour, linewidth=0)
    axes.plot(at, position + sign * values, color=INK, linewidth=0.6)


def trace_panels(figure: Any, trace: Array, refit: Array | None, times: Clock, noun: str) -> Any:
    """Draw a trace with its refit, and the residual at the same scale; return the panel below them, for stems."""
    high = _reach(trace, refit) or 1.0
    residual = None if refit is None else trace - refit
    # The height of the residual's panel is its share of the trace's range, but at least a quarter, so that it can be read.
    share = 0.0 if residual is None else max(_reach(residual) / high, 0.25)
    ratios = [3.0, 2.5] if residual is None else [3.0, 3 * share, 2.5]
    panels = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
    top = panels[0]
    top.plot(*thinned(times, trace, _POINTS), color=_PALE, linewidth=2.4, label=noun)
    if refit is not None and residual is not None:
        top.plot(*thinned(times, refit, _POINTS), color=ACCENT, linewidth=0.9, label="refit")
        panels[1].plot(*thinned(times, residual, _POINTS), color=QUIET, linewidth=0.8)
        house(panels[1], "", "", "residual, at the same scale")
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
    """Draw spikes (k,) as stems from zero, orange above and blue below, with bars of one deviation up and one down."""
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
    """Mark the echoes (m, K) of the scans shown: orange if positive, blue if negative, with areas that grow with amplitude.

    Args:
        axes: the panel.
        rows: the scans shown.
        at, sizes: delays and amplitudes of all scans.
        wide: width of the panel in points. Marks are small enough not to cover those of the neighbours, but remain visible.
    """
    at, sizes = at[rows.numbers], sizes[rows.numbers]
    across = np.broadcast_to(rows.places[:, None], at.shape)
    drawn = np.isfinite(at) & np.isfinite(sizes) & (sizes != 0)
    largest = np.abs(sizes[drawn]).max(initial=0.0) or 1.0
    most = min(max(wide / len(rows.numbers), _MIN_MARK), _MAX_MARK) ** 2
    for sign, colour, words in ((1, ACCENT, "positive"), (-1, BLUE, "negative")):
        some = drawn & (np.sign(sizes) == sign)
        area = np.maximum(most * np.abs(sizes[some]) / largest, _MIN_MARK**2 / 2)
        axes.scatter(across[some], at[some], s=area, c=colour, edgecolors="white", linewidths=0.3, label=words)


def legend(axes: Any, source: Any) -> None:
    """Draw the legend of the panel `source` above the right end of the panel `axes`."""
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
    # The areas of marks depend on amplitudes; in the legend all have the same one.
    for handle in box.legend_handles:
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([24.0])
