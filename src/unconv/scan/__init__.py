"""Find what every unit of a network responds to over a data set: `unconv.scan(network, pictures, folder)`.

The package has the name of its function, and can be called like it: importing any file of a package sets the package as
an attribute of its parent, which would hide the function.
"""

import sys
from types import ModuleType
from typing import Any

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from unconv.scan.data_set import scan

        return scan(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
