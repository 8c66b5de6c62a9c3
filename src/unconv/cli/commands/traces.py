"""Commands on traces: deconvolution of seismic traces, receiver functions, and echoes in ultrasonic scans."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unconv.cli.groups import Group
from unconv.cli.options import AsJson, Quiet, one_of
from unconv.cli.progress import print_table, remark, show_progress
from unconv.cli.trace_options import Selection, json_text, read_pair, read_pulse, read_wavelet, refuse_ending, refuse_outputs
from unconv.errors import UnconvError, counted, nearest, printable
from unconv.files import write
from unconv.inverse.fields.seismic.method_table import FILTERS, SPIKES, WITH_DEVIATIONS, method_help
from unconv.progress import Progress

if TYPE_CHECKING:
    from unconv.traces import Block, TraceFile

GROUP = Group("Measured signals", 5)

_ROWS = 20  # scans whose echoes are printed
_ESTIMATED_MISFIT = 0.1  # error of an estimated wavelet, as a share of the traces
_NOTES = 8  # printed; --json has all
_BLOCK = 2**20  # samples that are read at a time: larger blocks take more memory and as much time

Rate = Annotated[float | None, typer.Option(help="Samples a second, if the file does not say, as .npy.")]
Force = Annotated[bool, typer.Option("--force", "--overwrite", help="Replace existing files.")]
Picture = Annotated[Path | None, typer.Option(help="Also write a picture of the result, as PNG; needs the extra plot.")]


@GROUP.command
def spikes(
    traces: Annotated[Path, typer.Argument(metavar="IN", help="SEG-Y, miniSEED, SAC (extra seismic) or .npy, (..., n).")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The same kind of file, with the same headers; or .npy.")],
    wavelet: Annotated[
        str | None,
        typer.Option(
            help="A file, .npy or .csv; or ricker:FREQUENCY in Hz; or estimate:LENGTH in samples, estimated from the traces "
            "with zero phase (estimate:LENGTH,minimum and estimate:LENGTH,mixed for other phases)."
        ),
    ] = None,
    method: Annotated[str, typer.Option(help=method_help(), autocompletion=one_of([*SPIKES, *FILTERS]))] = "sbl",
    noise: Annotated[str, typer.Option(help="estimate, or a standard deviation in the traces' units.")] = "estimate",
    centre: Annotated[
        int | None, typer.Option(help="Index of the wavelet file's sample at a spike's time, from 0. Default: its middle.")
    ] = None,
    length: Annotated[int, typer.Option(help="Samples of the filter, for spiking and predictive.")] = 80,
    gap: Annotated[
        int | None,
        typer.Option(help="Prediction gap in samples, for predictive: the first samples of the wavelet, which stay."),
    ] = None,
    prewhitening: Annotated[
        float, typer.Option(help="Share of the power that is added to it, for spiking and predictive.")
    ] = 1e-3,
    misfit: Annotated[
        float | None,
        typer.Option(
            help="Error of the wavelet, as a share of the traces. Default: 0.1 for an estimated wavelet, otherwise 0."
        ),
    ] = None,
    clipped: Annotated[
        str, typer.Option(help="keep: leave clipped traces unchanged; use: process them like the others.")
    ] = "keep",
    deviation: Annotated[
        Path | None,
        typer.Option(help="Also write the spikes' standard deviations, in a file like OUT; 0 for traces that stay unchanged."),
    ] = None,
    rate: Rate = None,
    picture: Picture = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find the spikes in seismic traces, or shorten their wavelet with a filter. Headers and order of the traces are kept."""
    from unconv.traces import open_traces

    begun = time.monotonic()
    _refuse_method(method, {"--wavelet": wavelet, "--deviation": deviation, "--centre": centre, "--misfit": misfit}, gap, noise)
    level: Any = noise if noise == "estimate" else _number("--noise", noise)
    # Options and paths are checked first, before a long file is read.
    outputs = [path for path in (out, deviation, picture) if path is not None]
    refuse_outputs("spikes", outputs, [traces, *([Path(wavelet)] if wavelet and os.path.isfile(wavelet) else [])], force)
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
            default = 0.0 if shape.phase == "given" else _ESTIMATED_MISFIT
            settings["misfit"] = default if misfit is None else misfit
        else:
            settings = {"length": length, "prewhitening": prewhitening} | ({"gap": gap} if method == "predictive" else {})
        writers = {name: stack.enter_context(_writer(file, path)) for name, path in _named(out, deviation).items()}
        selection = Selection(file.count, picture is not None)
        record = _processed(file, method, settings | {"clipped": clipped}, writers, selection, progress)
        record |= {"traces": file.count, "rate": file.rate, "seconds": round(time.monotonic() - begun, 2)}
        if picture is not None:
            write(picture, selection.drawn(file, method))
    _print_spikes(record, outputs, as_json, quiet)


