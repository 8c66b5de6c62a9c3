"""Image restoration: a picture without its blur, its unknown boundary and its noise taken into account."""

from unconv.inverse.fields.image.restore import Restored, deblur, super_resolve

__all__ = ["Restored", "deblur", "super_resolve"]
