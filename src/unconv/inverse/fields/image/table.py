"""The methods of image restoration: one table, from which limits, errors, help texts and docs are made.

A row names its function as "module:function" and imports it when it first runs, so that `unconv deblur --help` loads
no torch. A new method is a function from a `Problem` to a solver's iterates, and a row here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from unconv.errors import ShapeError, nearest
from unconv.inverse.operators.boundaries import BOUNDARIES, Boundary

_METHODS = "unconv.inverse.fields.image.methods"
_PERIODIC: tuple[Boundary, ...] = ("circular", "unknown")  # what splitting methods take: see `split`


@dataclass(frozen=True)
class ImageMethod:
    """What the program knows of a method before it runs.

    Attributes:
        run: "module:function"; the function takes a `Problem` and yields iterates.
        help: one line, without a full stop.
        most_steps: the limit where the caller sets none.
        copies: how many pictures of the size of the estimate the process holds at the method's peak, measured by
            benchmarks/memory.py.
        begins: tiles begin at multiples of it, so that what the method does at every n-th sample falls on the same ones.
        later: how long a step of the second half takes, in steps of the first.
        besides: numbers that lie there besides, however large the picture; fewer of a small one.
        boundaries: those that it takes.
        axes: how many axes the PSF may have.
        strength: it takes a strength of the regularisation.
        counts: it takes noise="poisson".
        linear: what it fills in is too dark where the light was more than the camera counts.
        smooth_from: the step whose iterate is smooth, whatever the noise; None where none is.
        default_for: where method="auto" chooses it.
    """

    run: str
    help: str
    most_steps: int
    copies: int
    begins: int = 1
    later: float = 1.0
    besides: int = 0
    boundaries: tuple[Boundary, ...] = BOUNDARIES
    axes: tuple[int, ...] = (2, 3)
    strength: bool = False
    counts: bool = False
    linear: bool = False
    smooth_from: int | None = None
    default_for: Literal["pictures", "volumes", "counts"] | None = None

    def function(self) -> Any:
        """The function that `run` names."""
        module, _, name = self.run.partition(":")
        return getattr(import_module(module), name)


METHODS: dict[str, ImageMethod] = {
    "similar": ImageMethod(
        f"{_METHODS}:similar",
        "plug-and-play with block matching, for pictures whose blocks recur nearby; takes longest",
        most_steps=15,
        copies=32,
        later=1.3,  # it is thorough then
        besides=5 * 2**22,  # of one band of groups: see `SimilarBlocks`
        axes=(2,),
        smooth_from=1,
        default_for="pictures",
    ),
    "dct": ImageMethod(
        f"{_METHODS}:dct",
        "plug-and-play with a sliding DCT frame, for 8 × 8 blocks made of few cosines",
        most_steps=15,
        copies=36,
        axes=(2,),
        smooth_from=1,
    ),
    "tv": ImageMethod(
        f"{_METHODS}:total_variation",
        "total variation, for pictures that are flat between edges",
        most_steps=150,
        copies=45,
        boundaries=_PERIODIC,
        strength=True,
        default_for="volumes",
    ),
    "wavelet": ImageMethod(
        f"{_METHODS}:wavelet",
        "sparse wavelets; needs PyWavelets, the extra `image`",
        most_steps=200,
        copies=29,
        begins=16,
        strength=True,
    ),
    "tikhonov": ImageMethod(
        f"{_METHODS}:tikhonov_filter",
        "gradients as small as the noise demands; quick",
        most_steps=100,
        copies=36,
        strength=True,
        linear=True,
    ),
    "wiener": ImageMethod(
        f"{_METHODS}:wiener_filter",
        "Wiener's filter, for power that falls with the square of frequency; quick",
        most_steps=1,
        copies=34,
        boundaries=_PERIODIC,
        strength=True,
        linear=True,
    ),
    "richardson-lucy": ImageMethod(
        f"{_METHODS}:counts",
        "the likeliest picture without negative samples, for counts; the PSF must not be negative either",
        most_steps=100,
        copies=55,
        counts=True,
        default_for="counts",
    ),
}

# A denoiser of the caller's own, in plug-and-play splitting.
OWN_DENOISER = ImageMethod(f"{_METHODS}:plug_and_play", "a denoiser of yours", most_steps=15, copies=30)


def row(method: str) -> ImageMethod:
    """The row of a method; that of a caller's own denoiser, whatever its name, where there is none."""
    return METHODS.get(method, OWN_DENOISER)


