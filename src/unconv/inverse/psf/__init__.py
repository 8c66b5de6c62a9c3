"""Point spread functions: computed from a formula, or opened from a file and checked."""

from unconv.inverse.psf.files import checked, open_psf
from unconv.inverse.psf.makers import airy, airy_radius, disk, gaussian, gibson_lanni, motion, uniform

__all__ = ["airy", "airy_radius", "checked", "disk", "gaussian", "gibson_lanni", "motion", "open_psf", "uniform"]
