"""The command `deblur`: restore blurred pictures, one or several."""

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
from unconv.cli.estimating import estimated, kernel_files, write_kernel
from unconv.cli.groups import Group
from unconv.cli.options import AsJson, Quiet, one_of
from unconv.cli.progress import print_table, remark, show_progress
from unconv.errors import UnconvError, counted, nearest, printable
from unconv.files import refuse_unwritable, uninterrupted, write
from unconv.inverse.fields.image.table import METHODS, boundary_help, method_help, strength_help
from unconv.inverse.operators.boundaries import BOUNDARIES
from unconv.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from unconv.inverse import EstimatedKernel
    from unconv.inverse.fields.image import Restored
    from unconv.pictures.measured import Measured

GROUP = Group("Signals and pictures", 4)

_LOSSLESS = (".png", ".tif", ".tiff", ".npy", ".fits", ".fit", ".fts", ".pgm", ".ppm", ".pnm")  # lossless kinds of files
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
            help="Pictures of 8 or 16 bits, float TIFF, FITS, stacks, .npy; the depth is kept. Several files, folders or globs "
            "in quotes, 'photos/*.jpg', are restored one by one.",
        ),
    ],
    psf: Annotated[
        str,
        typer.Option(
            help="The blur: a file (.npy, .png, .tif, .mat, .csv; KERNELS.mat:3 is the third of several); or gaussian:SIGMA, "
            "motion:LENGTH,ANGLE, disk:RADIUS, uniform:SIZE or airy:RADIUS, in pixels; or estimate:SIZE, from the picture."
        ),
    ],
    noise: Annotated[str, typer.Option(help="estimate, poisson, or a standard deviation in the picture's units.")] = "estimate",
    boundary: Annotated[str, typer.Option(help=boundary_help(), autocompletion=one_of(BOUNDARIES))] = "unknown",
    method: Annotated[str, typer.Option(help=method_help(), autocompletion=one_of(["auto", *METHODS]))] = "auto",
    steps: Annotated[int | None, typer.Option(help="Largest number of steps.")] = None,
    strength: Annotated[float | None, typer.Option(help=strength_help())] = None,
    axes: Annotated[
        str | None, typer.Option(help="Name the axes if their lengths do not show them: DHW, NHW, HWC, TZCYX.")
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(help="Memory to use, in GiB; larger pictures are restored in tiles. Default: half of the machine's."),
    ] = None,
    gain: Annotated[
        float | None,
        typer.Option(help="The camera's gain, in counts per electron. Missing camera settings are estimated."),
    ] = None,
    offset: Annotated[float | None, typer.Option(help="The camera's offset: counts without light.")] = None,
    read_noise: Annotated[float | None, typer.Option(help="The camera's read noise: standard deviation, in electrons.")] = None,
    background: Annotated[str, typer.Option(help="Background light to subtract, in the picture's units; or estimate.")] = "0",
    linear: Annotated[
        bool | None,
        typer.Option(
            "--linear/--no-linear",
            help="Whether the blur acted on light, as a lens does, or on the samples. By default, photographs are tested.",
        ),
    ] = None,
    enlarge: Annotated[int | None, typer.Option(help="Super-resolution: restore on a grid this many times finer.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="The file to write, or the folder for several pictures. Default: beside each picture."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--force", "--overwrite", help="Replace existing files; --overwrite is the same.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Keep existing results and restore the other pictures.")] = False,
    before_after: Annotated[
        bool | None,
        typer.Option(
            "--before-after/--no-before-after",
            help="Also write a before-and-after picture. Default: only for a single picture.",
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Remove the blur from one or more pictures. For a single one, also write a before-and-after picture."""
    wanted: str | float = noise if noise in ("estimate", "poisson") else _number("--noise", noise)
    exposure: dict[str, Any] = {"gain": gain, "offset": offset, "read_noise": read_noise, "linear": linear}
    _only_here(enlarge, boundary, {"--strength": strength, "--axes": axes, "--memory": memory, **_options(exposure)})
    exposure["background"] = background if background == "estimate" else _number("--background", background, "estimate")
    exposure["linear"] = "auto" if linear is None else linear
    settings = _Settings(psf, wanted, boundary, method, steps, strength, axes, memory, enlarge, exposure)
    alone = several.alone(pictures, out)
    if alone is None or resume:
        _restore_each(pictures, out, settings, before_after is True, resume, overwrite, as_json, quiet)
        return
    # Refuse whatever the names alone rule out before the work, which may take minutes.
    target = out or _beside(alone)
    beside = None if before_after is False else _before_after(target)
    targets = [target, *([beside] if beside else []), *kernel_files(psf, target)]
    _refuse_targets(targets, {"the blurred picture itself": str(alone), "the PSF": psf}, overwrite)
    with show_progress(as_json or quiet, "reading") as progress:
        restored, kernel = _restored(alone, target, settings, progress, quiet)
        for note in restored.notes:
            remark(note, quiet)
        progress("writing", 0, 0)
        _write(restored, target, beside, quiet)
    if as_json:
        print(json.dumps(_numbers(restored, target, beside) | kernel, indent=1))
    else:
        steps_made = counted(restored.steps, "step")
        print(f"{restored.method}: noise {restored.noise:.4g}, {steps_made}, {_state(restored.converged)}")
        print(f"wrote {' and '.join(map(str, targets))}")


@dataclass(frozen=True)
class _Settings:
    """The settings for every picture."""

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


def _restored(
    picture: Path, target: Path, settings: _Settings, progress: Progress, quiet: bool
) -> tuple[Restored, dict[str, Any]]:
    """Read and restore a picture, and write the kernel if it was estimated; return the result and the kernel's JSON record.

    Args:
        target: the file of the result.
    """
    from unconv.inverse import EstimatedKernel
    from unconv.inverse.fields import image
    from unconv.pictures.encode import refuse_unfit
    from unconv.pictures.measured import measured

    observed = measured(picture, axes=settings.axes)
    refuse_unfit(observed, target)  # before minutes of work
    progress("looking at the picture", 0, 0)
    blur = _psf(settings.psf, observed, quiet) if isinstance(settings.psf, str) else settings.psf
    kernel = blur.kernel if isinstance(blur, EstimatedKernel) else blur
    options: dict[str, Any] = {"steps": settings.steps, "progress": progress}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the result's notes have them, too
        if settings.enlarge is not None:
            restored = image.super_resolve(observed, settings.enlarge, kernel, settings.noise, settings.method, **options)
        else:
            room = None if settings.memory is None else settings.memory * 2**30
            options |= {"axes": settings.axes, "strength": settings.strength, "memory": room, **settings.exposure}
            restored = image.deblur(observed, kernel, settings.noise, settings.boundary, settings.method, **options)
    if not isinstance(blur, EstimatedKernel):
        return restored, {}
    record = write_kernel(blur, str(settings.psf), target)
    return replace(restored, notes=(*blur.notes, *restored.notes)), record


def _with_psf_read(settings: _Settings, quiet: bool) -> _Settings:
    """Return the settings with the PSF's file read, once for all pictures."""
    from unconv.inverse.psf.files import open_psf, psf_file

    if not isinstance(settings.psf, str) or not os.path.isfile(psf_file(settings.psf)[0]):
        return settings
    kernel, notes = open_psf(settings.psf)
    for note in notes:
        remark(note, quiet)
    return replace(settings, psf=kernel)


def _write(restored: Restored, target: Path, beside: Path | None, quiet: bool) -> None:
    from unconv.pictures.encode import png

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        files = {target: restored.encoded(target)}  # this may take many seconds, and may be interrupted
    if beside is not None:
        files[beside] = png(restored.comparison())
    with uninterrupted():  # write both files or none
        for path, content in files.items():
            write(path, content)
    for warning in caught:
        remark(str(warning.message), quiet)


def _restore_each(
    arguments: list[Path],
    out: Path | None,
    settings: _Settings,
    before_after: bool,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Restore several pictures one by one, and report on each; the exit status is 1 if one was not restored."""
    to_file = (
        out is not None and several.alone(arguments, out) is not None and _names_a_picture(out)
    )  # --resume of a single picture
    if out is not None and not to_file and (os.path.isfile(out) or _names_a_picture(out)):
        raise UnconvError(f"deblur: -o is the file {out}, but several pictures need a folder. Name one with -o.")
    psf = Path(str(settings.psf))
    pairs = several.named(arguments, [psf, *([] if out is None else [out])], quiet)

    def target(path: Path, name: Path) -> Path:
        if out is None:
            return _beside(path)
        return out if to_file else out / name.with_suffix(_ending(name))

    # Plan all targets and refuse collisions before the first picture. The PSF is read once, after that.
    jobs = several.planned(pairs, target)
    sources = [psf, *(job.source for job in jobs)]
    beside = partial(_all_beside, settings.psf, before_after)
    left = several.left_to_do(jobs, sources, beside, resume, overwrite)
    settings, outcome = _with_psf_read(settings, quiet), several.Outcome(len(left))

    def work(job: several.Job, progress: Progress) -> dict[str, Any]:
        restored, kernel = _restored(job.source, job.target, settings, progress, quiet)
        for note in restored.notes:
            remark(f"{job.name}: {note}", quiet)
        progress("writing", 1, 1)
        beside = _before_after(job.target) if before_after else None
        _write(restored, job.target, beside, quiet)
        return _numbers(restored, job.target, beside) | kernel

    if len(left) < len(jobs):
        remark(f"kept {len(jobs) - len(left)} of {counted(len(jobs), 'result')} from an earlier run.", quiet)
    try:
        with show_progress(as_json or quiet, "reading") as progress:
            several.each(left, work, outcome, progress, quiet)
    except KeyboardInterrupt as stop:
        raise type(stop)(f" Finished {len(outcome.records)} of {counted(len(left), 'picture')}; --resume continues.") from None
    finally:
        _report(outcome, as_json)
    if outcome.failed:
        raise typer.Exit(1)


def _names_a_picture(out: Path) -> bool:
    """Return whether a path has the ending of a picture's file and is not a folder."""
    return out.suffix.lower() in several.picture_endings() and not os.path.isdir(out)


def _report(outcome: several.Outcome, as_json: bool) -> None:
    """Print the outcome of each picture."""
    if as_json:
        print(json.dumps(outcome.records, indent=1))
        return
    rows = [_row(record) for record in outcome.records]
    if rows:
        print_table(("picture", "result", "method", "noise", "steps", "", "seconds"), rows)
    print(f"restored {len(rows) - len(outcome.failed)} of {counted(outcome.total, 'picture')}")
    for record in outcome.failed:
        print(printable(f"not restored: {record['source']}: {record['error']}"))


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    seconds = f"{record['seconds']:.1f}"
    if "error" in record:
        return (record["source"], "", "", "", "", "not restored", seconds)
    numbers = (record["method"], f"{record['noise']:.4g}", str(record["steps"]), _state(record["converged"]))
    return (record["source"], record["picture"], *numbers, seconds)


def _state(converged: bool) -> str:
    return "converged" if converged else "stopped at the step limit"


def _refuse_targets(targets: list[Path], sources: dict[str, str], overwrite: bool) -> None:
    """Refuse to overwrite a source, to overwrite other files without --force, and to write where that is impossible."""
    for what, source in sources.items():
        if any(os.path.realpath(path) == os.path.realpath(source) for path in targets):
            raise UnconvError(f"deblur: {source} is {what}, and would be overwritten. Choose another name with -o.")
    for path in targets:
        refuse_unwritable(path)
        if os.path.lexists(path) and not overwrite:
            raise UnconvError(f"deblur: {path} already exists. Pass --force to replace it, or another name with -o.")


def _numbers(restored: Restored, target: Path, beside: Path | None) -> dict[str, Any]:
    return {
        "method": restored.method,
        "noise": restored.noise,
        "steps": restored.steps,
        "converged": restored.converged,
        "notes": list(restored.notes),
        "picture": str(target),
        "before_after": None if beside is None else str(beside),
    }


def _beside(picture: Path) -> Path:
    """Return the name of a result beside its picture, with its ending, or .png if that kind of file is lossy."""
    ending = _ending(picture)
    return picture.with_name(f"{picture.stem if ending == picture.suffix else picture.name}-restored{ending}")


def _ending(picture: Path) -> str:
    """Return the ending of a result: the picture's own, or .png if that kind of file is lossy."""
    return picture.suffix if picture.suffix.lower() in _LOSSLESS else ".png"


def _all_beside(psf: object, before_after: bool, target: Path) -> list[Path]:
    return [*([_before_after(target)] if before_after else []), *kernel_files(psf, target)]


def _before_after(target: Path) -> Path:
    return target.with_name(f"{target.stem}-before-after.png")


def _only_here(enlarge: int | None, boundary: str, options: dict[str, Any]) -> None:
    others = [option for option, value in options.items() if value is not None]
    others += ["--boundary"] if boundary != "unknown" else []
    if enlarge is not None and others:
        raise typer.BadParameter(f"--enlarge cannot be combined with {', '.join(others)}. Leave one side out.")


def _options(settings: dict[str, Any]) -> dict[str, Any]:
    """Rename settings to their command-line options."""
    return {f"--{name.replace('_', '-')}": value for name, value in settings.items()}


def _number(option: str, text: str, words: str = "estimate, poisson") -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{option} is {text!r}, but {words} or a number was needed.") from None


def _psf(text: str, observed: Measured, quiet: bool) -> str | Tensor | EstimatedKernel:
    """Return the name of a file unchanged, or compute or estimate the PSF that the text describes."""
    from unconv.inverse.psf import makers as psf
    from unconv.inverse.psf.files import psf_file

    # Only a known name before the colon is a formula; Windows paths and KERNELS.mat:3 have colons, too.
    name, colon, rest = text.partition(":")
    if name not in _MAKERS or not colon:
        if not os.path.isfile(psf_file(text)[0]):
            forms = ", ".join(_MAKERS.values())
            raise typer.BadParameter(
                f"--psf is {text!r}, which is neither a file nor a formula. Write the name of a file, or one of {forms}. "
                f"Nearest: {nearest(text, _MAKERS.values())}."
            )
        return text
    try:
        numbers = [float(part) for part in rest.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != (2 if name == "motion" else 1):
        raise typer.BadParameter(f"--psf is {text!r}, but {_MAKERS[name]} was needed, with numbers.")
    if name in ("estimate", "uniform") and not (numbers[0] >= 1 and numbers[0] % 1 == 0):
        raise typer.BadParameter(f"--psf is {text!r}, but the size must be a whole number of at least 1.")
    if name == "estimate":
        return estimated(observed, int(numbers[0]), quiet)
    psf.refuse_wider(name, numbers, observed.spatial)
    if name == "uniform":
        return psf.uniform(int(numbers[0]))
    kernel: Tensor = getattr(psf, name)(*numbers)
    return kernel
