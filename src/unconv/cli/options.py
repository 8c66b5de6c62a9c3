"""Options and arguments shared by several commands; help and completion come from the tables of choices."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from unconv.networks.openers import model_help, weights_help
from unconv.reverse.method_table import METHODS, Activations, method_help


def one_of(choices: Iterable[str]) -> Callable[[str], list[str]]:
    """Return the function that completes an option's value in a shell."""
    known = list(choices)

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in known if choice.startswith(incomplete)]

    return complete


_ACTIVATIONS = get_args(Activations)

Model = Annotated[str, typer.Argument(help=model_help())]
Images = Annotated[
    list[Path],
    typer.Argument(
        help="A picture, or an array (.npy) with the channels and axes that the network takes. Several get an index page."
    ),
]
Weights = Annotated[str | None, typer.Option(help=weights_help())]
Folder = Annotated[Path, typer.Option("-o", "--out", help="The folder to write.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print all numbers as JSON and nothing else on standard output.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print only results and errors, no progress or remarks.")]
At = Annotated[
    list[str] | None,
    typer.Option(help="A place from `unconv places`; may be repeated. Default: every convolution's rectified output."),
]
Channels = Annotated[
    str,
    typer.Option(
        help='"all", "top:9", "together" (all maps of a layer at once), or channels: 3 or 3,17,40.',
        autocompletion=one_of(["all", "top:9", "together"]),
    ),
]
Unit = Annotated[str, typer.Option(help='"strongest", "map", or a position: 6,7.', autocompletion=one_of(["strongest", "map"]))]
Method = Annotated[str, typer.Option(help=method_help(), autocompletion=one_of(METHODS))]
ActivationsOption = Annotated[
    str,
    typer.Option(
        "--activations",
        help="The rule for rectifiers other than ReLU, which the paper does not cover: rectify, gradient, pass or error.",
        autocompletion=one_of(_ACTIVATIONS),
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="The number type of the walk back: float32; bfloat16, which takes two thirds of the time and states its error; "
        "float64; or float16 on a GPU.",
        autocompletion=one_of(["float32", "bfloat16", "float64", "float16"]),
    ),
]
Gates = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        help="Treat this place, module or kind of operation (tanh) as a gate, where unconv cannot tell; may be repeated.",
    ),
]
_PICTURE = {
    "weights": Weights,
    "size": Annotated[
        str | None,
        typer.Option(
            help="Crop the picture to HEIGHTxWIDTH, or to a square: 224. "
            "For signals and volumes, the size to run with: 16000, 16x64x64."
        ),
    ],
    "resize": Annotated[
        str | None,
        typer.Option(
            help="Scale the picture's short side to this before the crop, or the picture to HEIGHTxWIDTH whatever its shape."
        ),
    ],
    "mean": Annotated[
        str | None, typer.Option(help="Subtract this from each channel: values separated by commas, or one for all.")
    ],
    "std": Annotated[str | None, typer.Option(help="Divide each channel by this: values separated by commas, or one for all.")],
    "scale": Annotated[
        float | None,
        typer.Option(help="The value of a white pixel before mean and std: 1, or 255 for networks from Caffe."),
    ],
    "bgr": Annotated[bool, typer.Option("--bgr", help="Give the network its channels in the order blue, green, red.")],
}
"""The options on how a network is opened and its pictures preprocessed, the same for all commands with a network."""


def opens_network(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument MODEL and the options of `_PICTURE`; it gets them as `model` and `opening`, a mapping."""
    # Not with get_type_hints: in Python 3.10 it wraps a parameter whose default is None in Optional, which hides its Annotated.
    own = [p for name, p in inspect.signature(command, eval_str=True).parameters.items() if name != "opening"]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    extra = [
        inspect.Parameter(name, kind, default=False if name == "bgr" else None, annotation=hint)
        for name, hint in _PICTURE.items()
    ]

    @wraps(command)
    def run(**options: Any) -> None:
        command(opening={name: options.pop(name) for name in _PICTURE}, **options)

    # --json and --quiet come last, as in every command.
    last = [p for p in own if p.name in ("as_json", "quiet")]
    ordered = [*(p for p in own if p not in last), *extra, *last]
    run.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in ordered}
    return run
