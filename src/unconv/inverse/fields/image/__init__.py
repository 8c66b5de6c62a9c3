"""Image restoration: remove a known blur from a picture with an unknown boundary and with noise."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
