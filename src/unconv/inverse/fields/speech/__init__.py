"""Speech in rooms: dereverberation, inverses of known rooms, cepstra, and the features that recognisers use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
