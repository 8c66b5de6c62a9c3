"""Explanations: the steps of an operation as tensors, and their drawing as text, picture, animation or page."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
