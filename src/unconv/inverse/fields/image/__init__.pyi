from .restore import Restored, deblur, super_resolve

__all__ = ["Restored", "deblur", "super_resolve"]
