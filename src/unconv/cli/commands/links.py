"""The command for digital links: recover symbols and bits from received samples."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unconv.cli.groups import Group
from unconv.cli.options import AsJson, Quiet, one_of
from unconv.cli.progress import remark, show_progress
from unconv.cli.trace_options import array_bytes, json_text, refuse_outputs
from unconv.errors import UnconvError, counted, nearest, printable
from unconv.files import write
from unconv.inverse.fields.channel.method_table import METHODS, method_help

if TYPE_CHECKING:
    import numpy as np

    from unconv.inverse.fields.channel import Equalized

    Array = np.ndarray[Any, Any]

GROUP = Group("Measured signals", 5)

_CONSTELLATIONS = ["bpsk", "qpsk", "8psk", "4pam", "16qam", "64qam", "256qam"]
_DRAWN = 20_000  # samples in a picture, at most


@GROUP.command
def equalize(
    samples: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="Received samples: .npy, SigMF, .cf32, .cfile, .cs16, .cs8, .cu8, or a stereo sound file of I and Q.",
        ),
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write the symbols, as .npy.")] = None,
    bits: Annotated[
        Path | None, typer.Option(help="Write the bits, as .npy, or packed eight to a byte, the first one highest, as .bin.")
    ] = None,
    llr: Annotated[Path | None, typer.Option(help="Write the bits' log-likelihood ratios, as .npy, for a decoder.")] = None,
    channel: Annotated[
        str | None, typer.Option(help="The channel's taps: a file, .npy or .csv, or numbers, such as 0.407,0.815,0.407.")
    ] = None,
    training: Annotated[
        Path | None,
        typer.Option(help="The training sequence: known symbols, .npy, from which delay and channel are estimated."),
    ] = None,
    training_start: Annotated[int, typer.Option(help="Number of the symbol at which the training sequence begins.")] = 0,
    constellation: Annotated[
        str,
        typer.Option(
            help="bpsk, qpsk, 8psk, 4pam, 16qam and so on, or a file of points, .npy.", autocompletion=one_of(_CONSTELLATIONS)
        ),
    ] = "bpsk",
    method: Annotated[str, typer.Option(help=method_help(), autocompletion=one_of(METHODS))] = "auto",
    noise: Annotated[str, typer.Option(help="estimate, or the standard deviation of a sample's noise.")] = "estimate",
    samples_per_symbol: Annotated[int, typer.Option(help="Samples per symbol.")] = 1,
    count: Annotated[int | None, typer.Option(help="How many symbols were sent; by default as many as were received.")] = None,
    length: Annotated[int | None, typer.Option(help="Length of the equaliser's filter in symbols; chosen by default.")] = None,
    sent: Annotated[
        Path | None, typer.Option(help="The symbols that were sent, .npy: also print the symbol error rate.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the constellation before and after equalisation, as PNG; needs the extra plot.")
    ] = None,
    eye: Annotated[
        Path | None, typer.Option(help="Draw eye diagrams before and after equalisation, as PNG; needs the extra plot.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Samples per second; replaces the rate in the file.")] = None,
    force: Annotated[bool, typer.Option("--force", "--overwrite", help="Replace files that are there already.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Equalise received samples: recover symbols and bits, with the channel known, estimated from training, or unknown."""
    from unconv.inverse.fields.channel import equalize as equalized
    from unconv.recordings import open_samples

    if method not in METHODS:
        raise typer.BadParameter(
            f"--method {method!r}: write one of {', '.join(METHODS)}. Nearest: {nearest(method, METHODS)}."
        )
    begun = time.monotonic()
    names = (samples, channel, training, sent, constellation)
    inputs = [Path(name) for name in names if name is not None and Path(name).is_file()]
    outputs = [path for path in (out, bits, llr, picture, eye) if path is not None]
    refuse_outputs("equalize", outputs, inputs, force)
    _refuse_endings({"--out": out, "--llr": llr}, (".npy",))
    _refuse_endings({"--bits": bits}, (".npy", ".bin"))
    _refuse_endings({"--picture": picture, "--eye": eye}, (".png",))
    with show_progress(as_json or quiet, "reading") as progress:
        recording = open_samples(samples, rate)
        result = equalized(
            recording.values,
            None if channel is None else _taps(channel),
            None if training is None else _array(training, "--training"),
            _array(Path(constellation), "--constellation") if constellation.lower().endswith(".npy") else constellation,
            method,  # type: ignore[arg-type]  # checked above
            noise if noise == "estimate" else _number("--noise", noise),
            samples_per_symbol=samples_per_symbol,
            count=count,
            training_start=training_start,
            length=length,
            progress=progress,
        )
        # Everything is computed before the first file is written: a failure leaves no files behind.
        contents = _contents(result, out, bits, llr, picture, eye)
        summary = _summary(result, None if sent is None else _array(sent, "--sent"))
        for path, content in contents.items():
            write(path, content)
    summary |= {"rate": recording.rate, "seconds": round(time.monotonic() - begun, 2), "files": list(map(str, contents))}
    for note in (*recording.notes, *result.notes):
        remark(note, quiet or as_json)
    _print(summary, as_json, [*recording.notes, *result.notes])


