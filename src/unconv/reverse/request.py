"""What to project: the arguments that go together from a user's call to the walk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unconv.reverse.method_table import Method
from unconv.reverse.methods import Rules
from unconv.reverse.places import Place
from unconv.reverse.seed import Channels, Unit


@dataclass(frozen=True)
class Request:
    """What to project from a picture, and how. See `Network.project` for the other arguments.

    Args:
        places: () for every rectified map.
        trust: also measure how far to trust the projections, for pages.
    """

    places: Sequence[str | Place] = ()
    channels: Channels = "top:9"
    unit: Unit = "strongest"
    method: Method | Rules = "deconvnet"
    dtype: str | torch.dtype | None = None
    trust: bool = False
    trace: bool = False
    memory: int | None = None

    @property
    def channel_words(self) -> str:
        """The channels that are shown, in words."""
        if isinstance(self.channels, str):
            most = self.channels.removeprefix("top:")
            named = {"all": "all channels", "together": "all channels together"}
            return named.get(self.channels, f"the {most} most active channels")
        return "the channels asked for"

    @property
    def unit_words(self) -> str:
        """The unit of each channel that is shown, in words."""
        if isinstance(self.channels, str) and (self.channels, self.unit) == ("together", "strongest"):
            return "the whole maps"
        if isinstance(self.unit, str):
            return {"strongest": "the strongest of each channel", "map": "the whole map"}[self.unit]
        return f"the one at {self.unit}" if isinstance(self.unit, tuple) else "a region"