def chosen_for(axes: int, poisson: bool) -> str:
    """The method that "auto" stands for."""
    kind = "counts" if poisson else "pictures" if axes == 2 else "volumes"
    return next(name for name, method in METHODS.items() if method.default_for == kind)


def refuse_unfit(method: str, *, boundary: str, axes: int, strength: bool, poisson: bool) -> None:
    """Refuse a method that there is not, or what it cannot do.

    Raises:
        ShapeError: the message names what can.
    """
    if method not in METHODS:
        raise ShapeError(f"deblur: there is no method {method!r}. Nearest: {nearest(method, METHODS)}.")
    can = METHODS[method]
    if poisson and not can.counts:
        raise ShapeError(
            f"deblur: method {method!r} is for noise of one strength; for counts use "
            f"{_either(_quoted(_names(counts=True)))}, or give a number."
        )
    if strength and not can.strength:
        raise ShapeError(
            f"deblur: method {method!r} takes no strength; the noise sets it. Give the noise, or use "
            f"{_names(strength=True)[0]!r}."
        )
    if axes not in can.axes:
        words = {2: "two axes", 3: "three axes"}
        raise ShapeError(
            f"deblur: method {method!r} is for pictures of {_either(words[n] for n in can.axes)}. "
            f"For a volume use {chosen_for(3, False)!r}, or a plane of the PSF."
        )
    if boundary not in can.boundaries:
        takes_it = [name for name, other in METHODS.items() if boundary in other.boundaries]
        raise ShapeError(
            f"deblur: method {method!r} takes boundary {_either(_quoted(reversed(can.boundaries)))}, not {boundary!r}. "
            f"Use 'unknown', which assumes less, or a method that takes it: {', '.join(takes_it)}."
        )


def method_help() -> str:
    """The names that `method` takes, as `--help` shows them."""
    return f"{_either(['auto', *METHODS])}."


def strength_help() -> str:
    """Which methods take a strength, as `--help` shows it."""
    return f"Of the regularisation, for {with_strength()}."


def with_strength() -> str:
    """The methods that take a strength, as a list in words."""
    return _either(_names(strength=True), "and")


def boundary_help() -> str:
    """The boundaries, and the methods that do not take them all, as `--help` shows them."""
    names = ["unknown", *(name for name in BOUNDARIES if name != "unknown")]
    few = [name for name, method in METHODS.items() if set(method.boundaries) != set(BOUNDARIES)]
    only = _either(reversed(_PERIODIC))
    return f"{_either(names)}; {_either(few, 'and')} take only {only}."


def methods_for_docstring(indent: int) -> str:
    """One line for each method, indented but for the first, for the docstring of `deblur`."""
    lines = [f'"{name}": {method.help}{_limits(method)}.' for name, method in METHODS.items()]
    chosen = [f'"{name}" for {method.default_for}' for name, method in METHODS.items() if method.default_for]
    return ("\n" + " " * indent).join([*lines, f'"auto": {_either(chosen, "and")}.'])


def _limits(method: ImageMethod) -> str:
    """What a method does not take, in words."""
    axes = "; two axes only" if method.axes == (2,) else ""
    boundaries = _either(_quoted(reversed(method.boundaries), '"'))
    return axes + (f"; boundary {boundaries}" if set(method.boundaries) != set(BOUNDARIES) else "")


def _names(**claims: bool) -> list[str]:
    """The methods of which every claim holds."""
    return [name for name, method in METHODS.items() if all(getattr(method, claim) is held for claim, held in claims.items())]


def _quoted(names: Iterable[str], mark: str = "'") -> list[str]:
    return [f"{mark}{name}{mark}" for name in names]


def _either(names: Iterable[str], word: str = "or") -> str:
    """ "a, b or c"."""
    *others, final = names
    return f"{', '.join(others)} {word} {final}" if others else final
