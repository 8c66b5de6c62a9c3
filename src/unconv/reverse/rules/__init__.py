"""One small function per operation: how it runs backwards.

`rule` puts a function into `TABLE`; the modules beside this one are read here so that the table is
complete.
"""

from __future__ import annotations

from unconv.reverse.rules import linear, pointwise, pool, shape
from unconv.reverse.rules.table import TABLE, Row, Rule, rule

__all__ = ["TABLE", "Row", "Rule", "linear", "pointwise", "pool", "rule", "shape"]
