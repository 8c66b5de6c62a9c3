"""What to show of a picture, and how that is said in words on its pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unconv.reverse.methods import Rules
from unconv.reverse.seed import Channels, Unit


@dataclass(frozen=True)
class Request:
    """What to show of a picture: see `Network.project`."""

    places: Sequence[str] = ()
    channels: Channels = "top:9"
    unit: Unit = "strongest"
    method: str | Rules = "deconvnet"
    dtype: str | None = None
    trust: bool = False

    @property
    def channel_words(self) -> str:
        """Which channels are shown."""
        if isinstance(self.channels, str):
            most = self.channels.removeprefix("top:")
            named = {"all": "all channels", "together": "all channels together"}
            return named.get(self.channels, f"the {most} most active channels")
        return "the channels asked for"

    @property
    def unit_words(self) -> str:
        """Which unit of each channel is shown."""
        if isinstance(self.channels, str) and (self.channels, self.unit) == ("together", "strongest"):
            return "the whole maps"
        if isinstance(self.unit, str):
            return {"strongest": "the strongest of each channel", "map": "the whole map"}[self.unit]
        return f"the one at {self.unit}" if isinstance(self.unit, tuple) else "a region"
