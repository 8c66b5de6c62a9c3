"""The table of image restoration methods, from which limits, errors, help texts and docs are generated.

A row names its function as "module:function" and imports it when it first runs, so that `unconv deblur --help` does not load
torch. To add a method, write a function from a `Problem` to a solver's iterates, and a row here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from unconv.errors import ShapeError, nearest
from unconv.inverse.operators.boundaries import BOUNDARIES, Boundary

_METHODS = "unconv.inverse.fields.image.methods"
_PERIODIC: tuple[Boundary, ...] = ("circular", "unknown")  # the boundaries that splitting methods take; see `split`


@dataclass(frozen=True)
class ImageMethod:
    """The properties of a method that are known before it runs.

    Attributes:
        run: "module:function"; the function takes a `Problem` and yields iterates.
        help: one line, without a full stop.
        most_steps: the limit of steps if the caller sets none.
        copies: how many pictures of the size of the estimate are in memory at the method's peak, measured by
            benchmarks/memory.py.
        begins: tiles begin at multiples of this, so that a method that works on every n-th sample meets the same ones.
        later: the time of a step in the second half, in steps of the first.
        besides: numbers in memory in addition, however large the picture; fewer for a small one.
        boundaries: the boundaries that it takes.
        axes: how many axes the PSF may have.
        strength: it takes a strength of the regularisation.
        counts: it takes noise="poisson".
        linear: it fills in saturated samples too dark, so they are not treated as missing.
        smooth_from: the step whose iterate is smooth, whatever the noise; None if there is none.
        default_for: the kind of picture for which method="auto" chooses it.
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
        """Import and return the function that `run` names."""
        module, _, name = self.run.partition(":")
        return getattr(import_module(module), name)


METHODS: dict[str, ImageMethod] = {
    "similar": ImageMethod(
        f"{_METHODS}:similar",
        "plug-and-play with block matching, for pictures whose blocks recur nearby; slowest",
        most_steps=15,
        copies=32,
        later=1.3,  # `thorough_below` is reached half-way
        besides=5 * 2**22,  # for one band of groups; see `SimilarBlocks`
        axes=(2,),
        smooth_from=1,
        default_for="pictures",
    ),
    "dct": ImageMethod(
        f"{_METHODS}:dct",
        "plug-and-play with a sliding DCT, for pictures whose 8 × 8 blocks have few large DCT coefficients",
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
        "Tikhonov's quadratic penalty on gradients, as strong as the noise demands; quick",
        most_steps=100,
        copies=36,
        strength=True,
        linear=True,
    ),
    "wiener": ImageMethod(
        f"{_METHODS}:wiener_filter",
        "the Wiener filter, for power that falls with the square of frequency; quick",
        most_steps=1,
        copies=34,
        boundaries=_PERIODIC,
        strength=True,
        linear=True,
    ),
    "richardson-lucy": ImageMethod(
        f"{_METHODS}:counts",
        "the likeliest picture without negative samples, for counts; the PSF must not be negative, either",
        most_steps=100,
        copies=55,
        counts=True,
        default_for="counts",
    ),
}

# The caller's own denoiser, in plug-and-play splitting.
OWN_DENOISER = ImageMethod(f"{_METHODS}:plug_and_play", "your own denoiser", most_steps=15, copies=30)


def row(method: str) -> ImageMethod:
    """Return the row of a method; for any other name, the row of the caller's own denoiser."""
    return METHODS.get(method, OWN_DENOISER)


def chosen_for(axes: int, poisson: bool) -> str:
    """Return the name of the method that "auto" chooses."""
    kind = "counts" if poisson else "pictures" if axes == 2 else "volumes"
    return next(name for name, method in METHODS.items() if method.default_for == kind)


def refuse_unfit(method: str, *, boundary: str, axes: int, strength: bool, poisson: bool) -> None:
    """Refuse an unknown method, or one that does not fit the arguments.

    Raises:
        ShapeError: the message names a method that fits.
    """
    # The methods that each message suggests are read from the table, so that a new row needs no new message.
    if method not in METHODS:
        raise ShapeError(f"deblur: there is no method {method!r}. Nearest: {nearest(method, METHODS)}.")
    properties = METHODS[method]
    if poisson and not properties.counts:
        raise ShapeError(
            f"deblur: method {method!r} is for noise that is equal everywhere, but the noise is 'poisson'. Use "
            f"{_either(_quoted(_names(counts=True)))}, or pass the noise as a number."
        )
    if strength and not properties.strength:
        raise ShapeError(
            f"deblur: method {method!r} takes no strength, because the noise determines it. Pass the noise, or use "
            f"{_names(strength=True)[0]!r}."
        )
    if axes not in properties.axes:
        words = {2: "two axes", 3: "three axes"}
        raise ShapeError(
            f"deblur: method {method!r} takes pictures of {_either(words[n] for n in properties.axes)}, but the PSF has "
            f"{axes}. Use {chosen_for(3, False)!r} for a volume, or pass a plane of the PSF."
        )
    if boundary not in properties.boundaries:
        takers = [name for name, other in METHODS.items() if boundary in other.boundaries]
        raise ShapeError(
            f"deblur: boundary is {boundary!r}, but method {method!r} takes "
            f"{_either(_quoted(reversed(properties.boundaries)))}. Use "
            f"'unknown', which assumes less, or a method that takes {boundary!r}: {', '.join(takers)}."
        )


def method_help() -> str:
    """Return the names of the methods, for `--help`."""
    return f"{_either(['auto', *METHODS])}."


def strength_help() -> str:
    """Return the methods that take a strength, for `--help`."""
    return f"Strength of the regularisation, for {with_strength()}."


def with_strength() -> str:
    """Return the methods that take a strength, as a list in words."""
    return _either(_names(strength=True), "and")


def boundary_help() -> str:
    """Return the boundaries, and the methods that do not take all of them, for `--help`."""
    names = ["unknown", *(name for name in BOUNDARIES if name != "unknown")]
    few = [name for name, method in METHODS.items() if set(method.boundaries) != set(BOUNDARIES)]
    only = _either(reversed(_PERIODIC))
    return f"{_either(names)}; {_either(few, 'and')} take only {only}."


def methods_for_docstring(indent: int) -> str:
    """Return one line for each method, all except the first indented, for the docstring of `deblur`."""
    lines = [f'"{name}": {method.help}{_limits(method)}.' for name, method in METHODS.items()]
    chosen = [f'"{name}" for {method.default_for}' for name, method in METHODS.items() if method.default_for]
    return ("\n" + " " * indent).join([*lines, f'"auto": {_either(chosen, "and")}.'])


def _limits(method: ImageMethod) -> str:
    """Return the limits of a method in words."""
    axes = "; two axes only" if method.axes == (2,) else ""
    boundaries = _either(_quoted(reversed(method.boundaries), '"'))
    return axes + (f"; boundary {boundaries}" if set(method.boundaries) != set(BOUNDARIES) else "")


def _names(**claims: bool) -> list[str]:
    """Return the methods with these values in their rows."""
    return [name for name, method in METHODS.items() if all(getattr(method, key) is value for key, value in claims.items())]


def _quoted(names: Iterable[str], mark: str = "'") -> list[str]:
    return [f"{mark}{name}{mark}" for name in names]


def _either(names: Iterable[str], word: str = "or") -> str:
    """Join names as in "a, b or c"."""
    *others, final = names
    return f"{', '.join(others)} {word} {final}" if others else final
