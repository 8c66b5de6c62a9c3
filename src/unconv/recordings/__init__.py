"""Files of recordings: sound, room impulse responses, and complex baseband samples of radio."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
