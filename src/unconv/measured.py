"""Pictures as measured, at their full depth: what users need of `unconv.pictures`."""

from unconv.pictures.encode import encoded, save
from unconv.pictures.measured import Measured, measured

__all__ = ["Measured", "encoded", "measured", "save"]
