"""Options and arguments that several commands share; their help and completion come from the tables of choices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, get_args

import typer

from unconv.networks.openers import model_help, weights_help
from unconv.reverse.method_table import METHODS, Activations, method_help


def one_of(choices: Iterable[str]) -> Callable[[str], list[str]]:
    """Return the function that a shell asks for completions of an option."""
    known = list(choices)

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in known if choice.startswith(incomplete)]

    return complete


_ACTIVATIONS = get_args(Activations)

Model = Annotated[str, typer.Argument(help=model_help())]
Image = Annotated[Path, typer.Argument(help="A picture.")]
Images = Annotated[list[Path], typer.Argument(help="A picture, or several, which get a page that leads to them.")]
Weights = Annotated[str | None, typer.Option(help=weights_help())]
Folder = Annotated[Path, typer.Option("-o", "--out", help="The folder to write.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print all numbers as JSON, and nothing else on standard output.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors only: no progress, no remarks.")]
At = Annotated[
    list[str] | None,
    typer.Option(help="A place from `unconv places`; may be repeated. By default every convolution's rectified output."),
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
        help="The type to walk back in: float32; bfloat16, which takes two thirds of the time and states its error; float64; "
        "or float16 on a GPU.",
        autocompletion=one_of(["float32", "bfloat16", "float64", "float16"]),
    ),
]
Size = Annotated[str | None, typer.Option(help="Crop the picture to HEIGHTxWIDTH, or a square: 224.")]
Resize = Annotated[int | None, typer.Option(help="Scale the picture's short side to this before the crop.")]
Mean = Annotated[
    str | None, typer.Option(help="Subtracted per channel, comma separated; one value converts the picture to grey.")
]
Std = Annotated[str | None, typer.Option(help="Divided by per channel, comma separated.")]
Scale = Annotated[
    float | None, typer.Option(help="The value of a white pixel before mean and std: 1, or 255 for networks from Caffe.")
]
Bgr = Annotated[bool, typer.Option("--bgr", help="Channels in the order blue, green, red.")]
