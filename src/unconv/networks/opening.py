"""Opening a network: by name, through the table of openers, or live.

Weights are read as data: no code in a file ever runs, except in a `FILE.py:factory` that the user names.
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
            module or Keras model, which is used as it is.
        weights: "DEFAULT" or another of the library's names for trained weights, which downloads them; or a file:
            .safetensors, .pth or .pt, and for Keras .keras or .weights.h5. None: random weights for a library's
            architecture, otherwise the model's own.

    Raises:
        UnconvError: there is no such model, or the library that opens it is not installed.
        WeightsError: the weights are missing, damaged, or made for another architecture.
    """
    name = weights.name if isinstance(weights, WeightsEnum) else None if weights is None else str(weights)
    if is_live(spec):
        return open_live(spec, name)
    if not isinstance(spec, str | Path):
        refuse_other("load", spec)
    opener, argument = find_opener(str(spec))
    return opener.open(argument, name)
