"""Write a site with a page for every unit of an index, and serve a live page to which pictures can be uploaded."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
