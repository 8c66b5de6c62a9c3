"""Explanations: the steps of an operation as tensors, drawn as text, a picture, an animation or a page."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
