"""Commands on measured signals and pictures: undo what the measuring system did to them."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unconv.cli import several
from unconv.cli.estimating import estimated, kernel_places, write_kernel
from unconv.cli.groups import Group
from unconv.cli.options import AsJson, Quiet, one_of
from unconv.cli.progress import Progress, print_table, remark, show_progress
from unconv.errors import UnconvError, printable
from unconv.files import refuse_unwritable, uninterrupted, write
from unconv.inverse.fields.image.table import METHODS, boundary_help, method_help, strength_help
from unconv.inverse.operators.boundaries import BOUNDARIES

if TYPE_CHECKING:
    from torch import Tensor

    from unconv.inverse import EstimatedKernel
    from unconv.inverse.fields.image import Restored
    from unconv.pictures.measured import Measured

GROUP = Group("Signals and pictures", 4)

_KEPT = (".png", ".tif", ".tiff", ".npy", ".fits", ".fit", ".fts", ".pgm", ".ppm", ".pnm")  # kinds of files that lose nothing
_MAKERS = {
    "gaussian": "gaussian:SIGMA",
    "motion": "motion:LENGTH,ANGLE",
    "disk": "disk:RADIUS",
    "uniform": "uniform:SIZE",
    "airy": "airy:RADIUS",
    "estimate": "estimate:SIZE",
}


@GROUP.command
def deblur(
    pictures: Annotated[
        list[Path],
        typer.Argument(
            metavar="PICTURES...",
            help="8 or 16 bits, float TIFF, FITS, stacks, .npy; the depth is kept. Several files, folders, or globs in quotes, "
            "'photos/*.jpg', are restored one by one.",
        ),
    ],
    psf: Annotated[
        str,
        typer.Option(
            help="The blur: a file (.npy, .png, .tif, .mat, .csv; KERNELS.mat:3 is the third of several), or gaussian:SIGMA, "
            "motion:LENGTH,ANGLE, disk:RADIUS, uniform:SIZE, airy:RADIUS in pixels, or estimate:SIZE, from the picture itself."
        ),
    ],
    noise: Annotated[str, typer.Option(help="estimate, poisson, or a standard deviation in the picture's units.")] = "estimate",
    boundary: Annotated[str, typer.Option(help=boundary_help(), autocompletion=one_of(BOUNDARIES))] = "unknown",
    method: Annotated[str, typer.Option(help=method_help(), autocompletion=one_of(["auto", *METHODS]))] = "auto",
    steps: Annotated[int | None, typer.Option(help="The most steps that the method may make.")] = None,
    strength: Annotated[float | None, typer.Option(help=strength_help())] = None,
    axes: Annotated[
        str | None, typer.Option(help="What the axes are, where they cannot be told: DHW, NHW, HWC, TZCYX.")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(help="GiB to use; larger pictures go in tiles. By default half of the memory.")
    ] = None,
    gain: Annotated[
        float | None, typer.Option(help="Of the camera: counts for each electron; what is left out of the four is estimated.")
    ] = None,
    offset: Annotated[float | None, typer.Option(help="Of the camera: counts without light.")] = None,
    read_noise: Annotated[float | None, typer.Option(help="Of the camera: standard deviation, in electrons.")] = None,
    background: Annotated[
        str, typer.Option(help="Light that was not blurred, in the picture's units; or estimate. It is taken away.")
    ] = "0",
    linear: Annotated[
        bool | None,
        typer.Option(
            "--linear/--no-linear",
            help="It was blurred as light, as by a lens, not as samples; by default photographs tell which.",
        ),
    ] = None,
    enlarge: Annotated[int | None, typer.Option(help="Restore on a grid this many times as fine.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="The restored picture's file, of several their folder; by default beside the picture."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--force", "--overwrite", help="Replace files that are there already; --overwrite is the same.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the results that are there already, and restore the other pictures.")
    ] = False,
    before_after: Annotated[
        bool | None,
        typer.Option("--before-after/--no-before-after", help="Also write before and after; by default of one picture only."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Take the blur out of a picture, and write it beside a before-and-after picture; or out of several, one by one."""
    wanted: str | float = noise if noise in ("estimate", "poisson") else _number("--noise", noise)
    exposure: dict[str, Any] = {"gain": gain, "offset": offset, "read_noise": read_noise, "linear": linear}
    _only_here(enlarge, boundary, {"--strength": strength, "--axes": axes, "--memory": memory, **_options(exposure)})
    exposure["background"] = background if background == "estimate" else _number("--background", background, "estimate")
    exposure["linear"] = "auto" if linear is None else linear
    asked = _Asked(psf, wanted, boundary, method, steps, strength, axes, memory, enlarge, exposure)
    alone = several.alone(pictures, out)
    if alone is None or resume:
        _restore_each(pictures, out, asked, before_after is True, resume, overwrite, as_json, quiet)
        return
    place = out or _beside(alone)
    beside = None if before_after is False else _before_after(place)
    places = [place, *([beside] if beside else []), *kernel_places(psf, place)]
    _refuse_places(places, {"the blurred picture itself": str(alone), "the PSF": psf}, overwrite)
    with show_progress(as_json or quiet, "reading") as progress:
        restored, kernel = _restored(alone, place, asked, progress, quiet)
        for note in restored.notes:
            remark(note, quiet)
        progress("writing", 0, 0)
        _write(restored, place, beside, quiet)
    if as_json:
        print(json.dumps(_numbers(restored, place, beside) | kernel, indent=1))
    else:
        made = "1 step" if restored.steps == 1 else f"{restored.steps} steps"
        print(f"{restored.method}: noise {restored.noise:.4g}, {made}, {_state(restored.converged)}")
        print(f"wrote {' and '.join(map(str, places))}")


