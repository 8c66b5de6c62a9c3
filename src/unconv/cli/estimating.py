"""A kernel estimated from the picture itself: judged, and written beside the result as a picture and as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unconv.cli.progress import remark
from unconv.files import write

if TYPE_CHECKING:
    from unconv.inverse import EstimatedKernel
    from unconv.pictures.measured import Measured

_SIDE = 256  # samples of the kernel's picture, about


def kernel_files(psf: object, target: Path) -> list[Path]:
    """Name the files of the kernel beside a result: a picture to look at, and samples for `--psf`; none if it is known."""
    if not (isinstance(psf, str) and psf.startswith("estimate:")):
        return []
    return [target.with_name(f"{target.stem}-kernel{ending}") for ending in (".png", ".npy")]


def estimated(observed: Measured, size: int, quiet: bool) -> EstimatedKernel:
    """Estimate the kernel from the mean of the colours, or of the pictures of a stack, and judge it."""
    from unconv.inverse import estimate_and_judge

    remark(f"estimating a kernel of {size} x {size}", quiet)
    return estimate_and_judge(observed.samples.mean(0) if observed.colour else observed.samples, size)


def write_kernel(found: EstimatedKernel, psf: str, target: Path) -> dict[str, Any]:
    """Write the kernel beside the result, and return what `--json` says of it."""
    from unconv.pictures.draw import picture_of
    from unconv.pictures.encode import png, save

    shown, samples = kernel_files(psf, target)
    times = max(1, _SIDE // max(found.kernel.shape))
    large = (found.kernel / found.kernel.max()).repeat_interleave(times, 0).repeat_interleave(times, 1)
    write(shown, png(picture_of(large[None].cpu())))
    save(found.kernel.cpu().numpy(), samples)
    return {
        "kernel": {
            "picture": str(shown),
            "samples": str(samples),
            "confidence": round(found.confidence, 3),
            "trusted": found.trusted,
        }
    }