def _contents(
    result: Equalized, out: Path | None, bits: Path | None, llr: Path | None, picture: Path | None, eye: Path | None
) -> dict[Path, bytes]:
    """Return the contents of each requested file."""
    outputs: list[tuple[Path | None, Callable[[], bytes]]] = [
        (out, lambda: array_bytes(result.symbols)),
        (bits, lambda: _bit_bytes(result, bits)),
        (llr, lambda: array_bytes(result.llr)),
        (picture, lambda: _constellation(result)),
        (eye, lambda: _eye(result)),
    ]
    return {path: content() for path, content in outputs if path is not None}


def _refuse_endings(paths: dict[str, Path | None], endings: tuple[str, ...]) -> None:
    for option, path in paths.items():
        if path is not None and path.suffix.lower() not in endings:
            raise typer.BadParameter(f"{option} {path}: its name must end in {' or '.join(endings)}.")


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r}: write estimate or a number.") from None


def _array(path: Path, option: str) -> Array:
    import numpy as np

    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UnconvError(
            f"equalize: {option} {path} is not an array that can be read: {error}. Save it with numpy.save."
        ) from error
    if not isinstance(values, np.ndarray):
        raise UnconvError(f"equalize: {option} {path} holds several arrays, but one was needed. Save one with numpy.save.")
    return values


def _taps(text: str) -> Array:
    """Return taps from a file, or from the option's text: 0.4,0.8,0.4 or 1,0.3+0.2j."""
    import numpy as np

    path = Path(text)
    if path.suffix.lower() == ".npy":
        return _array(path, "--channel")
    if path.is_file():
        text = path.read_text("utf-8-sig", errors="replace")
    # Spreadsheets write semicolons or spaces, and MATLAB's imaginary unit is i.
    numbers = re.split(r"[\s,;]+", re.sub(r"\s*([+-])\s+", r"\1", text).replace("i", "j").strip(" \t\r\n,;"))
    try:
        taps = np.array([complex(number) for number in numbers])
    except ValueError:
        raise typer.BadParameter(
            f"--channel {text[:60]!r}: write a file, .npy or .csv, or numbers: 0.407,0.815,0.407."
        ) from None
    return taps if taps.imag.any() else taps.real


def _bit_bytes(result: Equalized, path: Path | None) -> bytes:
    import numpy as np

    bits = result.bits.astype(np.uint8)
    return np.packbits(bits, axis=-1).tobytes() if path is not None and path.suffix.lower() == ".bin" else array_bytes(bits)


def _constellation(result: Equalized) -> bytes:
    from unconv.render.constellations import constellation_picture

    step = result.samples_per_symbol
    return constellation_picture(
        result.received.reshape(-1)[::step][:_DRAWN], result.soft.reshape(-1)[:_DRAWN], result.constellation.points
    )


def _eye(result: Equalized) -> bytes:
    from unconv.render.constellations import eye_picture

    # Soft symbols come one per symbol, however many samples the receiver took of each.
    rates = (result.samples_per_symbol, 1)
    return eye_picture(result.received.reshape(-1)[:_DRAWN], result.soft.reshape(-1)[:_DRAWN], rates)


def _summary(result: Equalized, sent: Array | None) -> dict[str, Any]:
    """Return what is printed about a result; the keys are those of --json."""
    summary: dict[str, Any] = {
        "method": result.method,
        "symbols": int(result.symbols.shape[-1]),
        "signals": int(result.indices.size // result.symbols.shape[-1]),
        "delay": result.delay,
        "noise": result.noise,
        "mse": result.mse,
        "states": result.states,
        "converged": result.converged,
        "ambiguity": list(result.ambiguity),
    }
    if sent is not None:
        rate = result.symbol_errors(sent)
        summary["symbol_errors"] = {
            "errors": rate.errors,
            "count": rate.count,
            "rate": rate.rate,
            "low": rate.low,
            "high": rate.high,
        }
    return summary


def _print(summary: dict[str, Any], as_json: bool, notes: list[str]) -> None:
    if as_json:
        print(json_text(summary | {"notes": notes}))
        return
    if not summary["converged"]:
        remark("not converged: do not rely on these symbols", False)
    states = f", {counted(summary['states'], 'state')}" if summary["states"] else ""
    signals = f" in each of {summary['signals']} signals" if summary["signals"] > 1 else ""
    symbols = counted(summary["symbols"], "symbol")
    print(f"{summary['method']}{states}: {symbols}{signals}, noise {summary['noise']:.4g}, {summary['seconds']:.1f} s")
    if "symbol_errors" in summary:
        rate = summary["symbol_errors"]
        print(
            f"symbol errors: {rate['errors']:,} of {rate['count']:,}, {rate['rate']:.3g} ({rate['low']:.3g} to "
            f"{rate['high']:.3g})"
        )
    if summary["files"]:
        print(printable(f"wrote {' and '.join(summary['files'])}"))
