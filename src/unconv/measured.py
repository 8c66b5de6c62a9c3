"""Pictures as measured, at their full depth: what `unconv.pictures.measured` has for users."""

from unconv.pictures.measured import Measured, encoded, measured, save

__all__ = ["Measured", "encoded", "measured", "save"]