def _refuse_method(method: str, spike_options: dict[str, Any], gap: int | None, noise: str) -> None:
    """Refuse an unknown method, and options that do not go with the method; `spike_options` are those for spikes only."""
    if method not in SPIKES | FILTERS:
        close = nearest(method, SPIKES | FILTERS)
        raise typer.BadParameter(f"--method {method!r}: write one of {', '.join(SPIKES | FILTERS)}. Nearest: {close}.")
    if method in SPIKES and spike_options["--wavelet"] is None:
        raise typer.BadParameter(f"--method {method} needs --wavelet: a file, ricker:FREQUENCY or estimate:LENGTH.")
    options = [name for name, value in spike_options.items() if value is not None]
    options += ["--noise"] if noise != "estimate" else []
    if method in FILTERS and options:
        them = "it" if len(options) == 1 else "them"
        raise typer.BadParameter(f"--method {method} takes no {', '.join(options)}. Leave {them} out.")
    if method not in WITH_DEVIATIONS and spike_options["--deviation"] is not None:
        raise typer.BadParameter(
            f"--method {method} has no standard deviations. Leave --deviation out, or use {WITH_DEVIATIONS[0]}."
        )
    if method == "predictive" and gap is None:
        raise typer.BadParameter("--method predictive needs --gap, in samples.")
    if method != "predictive" and gap is not None:
        raise typer.BadParameter(f"--gap goes with --method predictive, not with {method}. Leave it out.")


def _named(out: Path, deviation: Path | None) -> dict[str, Path]:
    return {"traces": out} if deviation is None else {"traces": out, "deviation": deviation}


def _writer(file: TraceFile, out: Path) -> Any:
    from unconv.cli.trace_options import into_array

    return into_array(file, out) if out.suffix.lower() == ".npy" and file.kind != "npy" else file.rewritten(out)


