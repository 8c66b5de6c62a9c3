from . import fields, psf
from .metrics import isnr, psnr, ssim
from .noise import estimate_noise
from .operators.convolution import Convolution
from .operators.operator import Composition, Operator, Scaling, Stack, Sum, inner, norm
from .operators.selection import Crop, Downsample, Mask, Selection, Window
from .operators.split import split
from .priors.block_matching import SimilarBlocks
from .priors.penalties import L1, Box, Positive, Wavelet
from .priors.sliding_dct import SlidingDct
from .solvers.admm import admm_tv
from .solvers.blind.alternating import blind, estimate_kernel
from .solvers.blind.iterate import BlindIterate
from .solvers.blind.richardson_lucy import richardson_lucy_blind
from .solvers.cgls import cgls
from .solvers.fista import fista
from .solvers.fit import Fit
from .solvers.hqs import hqs
from .solvers.iterate import Iterate, last
from .solvers.richardson_lucy import richardson_lucy
from .solvers.tikhonov import tikhonov
from .solvers.wiener import wiener

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
