"""Commands on traces: spikes behind a wavelet, receiver functions, and echoes in ultrasonic scans."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unconv.cli.groups import Group
from unconv.cli.options import AsJson, Quiet, one_of
from unconv.cli.progress import print_table, remark, show_progress
from unconv.cli.trace_options import Picked, read_pair, read_pulse, read_wavelet, refuse_ending, refuse_places, told_as_json
from unconv.errors import UnconvError, printable
from unconv.files import write
from unconv.inverse.fields.seismic.method_table import FILTERS, SPIKES, WITH_DEVIATIONS, method_help
from unconv.progress import Progress

if TYPE_CHECKING:
    from unconv.traces import TraceFile

GROUP = Group("Measured signals", 5)

_ROWS = 20  # scans whose echoes are printed
_ESTIMATED = 0.1  # how far an estimated wavelet is from the true one, as a share of the traces
_BLOCK = 2**20  # samples that are read at a time: larger blocks take memory, and no less time

Rate = Annotated[float | None, typer.Option(help="Samples a second, for files that do not say, such as .npy.")]
Force = Annotated[bool, typer.Option("--force", "--overwrite", help="Replace files that are there already.")]
Picture = Annotated[Path | None, typer.Option(help="Also draw before and after, as PNG; needs the extra plot.")]


@GROUP.command
def spikes(
    traces: Annotated[Path, typer.Argument(metavar="IN", help="SEG-Y, miniSEED, SAC (extra seismic) or .npy, (..., n).")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The same kind of file with its headers; or .npy.")],
    wavelet: Annotated[
        str | None,
        typer.Option(
            help="A file, .npy or .csv; or ricker:FREQUENCY in Hz; or estimate:LENGTH, in samples, zero phase, or "
            "estimate:LENGTH,minimum or estimate:LENGTH,mixed, from the traces."
        ),
    ] = None,
    method: Annotated[str, typer.Option(help=method_help(), autocompletion=one_of([*SPIKES, *FILTERS]))] = "sbl",
    noise: Annotated[str, typer.Option(help="estimate, or a standard deviation in the traces' units.")] = "estimate",
    centre: Annotated[
        int | None, typer.Option(help="The wavelet file's sample at a spike's time, from 0; by default its middle.")
    ] = None,
    length: Annotated[int, typer.Option(help="Samples of the filter, of spiking and predictive.")] = 80,
    gap: Annotated[int | None, typer.Option(help="Samples that predictive leaves alone.")] = None,
    prewhitening: Annotated[float, typer.Option(help="Share added to the power, of spiking and predictive.")] = 1e-3,
    misfit: Annotated[
        float | None,
        typer.Option(help="The wavelet's error, as a share of the traces; by default 0.1 if it is estimated, else 0."),
    ] = None,
    clipped: Annotated[str, typer.Option(help="keep clipped traces as they are, or use them.")] = "keep",
    deviation: Annotated[
        Path | None, typer.Option(help="Also write the spikes' standard deviations, as OUT; 0 for traces that are kept.")
    ] = None,
    rate: Rate = None,
    picture: Picture = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find the spikes in traces, or shorten their wavelet, block by block; headers and order stay as they are."""
    from unconv.traces import open_traces

    begun = time.monotonic()
    _refuse_method(method, {"--wavelet": wavelet, "--deviation": deviation, "--centre": centre, "--misfit": misfit}, gap, noise)
    level: Any = noise if noise == "estimate" else _number("--noise", noise)
    places = [path for path in (out, deviation, picture) if path is not None]
    refuse_places("spikes", places, [traces, *([Path(wavelet)] if wavelet and os.path.isfile(wavelet) else [])], force)
    with open_traces(traces, rate) as file, show_progress(as_json or quiet, "reading") as progress, ExitStack() as stack:
        for path in (out, *([deviation] if deviation else [])):
            refuse_ending(file, path)
        for note in file.notes:
            remark(note, quiet)
        if method in SPIKES:
            shape = read_wavelet(str(wavelet), centre, file, progress)
            for note in shape.notes:
                remark(note, quiet)
            settings: dict[str, Any] = {"wavelet": shape.samples, "centre": shape.centre, "noise": level, "method": method}
            settings["misfit"] = misfit if misfit is not None else 0.0 if shape.phase == "given" else _ESTIMATED
        else:
            settings = {"length": length, "prewhitening": prewhitening} | ({"gap": gap} if method == "predictive" else {})
        writers = {name: stack.enter_context(_writer(file, path)) for name, path in _named(out, deviation).items()}
        picked = Picked(file.count, picture is not None)
        told = _worked(file, method, settings | {"clipped": clipped}, writers, picked, progress)
        told |= {"traces": file.count, "rate": file.rate, "seconds": round(time.monotonic() - begun, 2)}
        if picture is not None:
            write(picture, picked.drawn(file, method))
    _tell_spikes(told, places, as_json, quiet)


