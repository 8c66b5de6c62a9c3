"""Deconvolution as an inverse problem: operators with exact adjoints, solvers, and fields that use them."""

from unconv.inverse.admm import admm_tv
from unconv.inverse.blind import BlindIterate, blind, estimate_kernel, richardson_lucy_blind
from unconv.inverse.cgls import cgls
from unconv.inverse.convolution import Convolution, split
from unconv.inverse.fista import fista
from unconv.inverse.fit import Fit
from unconv.inverse.frame import SlidingDct
from unconv.inverse.hqs import hqs
from unconv.inverse.iterate import Iterate, last
from unconv.inverse.metrics import isnr, psnr, ssim
from unconv.inverse.noise import estimate_noise
from unconv.inverse.operator import Composition, Operator, Scaling, Stack, Sum, inner, norm
from unconv.inverse.penalties import L1, Box, Positive, Wavelet
from unconv.inverse.richardson_lucy import richardson_lucy
from unconv.inverse.selection import Crop, Downsample, Mask, Selection, Window
from unconv.inverse.similar import SimilarBlocks
from unconv.inverse.tikhonov import tikhonov
from unconv.inverse.wiener import wiener

__all__ = [
    "L1",
    "BlindIterate",
    "Box",
    "Composition",
    "Convolution",
    "Crop",
    "Downsample",
    "Fit",
    "Iterate",
    "Mask",
    "Operator",
    "Positive",
    "Scaling",
    "Selection",
    "SimilarBlocks",
    "SlidingDct",
    "Stack",
    "Sum",
    "Wavelet",
    "Window",
    "admm_tv",
    "blind",
    "cgls",
    "estimate_kernel",
    "estimate_noise",
    "fista",
    "hqs",
    "inner",
    "isnr",
    "last",
    "norm",
    "psnr",
    "richardson_lucy",
    "richardson_lucy_blind",
    "split",
    "ssim",
    "tikhonov",
    "wiener",
]