@dataclass(frozen=True)
class _Asked:
    """What is asked for of every picture."""

    psf: str | Tensor
    noise: str | float
    boundary: str
    method: str
    steps: int | None
    strength: float | None
    axes: str | None
    memory: float | None
    enlarge: int | None
    exposure: dict[str, Any]


def _restored(picture: Path, place: Path, asked: _Asked, progress: Progress, quiet: bool) -> tuple[Restored, dict[str, Any]]:
    """Read a picture, restore it, and write the kernel if it was estimated; return the result and what is told of the kernel.

    Args:
        place: the file that is to hold the result.
    """
    from unconv.inverse import EstimatedKernel
    from unconv.inverse.fields import image
    from unconv.pictures.encode import refuse_unfit
    from unconv.pictures.measured import measured

    observed = measured(picture, axes=asked.axes)
    refuse_unfit(observed, place)  # now, and not after minutes of work
    progress("looking at the picture", 0, 0)
    made = _psf(asked.psf, observed, quiet) if isinstance(asked.psf, str) else asked.psf
    kernel = made.kernel if isinstance(made, EstimatedKernel) else made
    settings: dict[str, Any] = {"steps": asked.steps, "progress": progress}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # they come as notes, too
        if asked.enlarge is not None:
            restored = image.super_resolve(observed, asked.enlarge, kernel, asked.noise, asked.method, **settings)
        else:
            room = None if asked.memory is None else asked.memory * 2**30
            settings |= {"axes": asked.axes, "strength": asked.strength, "memory": room, **asked.exposure}
            restored = image.deblur(observed, kernel, asked.noise, asked.boundary, asked.method, **settings)
    if not isinstance(made, EstimatedKernel):
        return restored, {}
    told = write_kernel(made, str(asked.psf), place)
    return replace(restored, notes=(*made.notes, *restored.notes)), told


def _with_psf_read(asked: _Asked, quiet: bool) -> _Asked:
    """Read the PSF's file, if it is one: once for all pictures."""
    from unconv.inverse.psf.files import open_psf, psf_file

    if not isinstance(asked.psf, str) or not os.path.isfile(psf_file(asked.psf)[0]):
        return asked
    kernel, notes = open_psf(asked.psf)
    for note in notes:
        remark(note, quiet)
    return replace(asked, psf=kernel)


def _write(restored: Restored, place: Path, beside: Path | None, quiet: bool) -> None:
    from unconv.pictures.encode import png

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        files = {place: restored.encoded(place)}  # which may take many seconds, and may be stopped
    if beside is not None:
        files[beside] = png(restored.comparison())
    with uninterrupted():  # the two go together
        for path, content in files.items():
            write(path, content)
    for warning in told:
        remark(str(warning.message), quiet)