def _refuse_method(method: str, of_spikes: dict[str, Any], gap: int | None, noise: str) -> None:
    if method not in SPIKES | FILTERS:
        raise typer.BadParameter(f"--method {method!r}: write one of {', '.join(SPIKES | FILTERS)}.")
    if method in SPIKES and of_spikes["--wavelet"] is None:
        raise typer.BadParameter(f"--method {method} needs --wavelet: a file, ricker:FREQUENCY or estimate:LENGTH.")
    given = [name for name, value in of_spikes.items() if value is not None] + (["--noise"] if noise != "estimate" else [])
    if method in FILTERS and given:
        raise typer.BadParameter(f"--method {method} takes no {', '.join(given)}. Leave that out.")
    if method not in WITH_DEVIATIONS and of_spikes["--deviation"] is not None:
        raise typer.BadParameter(f"--method {method} knows no deviations. Leave --deviation out, or use {WITH_DEVIATIONS[0]}.")
    if (method == "predictive") != (gap is not None):
        raise typer.BadParameter("--gap goes with --method predictive, which needs it.")


def _named(out: Path, deviation: Path | None) -> dict[str, Path]:
    return {"traces": out} if deviation is None else {"traces": out, "deviation": deviation}


def _writer(file: TraceFile, out: Path) -> Any:
    from unconv.cli.trace_options import into_array

    return into_array(file, out) if out.suffix.lower() == ".npy" and file.kind != "npy" else file.rewritten(out)


