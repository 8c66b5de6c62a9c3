"""Name the boundary conditions of a convolution; see `Convolution`. The module imports no torch, so that `--help` is quick."""

from __future__ import annotations

from typing import Literal, get_args

Boundary = Literal["circular", "zero", "reflect", "unknown"]
BOUNDARIES: tuple[Boundary, ...] = get_args(Boundary)
