"""The command on digital links: symbols and bits out of received samples."""

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
from unconv.errors import UnconvError, printable
from unconv.files import write
from unconv.inverse.fields.channel.method_table import METHODS, method_help

if TYPE_CHECKING:
    import numpy as np

    from unconv.inverse.fields.channel import Equalized

    Array = np.ndarray[Any, Any]

GROUP = Group("Measured signals", 5)

_SETS = ["bpsk", "qpsk", "8psk", "4pam", "16qam", "64qam", "256qam"]
_DRAWN = 20_000  # samples of a picture


@GROUP.command
def equalize(
    samples: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="Received samples: .npy, SigMF, .cf32, .cfile, .cs16, .cs8, .cu8, or a sound of I and Q."
        ),
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The symbols, .npy.")] = None,
    bits: Annotated[
        Path | None, typer.Option(help="The bits: .npy, or packed eight to a byte, the first highest: .bin.")
    ] = None,
    llr: Annotated[Path | None, typer.Option(help="The bits' log-likelihood ratios, .npy, for a decoder.")] = None,
    channel: Annotated[
        str | None, typer.Option(help="The channel's taps: a file, .npy or .csv, or numbers: 0.407,0.815,0.407.")
    ] = None,
    training: Annotated[Path | None, typer.Option(help="Known symbols, .npy, from which place and channel are found.")] = None,
    training_start: Annotated[int, typer.Option(help="Number of the symbol at which the training begins.")] = 0,
    constellation: Annotated[
        str,
        typer.Option(help="bpsk, qpsk, 8psk, 4pam, 16qam and so on, or a file of points, .npy.", autocompletion=one_of(_SETS)),
    ] = "bpsk",
    method: Annotated[str, typer.Option(help=method_help(), autocompletion=one_of(METHODS))] = "auto",
    noise: Annotated[str, typer.Option(help="estimate, or the standard deviation of a sample's noise.")] = "estimate",
    samples_per_symbol: Annotated[int, typer.Option(help="Samples of a symbol.")] = 1,
    count: Annotated[int | None, typer.Option(help="Symbols that were sent; by default as many as there are.")] = None,
    length: Annotated[int | None, typer.Option(help="Symbols that a filter spans; by default enough.")] = None,
    sent: Annotated[Path | None, typer.Option(help="The symbols that were sent, .npy: then error rates are told.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the symbols before and after, as PNG; needs the extra plot.")
    ] = None,
    eye: Annotated[Path | None, typer.Option(help="Draw eye diagrams before and after, as PNG.")] = None,
    rate: Annotated[float | None, typer.Option(help="Samples a second, for files that do not say.")] = None,
    force: Annotated[bool, typer.Option("--force", "--overwrite", help="Replace files that are there already.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Recover symbols and bits that were sent through a channel: known, estimated from a training, or found blindly."""
    from unconv.inverse.fields.channel import equalize as equalized
    from unconv.recordings import open_samples

    if method not in METHODS:
        raise typer.BadParameter(f"--method {method!r}: write one of {', '.join(METHODS)}.")
    begun = time.monotonic()
    files = [
        Path(name) for name in (samples, channel, training, sent, constellation) if name is not None and Path(name).is_file()
    ]
    places = [path for path in (out, bits, llr, picture, eye) if path is not None]
    refuse_outputs("equalize", places, files, force)
    _refuse_endings({"--out": out, "--llr": llr}, (".npy",))
    _refuse_endings({"--bits": bits}, (".npy", ".bin"))
    _refuse_endings({"--picture": picture, "--eye": eye}, (".png",))
    with show_progress(as_json or quiet, "reading") as progress:
        recording = open_samples(samples, rate)
        found = equalized(
            recording.values,
            None if channel is None else _taps(channel),
            None if training is None else _array(training, "--training"),
            _array(Path(constellation), "--constellation") if constellation.lower().endswith(".npy") else constellation,
            method,  # type: ignore[arg-type]  # asked above
            noise if noise == "estimate" else _number("--noise", noise),
            samples_per_symbol=samples_per_symbol,
            count=count,
            training_start=training_start,
            length=length,
            progress=progress,
        )
        # All is computed before the first file is written: what fails leaves none behind.
        made = _contents(found, out, bits, llr, picture, eye)
        told = _told(found, None if sent is None else _array(sent, "--sent"))
        for path, content in made.items():
            write(path, content)
    told |= {"rate": recording.rate, "seconds": round(time.monotonic() - begun, 2), "files": [str(path) for path in made]}
    for note in (*recording.notes, *found.notes):
        remark(note, quiet or as_json)
    _tell(told, as_json, [*recording.notes, *found.notes])


def _contents(
    found: Equalized, out: Path | None, bits: Path | None, llr: Path | None, picture: Path | None, eye: Path | None
) -> dict[Path, bytes]:
    """Return what each of the files that were asked for will hold."""
    asked: list[tuple[Path | None, Callable[[], bytes]]] = [
        (out, lambda: array_bytes(found.symbols)),
        (bits, lambda: _bit_bytes(found, bits)),
        (llr, lambda: array_bytes(found.llr)),
        (picture, lambda: _constellation(found)),
        (eye, lambda: _eye(found)),
    ]
    return {path: content() for path, content in asked if path is not None}


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
            f"equalize: {option} {path} is no array that can be read: {error}. Save it with numpy.save."
        ) from error
    if not isinstance(values, np.ndarray):
        raise UnconvError(f"equalize: {option} {path} holds several arrays, but one was needed. Save it with numpy.save.")
    return values


def _taps(text: str) -> Array:
    """Read taps from a file, or from the option itself: 0.4,0.8,0.4 or 1,0.3+0.2j."""
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


def _bit_bytes(found: Equalized, path: Path | None) -> bytes:
    import numpy as np

    bits = found.bits.astype(np.uint8)
    return np.packbits(bits, axis=-1).tobytes() if path is not None and path.suffix.lower() == ".bin" else array_bytes(bits)


def _constellation(found: Equalized) -> bytes:
    from unconv.render.constellations import constellation_picture

    step = found.samples_per_symbol
    return constellation_picture(
        found.received.reshape(-1)[::step][:_DRAWN], found.soft.reshape(-1)[:_DRAWN], found.constellation.points
    )


def _eye(found: Equalized) -> bytes:
    from unconv.render.constellations import eye_picture

    return eye_picture(found.received.reshape(-1)[:_DRAWN], found.soft.reshape(-1)[:_DRAWN], found.samples_per_symbol)


def _told(found: Equalized, sent: Array | None) -> dict[str, Any]:
    """Return what is told of a result."""
    told: dict[str, Any] = {
        "method": found.method,
        "symbols": int(found.symbols.shape[-1]),
        "signals": int(found.indices.size // found.symbols.shape[-1]),
        "delay": found.delay,
        "noise": found.noise,
        "mse": found.mse,
        "states": found.states,
        "converged": found.converged,
        "ambiguity": list(found.ambiguity),
    }
    if sent is not None:
        rate = found.symbol_errors(sent)
        told["symbol_errors"] = {
            "errors": rate.errors,
            "count": rate.count,
            "rate": rate.rate,
            "low": rate.low,
            "high": rate.high,
        }
    return told


def _tell(told: dict[str, Any], as_json: bool, notes: list[str]) -> None:
    if as_json:
        print(json_text(told | {"notes": notes}))
        return
    if not told["converged"]:
        remark("it did not settle: the symbols are not to be relied on", False)
    states = f", {told['states']} states" if told["states"] else ""
    signals = f" in each of {told['signals']} signals" if told["signals"] > 1 else ""
    print(f"{told['method']}{states}: {told['symbols']:,} symbols{signals}, noise {told['noise']:.4g}, {told['seconds']:.1f} s")
    if "symbol_errors" in told:
        rate = told["symbol_errors"]
        print(
            f"symbol errors: {rate['errors']:,} of {rate['count']:,}, {rate['rate']:.3g} ({rate['low']:.3g} to "
            f"{rate['high']:.3g})"
        )
    if told["files"]:
        print(printable(f"wrote {' and '.join(told['files'])}"))
