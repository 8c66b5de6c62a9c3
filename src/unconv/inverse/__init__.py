"""Deconvolution as an inverse problem: operators with exact adjoints, solvers, and fields that use them."""

from unconv.inverse.convolution import Convolution, split
from unconv.inverse.iterate import Iterate, last
from unconv.inverse.operator import Composition, Operator, Scaling, Stack, Sum, inner, norm
from unconv.inverse.selection import Crop, Downsample, Mask, Selection, Window

__all__ = [
    "Composition",
    "Convolution",
    "Crop",
    "Downsample",
    "Iterate",
    "Mask",
    "Operator",
    "Scaling",
    "Selection",
    "Stack",
    "Sum",
    "Window",
    "inner",
    "last",
    "norm",
    "split",
]
