"""Opening a network: by a name, which a row of the table of openers takes, or live.

Weights load as safetensors, or with torch's `weights_only=True`: no code in a file ever runs, except that of a
`FILE.py:factory` that the user names.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn
from torchvision.models import WeightsEnum

from unconv.networks.live import is_live, open_live, refuse_other
from unconv.networks.opened import Opened
from unconv.networks.openers import find_opener, lists_openers


@lists_openers
def open_network(spec: str | Path | nn.Module, weights: str | Path | WeightsEnum | None = None) -> Opened:
    """Open the model that `spec` names, in evaluation mode.

    Args:
        spec: a name in one of the forms of `unconv.networks.openers.OPENERS`, such as "torchvision:vgg16"; or a live
            module or Keras model, which is taken as it is.
        weights: "DEFAULT", or another name that the library has for its trained weights, which downloads; or a
            file .safetensors, .pth or .pt, for Keras .keras or .weights.h5. None: random for a library's
            architecture, the model's own otherwise.

    Raises:
        UnconvError: there is no such model, or the library that opens it is not installed.
        WeightsError: the weights cannot be had, are damaged, or fit another architecture.
    """
    name = weights.name if isinstance(weights, WeightsEnum) else None if weights is None else str(weights)
    if is_live(spec):
        return open_live(spec, name)
    if not isinstance(spec, str | Path):
        refuse_other("load", spec)
    opener, argument = find_opener(str(spec))
    return opener.open(argument, name)
