"""Running convolution backwards: transposed convolution, deconvnets, deconvolution."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unconv.errors import (
        ModelError,
        NonFinite,
        NoRule,
        NoSuchLayer,
        NoSuchUnit,
        PictureError,
        ShapeError,
        UnconvError,
        WeightsError,
    )
    from unconv.images import Preprocess
    from unconv.reverse.network import Network, Recording, load
    from unconv.reverse.places import Place
    from unconv.reverse.reconstruction import Reconstruction, Reconstructions

__version__ = "0.1.0"

__all__ = [
    "ModelError",
    "Network",
    "NoRule",
    "NoSuchLayer",
    "NoSuchUnit",
    "NonFinite",
    "PictureError",
    "Place",
    "Preprocess",
    "Reconstruction",
    "Reconstructions",
    "Recording",
    "ShapeError",
    "UnconvError",
    "WeightsError",
    "load",
]

_HOMES = {
    "unconv.images": ["Preprocess"],
    "unconv.reverse.network": ["Network", "Recording", "load"],
    "unconv.reverse.places": ["Place"],
    "unconv.reverse.reconstruction": ["Reconstruction", "Reconstructions"],
}


def __getattr__(name: str) -> Any:
    """A public name, fetched when first used, so that `unconv --help` need not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module 'unconv' has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "unconv.errors")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__
