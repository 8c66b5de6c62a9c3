"""Estimate a blur kernel from the picture itself, and write it beside the result, as a picture and as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unconv.cli.progress import remark
from unconv.files import write

if TYPE_CHECKING:
    from unconv.inverse import EstimatedKernel
    from unconv.pictures.measured import Measured

_SIDE = 256  # approximate side of the kernel's picture, in samples


def kernel_files(psf: object, target: Path) -> list[Path]:
    """Return the files for the kernel beside a result: a picture to look at, and samples for `--psf`; none if it is known."""
    if not (isinstance(psf, str) and psf.startswith("estimate:")):
        return []
    return [target.with_name(f"{target.stem}-kernel{ending}") for ending in (".png", ".npy")]


def estimated(observed: Measured, size: int, quiet: bool) -> EstimatedKernel:
    """Return the kernel estimated from the mean of the colours, or from a grey picture, with its confidence."""
    from unconv.inverse import estimate_and_judge

    remark(f"estimating a kernel of {size} x {size}", quiet)
    return estimate_and_judge(observed.samples.mean(0) if observed.colour else observed.samples, size)


def write_kernel(estimate: EstimatedKernel, psf: str, target: Path) -> dict[str, Any]:
    """Write the kernel beside the result, and return its record for `--json`."""
    from unconv.pictures.draw import picture_of
    from unconv.pictures.encode import png, save

    picture, samples = kernel_files(psf, target)
    factor = max(1, _SIDE // max(estimate.kernel.shape))
    large = (estimate.kernel / estimate.kernel.max()).repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    write(picture, png(picture_of(large[None].cpu())))
    save(estimate.kernel.cpu().numpy(), samples)
    return {
        "kernel": {
            "picture": str(picture),
            "samples": str(samples),
            "confidence": round(estimate.confidence, 3),
            "trusted": estimate.trusted,
        }
    }
