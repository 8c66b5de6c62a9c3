from .restore import deblur, super_resolve
from .restored import Restored

__all__ = ["Restored", "deblur", "super_resolve"]
