"""Options of the commands on traces: how they are read, and what their pictures show."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from unconv.errors import UnconvError
from unconv.files import refuse_unwritable, whole_file

if TYPE_CHECKING:
    import numpy as np

    from unconv.inverse.fields.seismic import Wavelet
    from unconv.traces import Block, TraceFile

    Array = np.ndarray[Any, Any]

_DRAWN, _WIGGLES = 400, 30  # traces of a picture; the largest number that is drawn as wiggles
_FIRST = 2**18  # samples of each of the four blocks from which a wavelet is estimated
_ENDINGS = {".sgy": "SEG-Y", ".segy": "SEG-Y", ".mseed": "miniSEED", ".ms": "miniSEED", ".sac": "SAC", ".npy": "npy"}
_CYCLES = 1.5  # periods of a Ricker wavelet on each side, beyond which it is almost zero


def refuse_outputs(where: str, outputs: Sequence[Path], inputs: Sequence[Path], force: bool) -> None:
    """Refuse output paths that are inputs, cannot be written, exist already (without `force`), or occur twice."""
    for path in outputs:
        if any(os.path.realpath(path) == os.path.realpath(source) for source in inputs):
            raise UnconvError(f"{where}: {path} is an input file and would be overwritten. Choose another name.")
        refuse_unwritable(path)
        if os.path.lexists(path) and not force:
            raise UnconvError(f"{where}: {path} already exists. Pass --force to replace it, or choose another name.")
    if len({os.path.realpath(path) for path in outputs}) < len(outputs):
        raise UnconvError(f"{where}: two results would go to one file. Choose another name for one of them.")


def refuse_ending(file: TraceFile, out: Path) -> None:
    """Refuse an output path with the ending of another kind of file than the input or .npy."""
    kind = _ENDINGS.get(out.suffix.lower(), file.kind)
    if kind not in (file.kind, "npy"):
        raise UnconvError(
            f"spikes: {out} has the ending of {kind}, but the result is {file.kind}, as the input, or .npy. Change the ending."
        )


def json_text(record: dict[str, Any]) -> str:
    """Return a record as JSON, with null for NaN and infinity, which JSON does not have."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(each) for name, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(each) for each in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(record), indent=1, allow_nan=False)


def read_pair(option: str, text: str) -> tuple[float, float]:
    """Read two ascending numbers, separated by a comma."""
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r}: write two numbers separated by a comma, such as -5,30.") from None
    if (
        not first < second or first - first or second - second
    ):  # the difference of an infinite number and itself is NaN, which counts as true
        raise typer.BadParameter(f"{option} {text!r}: write two finite numbers, the first smaller than the second.")
    return first, second


def read_samples(option: str, text: str) -> Array:
    """Read the samples (k,) of a wavelet or pulse from an .npy file or a text file of numbers."""
    import numpy as np

    try:
        if text.lower().endswith(".npy"):
            samples = np.load(text, allow_pickle=False)
        else:
            samples = np.array([float(part) for part in Path(text).read_text().replace(",", " ").replace(";", " ").split()])
    except (OSError, ValueError, EOFError) as error:
        raise UnconvError(f"{option}: {text} cannot be read: {error}. Pass .npy, or a text file of numbers.") from error
    if samples.size == 0 or samples.squeeze().ndim > 1:
        noun = "pulse" if option == "--pulse" else "wavelet"
        raise UnconvError(f"{option}: {text} has shape {samples.shape}, but the samples (k,) of one {noun} were needed.")
    return np.atleast_1d(samples.squeeze())


