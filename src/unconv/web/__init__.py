"""A site of an index: a page for every unit; and a live page that takes pictures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
