"""Ultrasonic A-scans: the number of echoes, their delays and amplitudes, and the uncertainties of these."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
