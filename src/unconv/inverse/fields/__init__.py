"""Where signals were measured: thin front-ends, one a field."""

from unconv.inverse.fields import image

__all__ = ["image"]
