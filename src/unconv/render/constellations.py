"""Draw constellations, eye diagrams and error rates of digital links as PNG pictures, 1600 x 1120 pixels at 200 dpi."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError, counted, printable
from unconv.kinds import checks_kinds, checks_kinds_but, fits_kind, shown
from unconv.render import panels
from unconv.render.rows import Array, array

_DOTS = 5000  # symbols in one panel: more cannot be told apart
_TRACES = 400  # of an eye diagram, at most
_FINE = 32  # samples per symbol that an eye diagram is drawn with
_COLOURS = (panels.ACCENT, panels.BLUE, panels.INK, "#2d8a4e", "#8a4fbf", "#b8860b")
_MARKS = "osD^vP"
_ARROW = 1.9  # factor by which the rate falls along the arrow of an upper bound
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@checks_kinds
def constellation_picture(
    before: Any, after: Any, points: Any = None, names: tuple[str, str] = ("received", "equalised")
) -> bytes:
    """Draw soft symbols before and after equalisation in the complex plane; real ones over their index.

    Each panel has its own scale. If there are more than 5,000 symbols, evenly spaced ones are drawn, and the title says how
    many. Symbols that are not finite are left out.

    Args:
        before, after: (..., n) and (..., k), arrays or tensors, real or complex.
        points: (M,), the constellation, drawn over the symbols after equalisation; None: not drawn.
        names: titles of the two panels.

    Returns:
        The PNG file's bytes.

    Raises:
        UnconvError: matplotlib is missing. ShapeError: no symbols. DtypeError: values that are not numbers.
    """
    where = "constellation_picture"
    both = [_line(where, name, values).ravel() for name, values in (("before", before), ("after", after))]
    marks = None if points is None else _line(where, "points", points).ravel()
    figure = panels.figure(where)
    figure.subplots(1, 2)
    # All values decide, not each panel: real symbols with complex points would hide half of the picture.
    flat = not any(np.iscomplexobj(each) for each in (*both, *([] if marks is None else [marks])))
    for axes, values, name in zip(figure.axes, both, names, strict=True):
        over = marks if axes is figure.axes[1] else None
        numbers = np.flatnonzero(np.isfinite(values))
        few = numbers[np.linspace(0, len(numbers) - 1, min(len(numbers), _DOTS)).astype(int)] if len(numbers) else numbers
        title = name if len(few) == values.size else f"{name} ({len(few):,} of {values.size:,} shown)"
        (_real_symbols if flat else _plane)(axes, values, few, over)
        along = "amplitude" if flat else "imaginary part"
        panels.house(axes, "symbol" if flat else "real part", along if axes is figure.axes[0] else "", title)
    return panels.png(figure)


def _plane(axes: Any, values: Array, few: Array, points: Array | None) -> None:
    """Draw complex values as dots and the constellation as rings, with equal scales on both axes."""
    dots = values[few].astype(complex)
    _cross_hairs(axes)
    axes.scatter(dots.real, dots.imag, s=_size(len(few)), c=panels.BLUE, alpha=_strength(len(few)), linewidths=0)
    if points is not None:
        spots = points.astype(complex)
        width = 30.0 if len(spots) <= 64 else 8.0
        axes.scatter(spots.real, spots.imag, s=width, facecolors="none", edgecolors=panels.ACCENT, linewidths=1.2, zorder=3)
        dots = np.concatenate([dots, spots])
    reach = 1.08 * max(np.abs(dots.real).max(initial=0), np.abs(dots.imag).max(initial=0)) or 1.0
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    panels.ticks(axes.xaxis, 5)
    panels.ticks(axes.yaxis, 5)


def _real_symbols(axes: Any, values: Array, few: Array, points: Array | None) -> None:
    """Draw real values over their index, and the constellation as lines."""
    axes.scatter(few, values[few], s=_size(len(few)), c=panels.BLUE, alpha=_strength(len(few)), linewidths=0)
    for point in [] if points is None else points:
        axes.axhline(point, color=panels.ACCENT, linewidth=1.0, zorder=3)
    spots = values[few] if points is None else np.concatenate([values[few], points])
    reach = 1.08 * np.abs(spots).max(initial=0) or 1.0
    axes.set(xlim=(-0.5, values.size - 0.5), ylim=(-reach, reach))
    panels.ticks(axes.xaxis, 4, values.size)
    panels.ticks(axes.yaxis, 6)


def _size(count: int) -> float:
    return 10.0 if count <= 500 else 4.0


def _strength(count: int) -> float:
    """Return the opacity of dots: lower for many, whose overlaps add up."""
    return 0.8 if count <= 500 else 0.45 if count <= 2000 else 0.3


def _cross_hairs(axes: Any) -> None:
    for draw in (axes.axhline, axes.axvline):
        draw(0, color=panels.QUIET, linewidth=0.6, linestyle=(0, (4, 3)), zorder=0)


@checks_kinds
def eye_picture(
    before: Any,
    after: Any,
    samples_per_symbol: int | tuple[int, int] = 1,
    names: tuple[str, str] = ("received", "equalised"),
) -> bytes:
    """Draw eye diagrams: overlaid traces of two symbols each, with decisions at -1, 0 and 1; both parts of complex signals.

    Between samples the signals are interpolated as band-limited ones. At most 400 evenly spaced traces are drawn.

    Args:
        before, after: (n,) and (k,), real or complex, at least 4 symbols each.
        samples_per_symbol: the rate of both, or of each.
        names: titles of the two columns.

    Returns:
        The PNG file's bytes.

    Raises:
        UnconvError: matplotlib is missing. ShapeError: fewer than 4 symbols, or NaN. DtypeError: values that are not numbers.
    """
    where = "eye_picture"
    rates = samples_per_symbol if isinstance(samples_per_symbol, tuple) else (samples_per_symbol, samples_per_symbol)
    lines = [_line(where, name, values) for name, values in (("before", before), ("after", after))]
    for line, name, rate in zip(lines, ("before", "after"), rates, strict=True):
        if line.ndim != 1 or rate < 1 or len(line) < 4 * rate or not np.isfinite(line).all():
            raise ShapeError(
                f"{where}: {name} is {line.shape} at {counted(rate, 'sample')} per symbol, but one signal of at least 4 "
                "symbols, without NaN, was needed. Pass one signal, and its samples per symbol."
            )
    parts = ("real", "imag") if any(np.iscomplexobj(line) for line in lines) else ("real",)
    figure = panels.figure(where)
    grid = figure.subplots(len(parts), 2, sharex=True, squeeze=False)
    for column, (line, name, rate) in enumerate(zip(lines, names, rates, strict=True)):
        traces = _traces(line.astype(complex), rate)
        # One scale for both parts, so that a carrier phase error shows as unequal openings.
        reach = 1.08 * max(np.abs(traces.real).max(), np.abs(traces.imag).max()) or 1.0
        for axes, part in zip(grid[:, column], parts, strict=True):
            _eye(axes, getattr(traces, part), reach)
            title = name if len(parts) == 1 else f"{name}, {'real' if part == 'real' else 'imaginary'} part"
            last = axes is grid[-1, column]
            panels.house(axes, "time, symbols" if last else "", "amplitude" if column == 0 else "", title)
    return panels.png(figure)


def _traces(line: Array, rate: int) -> Array:
    """Return traces (k, 2 * _FINE + 1) of an interpolated signal, each with decisions at both ends and in the middle."""
    symbols = len(line) // rate
    n, fine = symbols * rate, symbols * _FINE
    # Band-limited interpolation: pad the spectrum with zeros.
    spectrum = np.fft.fft(line[:n])
    wide = np.zeros(fine, complex)
    half = min(n, fine) // 2
    wide[: half + 1], wide[-half:] = spectrum[: half + 1], spectrum[-half:]
    if n % 2 == 0 and n <= fine:
        wide[half] /= 2  # the Nyquist frequency is shared by both signs
        wide[-half] = wide[half]
    smooth = np.fft.ifft(wide) * fine / n
    # Interpolation is circular: near the ends it mixes the first and last symbols, which are left out.
    edge = 1 if symbols < 12 else 4
    starts = np.arange(edge, symbols - 1 - edge) if symbols > 2 * edge + 1 else np.array([0])
    chosen = starts[np.linspace(0, len(starts) - 1, min(len(starts), _TRACES)).astype(int)]
    traces: Array = smooth[(chosen[:, None] * _FINE + np.arange(2 * _FINE + 1)) % fine]
    return traces


def _eye(axes: Any, traces: Array, reach: float) -> None:
    """Overlay traces, and mark the times of decisions."""
    time = np.linspace(-1, 1, traces.shape[1])
    axes.plot(time, traces.T, color=panels.BLUE, linewidth=0.6, alpha=min(1.0, 12 / len(traces) ** 0.75 + 0.06))
    for decision in (-1, 0, 1):
        axes.axvline(
            decision, color=panels.ACCENT if decision == 0 else panels.QUIET, linewidth=0.9, linestyle=(0, (4, 3)), zorder=3
        )
    axes.set(xlim=(-1, 1), ylim=(-reach, reach))
    panels.ticks(axes.xaxis, 4)
    panels.ticks(axes.yaxis, 4)


@checks_kinds_but("rates", "bound")
def error_rate_picture(snr: Any, rates: Any, bound: Any = None, across: str = "SNR, dB", along: str = "error rate") -> bytes:
    """Draw error rates over the signal-to-noise ratio on a logarithmic axis, with their confidence intervals.

    Where no error was counted, an arrow points down from the upper end of the interval.

    Args:
        snr: (n,), rising, in dB.
        rates: {name: (n,)}, up to six: results of `symbol_error_rate` or `bit_error_rate`; or numbers, which have no interval
            and are left out where they are zero or NaN.
        bound: (n,) or {name: (n,)}, drawn as dashed lines, such as the matched-filter bound; None: none.
        across, along: labels of the horizontal and the vertical axis.

    Returns:
        The PNG file's bytes.

    Raises:
        UnconvError: matplotlib is missing. ShapeError: lengths that differ, or rates outside 0 to 1. DtypeError: no dict.
    """
    where = "error_rate_picture"
    ratios = array(where, "snr", snr, (None,))
    if not len(ratios) or not (np.isfinite(ratios).all() and (np.diff(ratios) > 0).all()):
        raise ShapeError(f"{where}: snr is {_brief(ratios)}, but rising numbers of dB were needed. Sort them.")
    if not isinstance(rates, Mapping) or not 1 <= len(rates) <= len(_COLOURS):
        raise DtypeError(f"{where}: rates is {shown(rates)}, but a dict of 1 to {len(_COLOURS)} names with rates was needed.")
    bounds = bound if isinstance(bound, Mapping) else {} if bound is None else {"bound": bound}
    lines = {str(name): _intervals(where, str(name), values, len(ratios)) for name, values in rates.items()}
    dashed = {str(name): _intervals(where, str(name), values, len(ratios))[:, 0] for name, values in bounds.items()}
    figure = panels.figure(where)
    axes = figure.subplots()
    # Counted rates set the lower end of the axis: bounds go far below what can be counted.
    lowest = _lowest(lines, dashed)
    for (name, line), style in zip(dashed.items(), ("--", ":", "-."), strict=False):
        axes.plot(
            ratios, np.where(line > 0, line, np.nan), color=panels.QUIET, linewidth=1.2, linestyle=style, label=printable(name)
        )
    # Methods are drawn slightly side by side: their intervals at one ratio would hide each other.
    shift = 0.008 * (ratios[-1] - ratios[0] or 1.0)
    for k, (name, line) in enumerate(lines.items()):
        _rate_line(axes, ratios + shift * (k - (len(lines) - 1) / 2), line, _COLOURS[k], _MARKS[k], printable(name))
    margin = 0.04 * (ratios[-1] - ratios[0] or 1.0)
    axes.set(yscale="log", xlim=(ratios[0] - margin, ratios[-1] + margin), ylim=(lowest, 1.0))
    _log_ticks(axes, lowest)
    panels.ticks(axes.xaxis, 10)
    panels.house(axes, across, along)
    axes.grid(True, axis="y", color="#dedad1", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="lower left", frameon=False, fontsize=9, labelcolor=panels.INK)
    return panels.png(figure)


def _rate_line(axes: Any, ratios: Array, line: Array, colour: str, mark: str, name: str) -> None:
    """Draw rates (n, 3) as marks with error bars, and those without any error as arrows down from the upper bound."""
    rate, low, high = line.T
    positive = rate > 0
    axes.plot(ratios[positive], rate[positive], color=colour, linewidth=1.4, marker=mark, markersize=4.5, label=name)
    bars = positive & np.isfinite(low) & np.isfinite(high)
    axes.vlines(ratios[bars], np.maximum(low[bars], 1e-300), high[bars], color=colour, linewidth=1.0)
    for x, y in zip(ratios[~positive], high[~positive], strict=True):
        if np.isfinite(y) and y > 0:
            ends = {"xy": (x, y / _ARROW), "xytext": (x, y)}
            arrow = {"arrowstyle": "->", "color": colour, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", **ends, arrowprops=arrow)
            axes.plot([x], [y], color=colour, marker="_", markersize=7)


def _intervals(where: str, name: str, values: Any, count: int) -> Array:
    """Return rates with their intervals, (n, 3): rate, low and high; plain numbers have NaN for an interval."""
    if isinstance(values, Sequence) and values and all(hasattr(each, "high") for each in values):
        table = np.array([(each.rate, each.low, each.high) for each in values], dtype=float)
    else:
        plain = array(where, name, values, (None,))
        table = np.stack([plain, np.full(len(plain), np.nan), np.full(len(plain), np.nan)], 1)
    if len(table) != count:
        raise ShapeError(
            f"{where}: {name} has {counted(len(table), 'rate')}, but {count} were needed, one for each signal-to-noise ratio."
        )
    known = table[np.isfinite(table)]
    if ((known < 0) | (known > 1)).any():
        raise ShapeError(f"{where}: {name} holds {known[(known < 0) | (known > 1)][0]:g}, but rates from 0 to 1 were needed.")
    return table


def _lowest(lines: Mapping[str, Array], dashed: Mapping[str, Array]) -> float:
    """Return the power of ten below all counted rates and arrows, at least 1e-12; without any, below the bounds."""
    rates = np.concatenate([line.ravel() for line in lines.values()])
    arrows = np.concatenate([line[~(line[:, 0] > 0), 2] / _ARROW for line in lines.values()])
    drawn = np.concatenate([rates, arrows])
    if not (drawn > 0).any():
        drawn = np.concatenate(list(dashed.values()) or [np.array([1e-3])])
    least = float(np.min(drawn[drawn > 0], initial=0.5))
    return float(10 ** np.floor(np.log10(max(least, 1e-12)) - 1e-9))


def _log_ticks(axes: Any, lowest: float) -> None:
    """Label powers of ten: all of them, or every second or third where there are many."""
    from matplotlib.ticker import FixedLocator, NullLocator

    powers = np.arange(round(np.log10(lowest)), 1)
    labelled = powers[::-1][:: -(-len(powers) // 9)][::-1]
    axes.yaxis.set_major_locator(FixedLocator([float(10.0**p) for p in labelled]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticklabels([f"10{str(p).translate(_SUPERSCRIPTS)}" if p else "1" for p in labelled])


def _line(where: str, name: str, values: Any) -> Array:
    """Return real or complex numbers (..., n) as float64 or complex128.

    Raises:
        DtypeError: values that are not numbers. ShapeError: no values.
    """
    # NumPy has neither bfloat16 nor torch's lazy conjugation.
    if isinstance(values, Tensor) and fits_kind(values, Tensor):
        tensor = values.detach().cpu().resolve_conj().resolve_neg()
        values = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
    try:
        plain: Array = np.asarray(values) if not isinstance(values, Tensor) else np.empty(0, object)
    except ValueError:
        plain = np.empty(0, object)
    if plain.dtype.kind not in "fciu":
        raise DtypeError(f"{where}: {name} is {shown(values)}, but numbers were needed. Pass an array or a tensor of them.")
    if plain.ndim < 1 or not plain.size:
        raise ShapeError(f"{where}: {name} is {plain.shape}, but (..., n) with at least one value was needed.")
    return plain.astype(np.complex128 if plain.dtype.kind == "c" else np.float64)


def _brief(values: Array) -> str:
    return "empty" if not len(values) else f"from {values[0]:g} to {values[-1]:g}"