def _processed(
    file: TraceFile, method: str, settings: dict[str, Any], writers: dict[str, Any], selection: Selection, progress: Progress
) -> dict[str, Any]:
    """Process a file block by block, write the results, and return the record for --json."""
    from unconv.inverse.fields import seismic

    kept, noises, converged, several = list[int](), list[float](), True, len(file.shape) == 1
    notes = list[str]()
    for block in file.blocks(_BLOCK):
        if several and block.values.shape[1] <= len(settings.get("wavelet", ())) + settings.get("length", 1):
            # A fragment between gaps that is shorter than the wavelet is left unchanged, instead of refusing the file.
            kept += range(block.first, block.first + len(block.values))
            continue
        if method in SPIKES:
            result: Any = seismic.sparse_spikes(
                block.values,
                rate=file.rate or 1.0,
                start=file.start,
                progress=_onward(progress, block.first, file.count),
                **settings,
            )
            arrays = {"traces": result.spikes, "deviation": _without_nan(result.deviation, file)}
            noises += result.noise.tolist()
            converged &= result.converged
            selection.take(block, after=result.spikes, deviation=result.deviation, refit=result.refit)
        else:
            result = getattr(seismic, method)(block.values, **settings)
            arrays = {"traces": result.traces}
            selection.take(block, after=result.traces)
        kept += [block.first + number for number in result.kept]
        notes += _notes_of_block(result.notes, block, file)
        for name, writer in writers.items():
            writer.put(block.first, arrays[name])
        progress("finding spikes" if method in SPIKES else "filtering", block.first + len(block.values), file.count)
    known = sorted(level for level in noises if level == level)
    record: dict[str, Any] = {"method": method, "kept": kept, "notes": notes}
    return record | ({"noise": known[len(known) // 2] if known else None, "converged": converged} if method in SPIKES else {})


def _notes_of_block(notes: Sequence[str], block: Block, file: TraceFile) -> list[str]:
    """Return the notes on a block with the numbers of its traces; those that are unchanged are listed apart, as `kept`."""
    count = len(block.values)
    span = "" if count == file.count else f"traces {block.first} to {block.first + count - 1}: "
    return [span + note for note in notes if not note.startswith("kept as they are")]


def _without_nan(deviation: Any, file: TraceFile) -> Any:
    """Return deviations with 0 instead of NaN, which unchanged traces have and IBM floats cannot hold."""
    import numpy as np

    return deviation if file.kind == "npy" else np.nan_to_num(deviation, nan=0.0)


def _onward(progress: Progress, first: int, total: int) -> Progress:
    """Return a progress function for one block that reports progress over the entire file."""
    return lambda what, done, _of_block: progress(what, first + done, total)


def _print_spikes(record: dict[str, Any], outputs: list[Path], as_json: bool, quiet: bool) -> None:
    if as_json:
        print(json_text(record | {"files": [str(path) for path in outputs]}))
        return
    for note in record["notes"][:_NOTES]:
        remark(note, quiet)
    if len(record["notes"]) > _NOTES:
        remark(f"{counted(len(record['notes']) - _NOTES, 'more note')}; --json prints all", quiet)
    if record.get("converged") is False:
        remark("the solver did not converge on some traces: more steps might change their spikes", quiet)
    if record["kept"]:
        numbers = ", ".join(map(str, record["kept"][:8])) + (", …" if len(record["kept"]) > 8 else "")
        unchanged = counted(len(record["kept"]), "trace")
        remark(f"left {unchanged} unchanged, which may be dead, clipped, too short, or have NaN: {numbers}", quiet)
    level = f", median noise {record['noise']:.4g}" if record.get("noise") is not None else ""
    print(f"{record['method']}: {counted(record['traces'], 'trace')}{level}, {record['seconds']:.1f} s")
    print(printable(f"wrote {' and '.join(map(str, outputs))}"))


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r}: write estimate or a number.") from None


@GROUP.command
def receiver_function(
    records: Annotated[
        list[Path],
        typer.Argument(
            metavar="STREAM...", help="Records of three components: miniSEED, SAC or another kind that ObsPy reads."
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="An .npy file with one row for each event; --json prints its times.")
    ],
    events: Annotated[Path | None, typer.Option(help="Event catalogue, QuakeML, for back azimuths and P arrivals.")] = None,
    stations: Annotated[Path | None, typer.Option(help="Station inventory, StationXML.")] = None,
    back_azimuth: Annotated[
        float | None, typer.Option(help="Direction to the event in degrees from north, if no file gives it.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="iterative, waterlevel or multitaper.", autocompletion=one_of(["iterative", "waterlevel", "multitaper"])
        ),
    ] = "iterative",
    window: Annotated[str, typer.Option(help="Seconds around the P wave that are used, if its arrival is known.")] = "-25,75",
    band: Annotated[
        str | None, typer.Option(help="Corner frequencies in Hz of a band-pass that is applied first: 0.03,1.5.")
    ] = None,
    gauss: Annotated[float, typer.Option(help="Standard deviation of the Gaussian low-pass, in Hz.")] = 0.5,
    picture: Picture = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compute receiver functions of distant earthquakes: radial components deconvolved by vertical ones."""
    from unconv.cli.trace_options import array_bytes
    from unconv.inverse.fields import seismic
    from unconv.traces.arrivals import open_arrivals

    # None of the inputs may be overwritten, including the catalogue and the inventory.
    files = [*records, *(path for path in (events, stations) if path is not None)]
    refuse_outputs("receiver-function", [path for path in (out, picture) if path is not None], files, force)
    with show_progress(as_json or quiet, "reading"):
        pair = read_pair("--window", window)
        arrivals = open_arrivals(
            records, events, stations, back_azimuth, pair, None if band is None else read_pair("--band", band)
        )
        for note in arrivals.notes:
            remark(note, quiet)
        result = seismic.receiver_function(arrivals.radial, arrivals.vertical, arrivals.rate, method, gauss=gauss)
        for note in result.notes:
            remark(note, quiet)
        write(out, array_bytes(result.trace))
        if picture is not None:
            from unconv.render.traces import receiver_picture

            write(picture, receiver_picture(result.trace, result.times))
    fits = list(zip(arrivals.names, result.fit.tolist(), strict=True))
    if as_json:
        times = {"first": float(result.times[0]), "interval": 1 / arrivals.rate, "samples": len(result.times)}
        record = {
            "method": method,
            "events": [{"name": name, "fit": fit} for name, fit in fits],
            "times": times,
            "kept": list(result.kept),
            "notes": [*arrivals.notes, *result.notes],
        }
        print(json_text(record | {"out": str(out), "picture": picture and str(picture)}))
        return
    print_table(("event", "explained"), [(name, f"{fit:.3f}") for name, fit in fits])
    count = counted(len(fits), "receiver function")
    print(printable(f"wrote {out}: {count} from {result.times[0]:g} to {result.times[-1]:g} s"))
    if picture is not None:
        print(printable(f"wrote {picture}"))


@GROUP.command
def echoes(
    scans: Annotated[Path, typer.Argument(metavar="SCAN", help="A-scans along the last axis: .npy (..., n), or SEG-Y.")],
    pulse: Annotated[
        str,
        typer.Option(
            help="The echo of a single reflector: a file, .npy or .csv; or estimate, the strongest echo; or gate:FROM,TO, the "
            "strongest echo between two times in seconds."
        ),
    ] = "estimate",
    rate: Annotated[float | None, typer.Option(help="Samples a second.")] = None,
    velocity: Annotated[float | None, typer.Option(help="Speed of sound in metres a second, for depths.")] = None,
    gate: Annotated[
        str | None, typer.Option(help="Range of times in seconds in which echoes are searched for: 1e-6,8e-6.")
    ] = None,
    start: Annotated[float | None, typer.Option(help="Seconds of the first sample. Default: as in the file, or 0.")] = None,
    most: Annotated[int, typer.Option(help="Largest number of echoes in a scan.")] = 8,
    misfit: Annotated[
        float | None,
        typer.Option(
            help="How much echoes differ from the pulse, as a share of their amplitude. Default: measured for an estimated "
            "pulse, otherwise 0.05."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write a table of all echoes, .csv.")] = None,
    picture: Picture = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Resolve overlapping echoes in ultrasonic scans: delays, depths and amplitudes with their standard deviations."""
    from unconv.traces import open_traces

    if out is not None and out.suffix.lower() != ".csv":
        raise typer.BadParameter(f"-o {out}: the table is CSV. Use the ending .csv.")
    outputs = [path for path in (out, picture) if path is not None]
    refuse_outputs("echoes", outputs, [scans, *([Path(pulse)] if os.path.isfile(pulse) else [])], force)
    with open_traces(scans, rate) as file, show_progress(as_json or quiet, "reading") as progress:
        if file.rate is None:
            raise UnconvError(f"echoes: {scans} does not say its sampling rate. Pass --rate.")
        window = None if gate is None else read_pair("--gate", gate)
        begin = file.start if start is None else start
        settings: dict[str, Any] = {"gate": window, "most": most, "misfit": misfit, "start": begin, "velocity": velocity}
        selection = Selection(file.count, bool(picture))
        table, counts, notes = _resolved(file, read_pulse(pulse, file, begin), settings, selection, progress)
        for note in notes:
            remark(note, quiet)
        if out is not None:
            write(out, _csv(table, velocity))
        if picture is not None:
            write(picture, selection.echoes(file, begin))
    _print_echoes(table, counts, notes, outputs, velocity, as_json)


def _resolved(
    file: TraceFile, pulse: Any, settings: dict[str, Any], selection: Selection, progress: Progress
) -> tuple[list[tuple[float, ...]], list[int], list[str]]:
    """Resolve a file block by block; return the rows of the table, the number of echoes of each scan, and the notes."""
    from unconv.inverse.fields import ultrasonic

    table, counts, notes = list[tuple[float, ...]](), list[int](), dict[str, None]()
    for block in file.blocks(_BLOCK):
        onward = _onward(progress, block.first, file.count)
        echoes = ultrasonic.resolve_echoes(block.values, pulse, float(file.rate or 1), progress=onward, **settings)
        # An estimated pulse and its misfit come from the first block and serve all blocks.
        pulse, settings = echoes.pulse, settings | {"misfit": echoes.misfit}
        notes |= dict.fromkeys(echoes.notes)
        table += _rows(echoes, block.first)
        counts += echoes.order.tolist()
        selection.take(block, delays=echoes.delays, amplitudes=echoes.amplitudes)
    return table, counts, list(notes)


def _rows(echoes: Any, first: int) -> list[tuple[float, ...]]:
    """Return (scan, echo, delay, its deviation, amplitude, its deviation[, depth]) of every echo."""
    rows = []
    for scan, order in enumerate(echoes.order.tolist()):
        for echo in range(order):
            columns = [echoes.delays, echoes.deviations, echoes.amplitudes, echoes.amplitude_deviations]
            columns += [] if echoes.depths is None else [echoes.depths]
            rows.append((first + scan, echo, *(float(column[scan, echo]) for column in columns)))
    return rows


def _headings(velocity: float | None) -> tuple[str, ...]:
    names = ("scan", "echo", "delay_s", "delay_deviation_s", "amplitude", "amplitude_deviation")
    return names if velocity is None else (*names, "depth_m")


def _csv(table: list[tuple[float, ...]], velocity: float | None) -> bytes:
    lines = [",".join(_headings(velocity)), *(",".join(f"{value:.9g}" for value in row) for row in table)]
    return ("\n".join(lines) + "\n").encode()


def _print_echoes(
    table: list[tuple[float, ...]],
    counts: list[int],
    notes: list[str],
    outputs: list[Path],
    velocity: float | None,
    as_json: bool,
) -> None:
    names = _headings(velocity)
    if as_json:
        rows = [dict(zip(names, row, strict=True)) for row in table]
        # `out` is the name before 0.2 of the table among the files.
        tables = [str(path) for path in outputs if path.suffix.lower() == ".csv"]
        files = {"out": tables[0] if tables else None, "files": list(map(str, outputs))}
        print(json_text({"scans": len(counts), "echoes": rows, "notes": notes} | files))
        return
    shown = [row for row in table if row[0] < _ROWS]
    if shown:
        print_table(names, [(f"{row[0]:g}", f"{row[1]:g}", *(f"{value:.6g}" for value in row[2:])) for row in shown])
    more = f"; the table shows the first {_ROWS} scans" if len(counts) > _ROWS else ""
    echoes = "1 echo" if len(table) == 1 else f"{len(table):,} echoes"
    print(f"{echoes} in {counted(len(counts), 'scan')}{more}")
    if outputs:
        print(printable(f"wrote {' and '.join(map(str, outputs))}"))
