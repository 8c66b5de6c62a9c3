"""Deconvolution as an inverse problem: operators with exact adjoints, solvers, and fields that use them.

The public names are in `__init__.pyi`. `lazy_loader` imports each when it is first used, so that the table of image methods can
be read without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