def _restore_each(
    arguments: list[Path],
    out: Path | None,
    asked: _Asked,
    before_after: bool,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Restore several pictures, one by one, and say what became of each; exit status 1 if one was not restored."""
    to_file = out is not None and several.alone(arguments, out) is not None and _names_a_picture(out)  # it is to resume
    if out is not None and not to_file and (os.path.isfile(out) or _names_a_picture(out)):
        raise UnconvError(f"deblur: {out} is a file, but several pictures need a folder. Name one with -o.")
    psf = Path(str(asked.psf))
    pairs = several.named(arguments, [psf, *([] if out is None else [out])], quiet)

    def place(path: Path, name: Path) -> Path:
        if out is None:
            return _beside(path)
        return out if to_file else out / name.with_suffix(_ending(name))

    jobs = several.planned(pairs, place)
    sources = [psf, *(job.source for job in jobs)]
    beside = partial(_all_beside, asked.psf, before_after)
    left = several.left_to_do(jobs, sources, beside, resume, overwrite)
    asked, outcome = _with_psf_read(asked, quiet), several.Outcome(len(left))

    def work(job: several.Job, progress: Progress) -> dict[str, Any]:
        restored, kernel = _restored(job.source, job.place, asked, progress, quiet)
        for note in restored.notes:
            remark(f"{job.name}: {note}", quiet)
        progress("writing", 1, 1)
        beside = _before_after(job.place) if before_after else None
        _write(restored, job.place, beside, quiet)
        return _numbers(restored, job.place, beside) | kernel

    if len(left) < len(jobs):
        remark(f"{len(jobs) - len(left)} of {len(jobs)} results are there already, and kept.", quiet)
    try:
        with show_progress(as_json or quiet, "reading") as progress:
            several.each(left, work, outcome, progress, quiet)
    except KeyboardInterrupt as stop:
        raise type(stop)(f" {len(outcome.records)} of {len(left)} pictures were done; --resume goes on.") from None
    finally:
        _tell(outcome, as_json)
    if outcome.failed:
        raise typer.Exit(1)


def _names_a_picture(out: Path) -> bool:
    """Whether a place that is no folder has the ending of a picture's file."""
    return out.suffix.lower() in several.picture_endings() and not os.path.isdir(out)


def _tell(outcome: several.Outcome, as_json: bool) -> None:
    """Print what became of each picture."""
    if as_json:
        print(json.dumps(outcome.records, indent=1))
        return
    rows = [_row(record) for record in outcome.records]
    if rows:
        print_table(("picture", "result", "method", "noise", "steps", "", "seconds"), rows)
    print(f"restored {len(rows) - len(outcome.failed)} of {outcome.total} pictures")
    for record in outcome.failed:
        print(printable(f"not restored: {record['source']}: {record['error']}"))


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    seconds = f"{record['seconds']:.1f}"
    if "error" in record:
        return (record["source"], "", "", "", "", "not restored", seconds)
    numbers = (record["method"], f"{record['noise']:.4g}", str(record["steps"]), _state(record["converged"]))
    return (record["source"], record["picture"], *numbers, seconds)


def _state(converged: bool) -> str:
    return "converged" if converged else "stopped at its last step"


def _refuse_places(places: list[Path], sources: dict[str, str], overwrite: bool) -> None:
    """Refuse to write over the sources, over anything without leave, and where nothing can be written: before the work."""
    for what, source in sources.items():
        if any(os.path.realpath(path) == os.path.realpath(source) for path in places):
            raise UnconvError(f"deblur: {source} is {what}, and would be written over. Choose another name with -o.")
    for path in places:
        refuse_unwritable(path)
        if os.path.lexists(path) and not overwrite:
            raise UnconvError(f"deblur: {path} is there already. Pass --force to replace it, or another name with -o.")


def _numbers(restored: Restored, place: Path, beside: Path | None) -> dict[str, Any]:
    return {
        "method": restored.method,
        "noise": restored.noise,
        "steps": restored.steps,
        "converged": restored.converged,
        "notes": list(restored.notes),
        "picture": str(place),
        "before_after": None if beside is None else str(beside),
    }


def _beside(picture: Path) -> Path:
    """Return a name beside the picture, of its own kind of file; PNG where that would compress with loss."""
    ending = _ending(picture)
    return picture.with_name(f"{picture.stem if ending == picture.suffix else picture.name}-restored{ending}")


def _ending(picture: Path) -> str:
    """Return the ending of a result's name: the picture's own, or PNG where that would compress with loss."""
    return picture.suffix if picture.suffix.lower() in _KEPT else ".png"


def _all_beside(psf: object, before_after: bool, place: Path) -> list[Path]:
    return [*([_before_after(place)] if before_after else []), *kernel_places(psf, place)]


def _before_after(place: Path) -> Path:
    return place.with_name(f"{place.stem}-before-after.png")


def _only_here(enlarge: int | None, boundary: str, options: dict[str, Any]) -> None:
    given = [option for option, value in options.items() if value is not None]
    given += ["--boundary"] if boundary != "unknown" else []
    if enlarge is not None and given:
        raise typer.BadParameter(f"{', '.join(given)} cannot go with --enlarge. Leave it out.")


def _options(settings: dict[str, Any]) -> dict[str, Any]:
    """Name settings as the command line does."""
    return {f"--{name.replace('_', '-')}": value for name, value in settings.items()}


def _number(option: str, text: str, words: str = "estimate, poisson") -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r}: write {words} or a number.") from None


def _psf(text: str, observed: Measured, quiet: bool) -> str | Tensor | EstimatedKernel:
    """Return a file's name as it is, or make the PSF that the words stand for."""
    from unconv.inverse.psf import makers as psf
    from unconv.inverse.psf.files import psf_file

    name, colon, rest = text.partition(":")
    if name not in _MAKERS or not colon:
        if not os.path.isfile(psf_file(text)[0]):
            ways = ", ".join(_MAKERS.values())
            raise typer.BadParameter(f"--psf {text!r}: there is no such file. Write a file's name, or one of {ways}.")
        return text
    try:
        numbers = [float(part) for part in rest.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != (2 if name == "motion" else 1):
        raise typer.BadParameter(f"--psf {text!r}: write {_MAKERS[name]}.")
    if name in ("estimate", "uniform") and not (numbers[0] >= 1 and numbers[0] % 1 == 0):
        raise typer.BadParameter(f"--psf {text!r}: the size must be a whole number.")
    if name == "estimate":
        return estimated(observed, int(numbers[0]), quiet)
    psf.refuse_wider(name, numbers, observed.spatial)
    if name == "uniform":
        return psf.uniform(int(numbers[0]))
    made: Tensor = getattr(psf, name)(*numbers)
    return made
