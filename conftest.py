"""What the examples in docstrings take for granted: torch, and the names of `unconv.ops`."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(autouse=True, scope="session")
def names(doctest_namespace: dict[str, Any]) -> None:
    import torch

    from unconv import ops

    doctest_namespace.update({"torch": torch}, **{name: getattr(ops, name) for name in ops.__all__})
