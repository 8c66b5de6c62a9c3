"""One small function per operation that runs it backwards.

`rule` puts a function into the tables. The modules beside this one are imported here, so that the tables are complete.
"""

from __future__ import annotations

from unconv.reverse.rules import (
    custom,
    gate,
    linear,
    norm,
    overwrite,
    pieces,
    pointwise,
    pool,
    power_pool,
    resample,
    shape,
    spectral,
)
from unconv.reverse.rules.table import KEEPERS, REACHES, ROLES, RULES, Rule, local, rule, takes_one_channel

__all__ = [
    "KEEPERS",
    "REACHES",
    "ROLES",
    "RULES",
    "Rule",
    "custom",
    "gate",
    "linear",
    "local",
    "norm",
    "overwrite",
    "pieces",
    "pointwise",
    "pool",
    "power_pool",
    "resample",
    "rule",
    "shape",
    "spectral",
    "takes_one_channel",
]
