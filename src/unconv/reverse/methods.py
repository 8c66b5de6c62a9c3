"""Methods of going back: tables from operation to rule that differ in one row."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping

import torch
from torch._ops import OpOverload

from unconv.errors import UnconvError, nearest
from unconv.reverse.rules import RULES, Rule
from unconv.reverse.rules.pointwise import rectify, rectify_passed

Method = Mapping[OpOverload, Rule]

_RELU = torch.ops.aten.relu.default

GRADIENT: Method = RULES
DECONVNET: Method = ChainMap({_RELU: rectify}, RULES)
GUIDED: Method = ChainMap({_RELU: rectify_passed}, RULES)

METHODS: dict[str, Method] = {"deconvnet": DECONVNET, "gradient": GRADIENT, "guided": GUIDED}


def method_named(name: str) -> Method:
    """The table of a method's rules."""
    if name not in METHODS:
        raise UnconvError(f"method: {name!r} is not a method; there are {nearest(name, METHODS)}.")
    return METHODS[name]
