"""Commands on measured signals and pictures: undo what the measuring system did to them."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unconv.cli.groups import Group
from unconv.cli.options import AsJson, Quiet, one_of
from unconv.cli.progress import remark, show_progress
from unconv.errors import PictureError, UnconvError
from unconv.files import refuse_unwritable, uninterrupted, write
from unconv.inverse.fields.image.table import METHODS, boundary_help, method_help, strength_help
from unconv.inverse.operators.boundaries import BOUNDARIES

if TYPE_CHECKING:
    from torch import Tensor

    from unconv.inverse.fields.image import Restored
    from unconv.pictures.measured import Measured

GROUP = Group("Signals and pictures", 3)

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
    picture: Annotated[Path, typer.Argument(help="8 or 16 bits, float TIFF, stacks, .npy; its depth is kept.")],
    psf: Annotated[
        str,
        typer.Option(
            help="The blur: a file (.npy, .png, .tif, .mat, .csv), or gaussian:SIGMA, motion:LENGTH,ANGLE, disk:RADIUS, "
            "uniform:SIZE, airy:RADIUS in pixels, or estimate:SIZE, from the picture itself."
        ),
    ],
    noise: Annotated[str, typer.Option(help="estimate, poisson, or a standard deviation in the picture's units.")] = "estimate",
    boundary: Annotated[str, typer.Option(help=boundary_help(), autocompletion=one_of(BOUNDARIES))] = "unknown",
    method: Annotated[str, typer.Option(help=method_help(), autocompletion=one_of(["auto", *METHODS]))] = "auto",
    steps: Annotated[int | None, typer.Option(help="The most steps that the method may make.")] = None,
    strength: Annotated[float | None, typer.Option(help=strength_help())] = None,
    axes: Annotated[str | None, typer.Option(help="What the axes are, where they cannot be told: DHW, NHW, HWC.")] = None,
    memory: Annotated[
        float | None, typer.Option(help="GiB to use; larger pictures go in tiles. By default half of the memory.")
    ] = None,
    enlarge: Annotated[int | None, typer.Option(help="Restore on a grid this many times as fine.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The restored picture's file; by default beside the picture.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Take the blur out of a picture, and write it beside a before-and-after picture."""
    from unconv.inverse.fields import image
    from unconv.pictures.encode import png, refuse_unfit
    from unconv.pictures.measured import measured

    wanted: str | float = noise if noise in ("estimate", "poisson") else _number("--noise", noise)
    _only_here(enlarge, boundary, {"--strength": strength, "--axes": axes, "--memory": memory})
    place = out or _beside(picture)
    beside = place.with_name(f"{place.stem}-before-after.png")
    _refuse_places(place, beside, {"the blurred picture itself": str(picture), "the PSF": psf}, overwrite)
    observed = measured(picture, axes=axes)
    refuse_unfit(observed, place)  # now, and not after minutes of work
    kernel = _psf(psf, observed, quiet)
    with warnings.catch_warnings(), show_progress(as_json or quiet) as progress:
        warnings.simplefilter("ignore", UserWarning)  # they come as notes, too
        if enlarge is None:
            room = None if memory is None else memory * 2**30
            settings: dict[str, Any] = {"steps": steps, "strength": strength, "memory": room, "progress": progress}
            restored = image.deblur(observed, kernel, wanted, boundary, method, axes=axes, **settings)
        else:
            restored = image.super_resolve(observed, enlarge, kernel, wanted, method, steps=steps, progress=progress)
    for note in restored.notes:
        remark(note, quiet)
    with uninterrupted():  # the two go together
        restored.save(place)
        write(beside, png(restored.comparison()))
    if as_json:
        print(json.dumps(_numbers(restored, place, beside), indent=1))
    else:
        state = "converged" if restored.converged else "stopped at its last step"
        print(f"{restored.method}: noise {restored.noise:.4g}, {restored.steps} steps, {state}")
        print(f"wrote {place} and {beside}")


def _refuse_places(place: Path, beside: Path, sources: dict[str, str], overwrite: bool) -> None:
    """Refuse to write over the sources, over anything without leave, and where nothing can be written: before the work."""
    for what, source in sources.items():
        if any(os.path.realpath(path) == os.path.realpath(source) for path in (place, beside)):
            raise UnconvError(f"deblur: {source} is {what}, and would be written over. Choose another name with -o.")
    for path in (place, beside):
        refuse_unwritable(path)
        if os.path.lexists(path) and not overwrite:
            raise UnconvError(f"deblur: {path} is there already. Pass --overwrite to replace it, or another name with -o.")


def _numbers(restored: Restored, place: Path, beside: Path) -> dict[str, Any]:
    return {
        "method": restored.method,
        "noise": restored.noise,
        "steps": restored.steps,
        "converged": restored.converged,
        "notes": list(restored.notes),
        "picture": str(place),
        "before_after": str(beside),
    }


def _beside(picture: Path) -> Path:
    """Return a name beside the picture, of its own kind of file; PNG where that would compress with loss."""
    if not os.path.isfile(picture):
        raise PictureError(f"deblur: there is no picture file {str(picture)!r}.")
    if picture.suffix.lower() in (".png", ".tif", ".tiff", ".npy"):
        return picture.with_name(f"{picture.stem}-restored{picture.suffix}")
    return picture.with_name(f"{picture.name}-restored.png")


def _only_here(enlarge: int | None, boundary: str, options: dict[str, Any]) -> None:
    given = [option for option, value in options.items() if value is not None]
    given += ["--boundary"] if boundary != "unknown" else []
    if enlarge is not None and given:
        raise typer.BadParameter(f"{', '.join(given)} cannot go with --enlarge. Leave it out.")


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r}: write estimate, poisson or a number.") from None


def _psf(text: str, observed: Measured, quiet: bool) -> str | Tensor:
    """Return a file's name as it is, or make the PSF that the words stand for."""
    from unconv.inverse.psf import makers as psf

    name, colon, rest = text.partition(":")
    if name not in _MAKERS or not colon:
        if not os.path.isfile(text):
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
        return _estimated(observed, int(numbers[0]), quiet)
    psf.refuse_wider(name, numbers, observed.spatial)
    if name == "uniform":
        return psf.uniform(int(numbers[0]))
    made: Tensor = getattr(psf, name)(*numbers)
    return made


def _estimated(observed: Measured, size: int, quiet: bool) -> Tensor:
    from unconv.inverse import estimate_kernel

    remark(f"estimating a kernel of {size} x {size}", quiet)
    grey = observed.samples.mean(0) if observed.colour else observed.samples
    return estimate_kernel(grey, size)
