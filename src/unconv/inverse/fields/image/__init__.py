"""Image restoration: take a blur out of a picture, allowing for its unknown boundary and its noise."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
