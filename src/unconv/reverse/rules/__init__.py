"""One small function per operation: how it runs backwards.

`rule` puts a function into the tables; the modules beside this one are read here so that they are
complete.
"""

from __future__ import annotations

from unconv.reverse.rules import linear, norm, pointwise, pool, resample, shape
from unconv.reverse.rules.table import KEEPERS, PREPARERS, REACHES, RULES, Rule, local, rule, takes_one_channel

__all__ = [
    "KEEPERS",
    "PREPARERS",
    "REACHES",
    "RULES",
    "Rule",
    "linear",
    "local",
    "norm",
    "pointwise",
    "pool",
    "resample",
    "rule",
    "shape",
    "takes_one_channel",
]
