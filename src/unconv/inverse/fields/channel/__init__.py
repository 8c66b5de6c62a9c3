"""Equalise digital links: recover symbols sent through a dispersive channel, and compute the limits of equalisers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