def read_wavelet(text: str, centre: int | None, file: TraceFile, progress: Any) -> Wavelet:
    """Return the wavelet of --wavelet: from a file, ricker:FREQUENCY, or estimate:LENGTH[,PHASE] from the traces."""
    from unconv.inverse.fields.seismic import Wavelet, estimate_wavelet

    name, colon, rest = text.partition(":")
    # An existing file wins, even one whose name begins with ricker: or estimate:
    if os.path.isfile(text) or not colon or name not in ("ricker", "estimate"):
        samples = read_samples("--wavelet", text)
        return Wavelet(samples, len(samples) // 2 if centre is None else centre, "given")
    if centre is not None:
        raise typer.BadParameter(f"--centre goes with the file of a wavelet, not with {name}. Leave it out.")
    if name == "ricker":
        return Wavelet(_ricker(rest, file), _half(rest, file), "given")
    progress("estimating the wavelet", 0, 0)
    parts = rest.split(",")
    phase: Any = parts[1] if len(parts) > 1 else "zero"
    if not parts[0].isdigit() or len(parts) > 2 or phase not in ("zero", "minimum", "mixed"):
        raise typer.BadParameter(
            f"--wavelet {text!r}: write estimate:LENGTH, estimate:LENGTH,minimum or estimate:LENGTH,mixed."
        )
    traces = _first_traces(file)
    wavelet = estimate_wavelet(traces, int(parts[0]), phase)
    note = f"the wavelet is estimated from the first {len(traces):,} of {file.count:,} traces"
    return wavelet if len(traces) == file.count else replace(wavelet, notes=(note, *wavelet.notes))


def _first_traces(file: TraceFile) -> Array:
    """Return the first traces of a file, enough to estimate a wavelet: the longest ones of its first four blocks."""
    import numpy as np

    blocks = list(islice(file.blocks(_FIRST), 4))
    n = max(block.values.shape[1] for block in blocks)
    return np.concatenate([block.values for block in blocks if block.values.shape[1] == n])


def _frequency(text: str, file: TraceFile) -> tuple[float, float]:
    if file.rate is None:
        raise UnconvError(f"--wavelet ricker: {file.path} does not say its sampling rate. Pass --rate.")
    try:
        frequency = float(text)
    except ValueError:
        raise typer.BadParameter(f"--wavelet ricker:{text}: write a frequency in Hz, such as ricker:25.") from None
    if not 0 < frequency < file.rate / 2:
        raise typer.BadParameter(f"--wavelet ricker:{text}: write a frequency above 0 and below {file.rate / 2:g} Hz.")
    return frequency, file.rate


def _half(text: str, file: TraceFile) -> int:
    frequency, rate = _frequency(text, file)
    return max(1, round(_CYCLES * rate / frequency))


def _ricker(text: str, file: TraceFile) -> Array:
    import numpy as np

    frequency, rate = _frequency(text, file)
    half = _half(text, file)
    square = (np.pi * frequency * np.arange(-half, half + 1) / rate) ** 2
    wavelet: Array = (1 - 2 * square) * np.exp(-square)
    return wavelet


def read_pulse(text: str, file: TraceFile, start: float) -> Any:
    """Return the pulse of --pulse: from a file, "estimate", or the strongest echo between two times."""
    if text == "estimate":
        return text
    if text.startswith("gate:"):
        from unconv.inverse.fields.ultrasonic import pulse_of_echo

        return pulse_of_echo(_first_traces(file), float(file.rate or 1), read_pair("--pulse gate:", text[5:]), start).numpy()
    return read_samples("--pulse", text)


def array_bytes(array: Array) -> bytes:
    """Return the content of an .npy file with an array."""
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@contextmanager
def into_array(file: TraceFile, out: Path) -> Iterator[Any]:
    """Write results as .npy (count, n) for any kind of input file; the file appears complete or not at all."""
    if len(file.shape) < 2:
        raise UnconvError(
            f"spikes: the traces of {file.path} have several lengths, which .npy cannot hold. Use another ending."
        )
    with whole_file(out) as partial:
        writer = _ArrayWriter(partial, file.shape)
        yield writer
        if writer.array is not None:
            writer.array.flush()


@dataclass
class _ArrayWriter:
    """An .npy file that is made with the first block, in the type of its values: results of float64 samples stay float64."""

    path: Path
    shape: tuple[int, ...]
    array: Any = None

    def put(self, first: int, values: Array) -> None:
        import numpy as np

        if self.array is None:
            self.array = np.lib.format.open_memmap(self.path, mode="w+", dtype=values.dtype, shape=self.shape)
        self.array[first : first + len(values)] = values


@dataclass
class Selection:
    """Evenly spaced traces of a file, collected for a picture.

    Args:
        count: number of traces in the file.
        wanted: whether there is a picture at all.
    """

    count: int
    wanted: bool
    rows: list[dict[str, Array]] = field(default_factory=list)

    def take(self, block: Block, **results: Any) -> None:
        """Collect traces of a block and of its results."""
        if not self.wanted:
            return
        step = max(1, -(-self.count // _DRAWN))
        # Copies, so that the blocks themselves can be freed.
        for row in range(-block.first % step, len(block.values), step):
            some = {"before": block.values, **{name: value for name, value in results.items() if value is not None}}
            self.rows.append({name: value[row].copy() for name, value in some.items()})

    def _stacked(self, name: str, longest: bool = False) -> Array:
        """Return the collected rows as one array, cut to the shortest or padded with NaN to the longest."""
        import numpy as np

        lengths = [len(row[name]) for row in self.rows]
        n = max(lengths) if longest else min(lengths)
        return np.stack([np.pad(row[name][:n], (0, max(0, n - len(row[name]))), constant_values=np.nan) for row in self.rows])

    def _times(self, file: TraceFile, start: float) -> Array:
        import numpy as np

        n = min(len(row["before"]) for row in self.rows)
        return start + np.arange(n) / (file.rate or 1.0)

    def drawn(self, file: TraceFile, method: str) -> bytes:
        """Draw the traces before and after; for a single trace, its spikes and their refit."""
        from unconv.render.traces import section_picture, spikes_picture, wiggle_picture

        times, unit = self._times(file, file.start), "s" if file.rate else "samples"
        if len(self.rows) == 1 and "refit" in self.rows[0]:
            one = self.rows[0]
            return spikes_picture(one["before"], one["after"], one.get("deviation"), one["refit"], times, unit=unit)
        before, after = self._stacked("before"), self._stacked("after")
        picture = wiggle_picture if len(self.rows) <= _WIGGLES else section_picture
        return picture(before, after, times, names=("traces", method), unit=unit)

    def echoes(self, file: TraceFile, start: float) -> bytes:
        """Draw scans with their echoes."""
        from unconv.render.traces import echoes_picture

        delays, amplitudes = (self._stacked(name, longest=True) for name in ("delays", "amplitudes"))
        return echoes_picture(self._stacked("before"), self._times(file, start), delays, amplitudes)