def _worked(
    file: TraceFile, method: str, settings: dict[str, Any], writers: dict[str, Any], picked: Picked, progress: Progress
) -> dict[str, Any]:
    """Work through a file block by block, and return what is told of it."""
    from unconv.inverse.fields import seismic

    kept, noises, converged, several = list[int](), list[float](), True, len(file.shape) == 1
    for block in file.blocks(_BLOCK):
        if several and block.values.shape[1] <= len(settings.get("wavelet", ())) + settings.get("length", 1):
            # A fragment between gaps: shorter than the wavelet, it tells nothing, and is no reason to refuse the others.
            kept += range(block.first, block.first + len(block.values))
            continue
        if method in SPIKES:
            found = seismic.sparse_spikes(
                block.values,
                rate=file.rate or 1.0,
                start=file.start,
                progress=_onward(progress, block.first, file.count),
                **settings,
            )
            results = {"traces": found.spikes, "deviation": _without_nan(found.deviation, file)}
            noises += found.noise.tolist()
            converged &= found.converged
            picked.take(block, after=found.spikes, deviation=found.deviation, refit=found.refit)
        else:
            filtered = getattr(seismic, method)(block.values, **settings)
            found, results = filtered, {"traces": filtered.traces}
            picked.take(block, after=filtered.traces)
        kept += [block.first + number for number in found.kept]
        for name, writer in writers.items():
            writer.put(block.first, results[name])
        progress("finding spikes" if method in SPIKES else "filtering", block.first + len(block.values), file.count)
    known = sorted(level for level in noises if level == level)
    told: dict[str, Any] = {"method": method, "kept": kept}
    return told | ({"noise": known[len(known) // 2] if known else None, "converged": converged} if method in SPIKES else {})


def _without_nan(deviation: Any, file: TraceFile) -> Any:
    """Return deviations with 0 in place of NaN, which traces that were kept have and IBM floats have no room for."""
    import numpy as np

    return deviation if file.kind == "npy" else np.nan_to_num(deviation, nan=0.0)


def _onward(progress: Progress, first: int, total: int) -> Progress:
    """Tell progress within a block as that of the whole file."""
    return lambda what, done, _of_block: progress(what, first + done, total)


def _tell_spikes(told: dict[str, Any], places: list[Path], as_json: bool, quiet: bool) -> None:
    if as_json:
        print(told_as_json(told | {"files": [str(path) for path in places]}))
        return
    if told.get("converged") is False:
        remark("some traces met no rule for stopping: more steps might change their spikes", quiet)
    if told["kept"]:
        numbers = ", ".join(map(str, told["kept"][:8])) + (", …" if len(told["kept"]) > 8 else "")
        remark(f"kept as they are, dead, clipped, with NaN or too short, {len(told['kept'])} of the traces: {numbers}", quiet)
    level = f", median noise {told['noise']:.4g}" if told.get("noise") is not None else ""
    count = "1 trace" if told["traces"] == 1 else f"{told['traces']:,} traces"
    print(f"{told['method']}: {count}{level}, {told['seconds']:.1f} s")
    print(printable(f"wrote {' and '.join(map(str, places))}"))


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r}: write estimate or a number.") from None


@GROUP.command
def receiver_function(
    records: Annotated[
        list[Path], typer.Argument(metavar="STREAM...", help="Three components, miniSEED, SAC or what else ObsPy reads.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="An array, .npy, a row for each event; times stand in --json.")],
    events: Annotated[Path | None, typer.Option(help="Event catalogue, QuakeML, for back azimuths and P arrivals.")] = None,
    stations: Annotated[Path | None, typer.Option(help="Station inventory, StationXML.")] = None,
    back_azimuth: Annotated[
        float | None, typer.Option(help="Degrees from north to the event, where nothing else says.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="iterative, waterlevel or multitaper.", autocompletion=one_of(["iterative", "waterlevel", "multitaper"])
        ),
    ] = "iterative",
    window: Annotated[str, typer.Option(help="Seconds around the P wave that are used, where it is known.")] = "-25,75",
    band: Annotated[str | None, typer.Option(help="Hz, of a band-pass before that: 0.03,1.5.")] = None,
    gauss: Annotated[float, typer.Option(help="Standard deviation of the Gaussian low-pass, in Hz.")] = 0.5,
    picture: Picture = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Deconvolve radial by vertical components: what the crust below a station made of a distant earthquake."""
    from unconv.cli.trace_options import array_bytes
    from unconv.inverse.fields import seismic
    from unconv.traces.arrivals import open_arrivals

    files = [*records, *(path for path in (events, stations) if path is not None)]
    refuse_places("receiver-function", [path for path in (out, picture) if path is not None], files, force)
    with show_progress(as_json or quiet, "reading"):
        pair = read_pair("--window", window)
        found = open_arrivals(
            records, events, stations, back_azimuth, pair, None if band is None else read_pair("--band", band)
        )
        for note in found.notes:
            remark(note, quiet)
        made = seismic.receiver_function(found.radial, found.vertical, found.rate, method, gauss=gauss)
        for note in made.notes:
            remark(note, quiet)
        write(out, array_bytes(made.trace))
        if picture is not None:
            from unconv.render.traces import receiver_picture

            write(picture, receiver_picture(made.trace, made.times))
    rows = [(name, f"{fit:.3f}") for name, fit in zip(found.names, made.fit.tolist(), strict=True)]
    if as_json:
        events_told = [{"name": name, "fit": fit} for name, fit in zip(found.names, made.fit.tolist(), strict=True)]
        times = {"first": float(made.times[0]), "interval": 1 / found.rate, "samples": len(made.times)}
        told = {
            "method": method,
            "events": events_told,
            "times": times,
            "kept": list(made.kept),
            "notes": [*found.notes, *made.notes],
        }
        print(told_as_json(told | {"out": str(out)}))
        return
    print_table(("event", "explained"), rows)
    print(printable(f"wrote {out}: {len(rows)} receiver functions from {made.times[0]:g} to {made.times[-1]:g} s"))


@GROUP.command
def echoes(
    scans: Annotated[Path, typer.Argument(metavar="SCAN", help="A-scans along the last axis: .npy (..., n), or SEG-Y.")],
    pulse: Annotated[
        str, typer.Option(help="The echo of one reflector: a file, .npy or .csv; estimate; or gate:FROM,TO in seconds.")
    ] = "estimate",
    rate: Annotated[float | None, typer.Option(help="Samples a second.")] = None,
    velocity: Annotated[float | None, typer.Option(help="Of sound, metres a second: then depths are told.")] = None,
    gate: Annotated[str | None, typer.Option(help="Seconds between which echoes are looked for: 1e-6,8e-6.")] = None,
    start: Annotated[float | None, typer.Option(help="Seconds of the first sample; by default as the file says, or 0.")] = None,
    most: Annotated[int, typer.Option(help="Echoes of a scan, at most.")] = 8,
    misfit: Annotated[
        float | None, typer.Option(help="How far echoes are from the pulse's shape, as a share; by default found or 0.05.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="A table of all echoes, .csv.")] = None,
    picture: Picture = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Resolve the echoes in ultrasonic scans, closer together than the pulse is long: delays, depths, and how sure they are."""
    from unconv.traces import open_traces

    if out is not None and out.suffix.lower() != ".csv":
        raise typer.BadParameter(f"-o {out}: the table is written as CSV. End its name with .csv.")
    places = [path for path in (out, picture) if path is not None]
    refuse_places("echoes", places, [scans, *([Path(pulse)] if os.path.isfile(pulse) else [])], force)
    with open_traces(scans, rate) as file, show_progress(as_json or quiet, "reading") as progress:
        if file.rate is None:
            raise UnconvError(f"echoes: {scans} does not say how many samples a second there are. Pass --rate.")
        window = None if gate is None else read_pair("--gate", gate)
        begin = file.start if start is None else start
        settings: dict[str, Any] = {"gate": window, "most": most, "misfit": misfit, "start": begin, "velocity": velocity}
        picked = Picked(file.count, bool(picture))
        table, counts, notes = _resolved(file, read_pulse(pulse, file, begin), settings, picked, progress)
        for note in notes:
            remark(note, quiet)
        if out is not None:
            write(out, _csv(table, velocity))
        if picture is not None:
            write(picture, picked.echoes(file, begin))
    _tell_echoes(table, counts, notes, out, velocity, as_json)


def _resolved(
    file: TraceFile, pulse: Any, settings: dict[str, Any], picked: Picked, progress: Progress
) -> tuple[list[tuple[float, ...]], list[int], list[str]]:
    """Resolve a file block by block: rows of the table, how many echoes each scan has, and what was noted."""
    from unconv.inverse.fields import ultrasonic

    table, counts, notes = list[tuple[float, ...]](), list[int](), dict[str, None]()
    for block in file.blocks(_BLOCK):
        onward = _onward(progress, block.first, file.count)
        found = ultrasonic.resolve_echoes(block.values, pulse, float(file.rate or 1), progress=onward, **settings)
        # An estimated pulse, and how far echoes are from it, are those of the first block, for all of them.
        pulse, settings = found.pulse, settings | {"misfit": found.misfit}
        notes |= dict.fromkeys(found.notes)
        table += _rows(found, block.first)
        counts += found.order.tolist()
        picked.take(block, delays=found.delays, amplitudes=found.amplitudes)
    return table, counts, list(notes)


def _rows(found: Any, first: int) -> list[tuple[float, ...]]:
    """Return (scan, echo, delay, its deviation, amplitude, its deviation[, depth]) of every echo."""
    rows = []
    for scan, order in enumerate(found.order.tolist()):
        for echo in range(order):
            columns = [found.delays, found.deviations, found.amplitudes, found.amplitude_deviations]
            columns += [] if found.depths is None else [found.depths]
            rows.append((first + scan, echo, *(float(column[scan, echo]) for column in columns)))
    return rows


def _headings(velocity: float | None) -> tuple[str, ...]:
    told = ("scan", "echo", "delay_s", "delay_deviation_s", "amplitude", "amplitude_deviation")
    return told if velocity is None else (*told, "depth_m")


def _csv(table: list[tuple[float, ...]], velocity: float | None) -> bytes:
    lines = [",".join(_headings(velocity)), *(",".join(f"{value:.9g}" for value in row) for row in table)]
    return ("\n".join(lines) + "\n").encode()


def _tell_echoes(
    table: list[tuple[float, ...]], counts: list[int], notes: list[str], out: Path | None, velocity: float | None, as_json: bool
) -> None:
    names = _headings(velocity)
    if as_json:
        rows = [dict(zip(names, row, strict=True)) for row in table]
        print(told_as_json({"scans": len(counts), "echoes": rows, "notes": notes, "out": out and str(out)}))
        return
    shown = [row for row in table if row[0] < _ROWS]
    if shown:
        print_table(names, [(f"{row[0]:g}", f"{row[1]:g}", *(f"{value:.6g}" for value in row[2:])) for row in shown])
    more = f", the first {_ROWS} scans shown" if len(counts) > _ROWS else ""
    print(f"{len(table)} echoes in {len(counts)} scans{more}")
    if out is not None:
        print(printable(f"wrote {out}"))
