"""Open and save pictures at their full depth, as they were measured: the public part of `unconv.pictures`."""

from unconv.pictures.encode import encoded, save
from unconv.pictures.measured import Measured, measured

__all__ = ["Measured", "encoded", "measured", "save"]
