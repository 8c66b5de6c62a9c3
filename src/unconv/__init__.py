"""Running convolution backwards: transposed convolution, deconvnets, deconvolution.

The public names stand in `__init__.pyi`, for type checkers and for `lazy_loader`, which imports each when it is first
used: `unconv --help` need not wait for torch, nor `unconv.ops` for what draws pictures.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
