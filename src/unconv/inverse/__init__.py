"""Deconvolution as an inverse problem: operators with exact adjoints, solvers, and fields that use them."""

from unconv.inverse import fields, psf
from unconv.inverse.metrics import isnr, psnr, ssim
from unconv.inverse.noise import estimate_noise
from unconv.inverse.operators.convolution import Convolution, split
from unconv.inverse.operators.operator import Composition, Operator, Scaling, Stack, Sum, inner, norm
from unconv.inverse.operators.selection import Crop, Downsample, Mask, Selection, Window
from unconv.inverse.priors.block_matching import SimilarBlocks
from unconv.inverse.priors.penalties import L1, Box, Positive, Wavelet
from unconv.inverse.priors.sliding_dct import SlidingDct
from unconv.inverse.solvers.admm import admm_tv
from unconv.inverse.solvers.blind import BlindIterate, blind, estimate_kernel, richardson_lucy_blind
from unconv.inverse.solvers.cgls import cgls
from unconv.inverse.solvers.fista import fista
from unconv.inverse.solvers.fit import Fit
from unconv.inverse.solvers.hqs import hqs
from unconv.inverse.solvers.iterate import Iterate, last
from unconv.inverse.solvers.richardson_lucy import richardson_lucy
from unconv.inverse.solvers.tikhonov import tikhonov
from unconv.inverse.solvers.wiener import wiener

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
    "fields",
    "fista",
    "hqs",
    "inner",
    "isnr",
    "last",
    "norm",
    "psf",
    "psnr",
    "richardson_lucy",
    "richardson_lucy_blind",
    "split",
    "ssim",
    "tikhonov",
    "wiener",
]
