"""Seismic traces: spikes behind a wavelet, filters that shorten it, receiver functions, and wavelets from the data."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
