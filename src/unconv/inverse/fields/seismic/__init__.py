"""Deconvolution of seismic traces: sparse spikes, least-squares filters, receiver functions and wavelet estimation."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
