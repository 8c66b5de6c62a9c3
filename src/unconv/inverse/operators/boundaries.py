"""The names of what a convolution may find around its input; see `Convolution`. Imports no torch, so that `--help` is quick."""

from __future__ import annotations

from typing import Literal, get_args

Boundary = Literal["circular", "zero", "reflect", "unknown"]
BOUNDARIES: tuple[Boundary, ...] = get_args(Boundary)
