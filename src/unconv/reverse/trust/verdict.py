"""Measure how far to trust a projection: how much of it belongs to the unit, and whether hiding it lowers the activation.

Three questions. Do other channels at the same place, and a random seed there, give the same picture? Does
the picture change when the weights are shuffled, layer by layer from the unit down? And where a grey square
hides what the projection shows, does the activation drop?

Source:
    Adebayo et al., "Sanity Checks for Saliency Maps" (2018), sec. 3; Zeiler & Fergus (2014), fig. 7;
    Nie et al., "A Theoretical Explanation for Perplexing Behaviors" (2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from unconv.errors import counted
from unconv.reverse.model import Recording
from unconv.reverse.reconstruction import Reconstructions
from unconv.reverse.seed import Name
from unconv.reverse.trust.occlusion import Occlusion, occlusions
from unconv.reverse.trust.other_units import other_units
from unconv.reverse.trust.sending import refuse_regions
from unconv.reverse.trust.shuffled_weights import under_shuffled_weights
from unconv.reverse.walking.stream import Units


@dataclass(frozen=True)
class Trust:
    """How far to trust the projection of one unit.

    Args:
        unit: (channel, y, x).
        others: the mean cosine of the angle between this projection and those of other channels at the same
            place; 1: the same picture. NaN if there are no others.
        compared: the number of other channels.
        seeded: the same cosine with the projection of a random seed over all channels there.
        shuffled: from the top down, each (layer, cosine) with the weights of all layers from the unit's own
            down to it shuffled.
        occlusion: what hiding parts of the receptive field does; None if the unit is not active.
    """

    unit: Name
    others: float
    compared: int
    seeded: float
    shuffled: tuple[tuple[str, float], ...]
    occlusion: Occlusion | None

    def words(self) -> list[str]:
        """Return the result in sentences."""
        return list(_sentences(self))

    def numbers(self) -> dict[str, Any]:
        """Return the result, ready for JSON."""
        occlusion = self.occlusion
        return {
            "other_channels": self.others if self.compared else None,
            "compared": self.compared,
            "random_seed": self.seeded,
            "shuffled_weights": [{"down_to": layer, "similarity": cosine} for layer, cosine in self.shuffled],
            "occlusion_agreement": occlusion.agreement if occlusion else None,
            "squares": len(occlusion.drops) if occlusion else 0,
            "words": self.words(),
        }


def _sentences(result: Trust) -> Iterator[str]:
    if result.compared:
        yield (
            f"Cosine similarity with projections of {counted(result.compared, 'other channel')} at the same place: "
            f"{result.others:.2f} on average; with that of a random seed: {result.seeded:.2f} (1 is the same picture). "
            + _graded(
                result.others,
                "It depends little on the unit chosen: do not read it as what this channel looks for.",
                "Part of it is what any unit here would show.",
                "It is the unit's own.",
            )
        )
    if result.shuffled:  # the unit's own layer and all layers are enough: the stages between change little
        (top, first), (bottom, last) = result.shuffled[0], result.shuffled[-1]
        further = f", with those of all layers down to {bottom} by {last:.2f}" if bottom != top else ""
        yield f"With the weights of {top} shuffled, the picture is like this one by {first:.2f}{further}. " + _graded(
            first,
            "What that layer learned hardly shows in it.",
            "What that layer learned is a part of it.",
            "What that layer learned makes it.",
        )
    if result.occlusion is None:
        yield "The unit is not active, so that hiding parts of the picture tells nothing."
    elif result.occlusion.agreement is None:
        yield "Hiding parts of the picture changes the activation nowhere, or everywhere alike."
    else:
        agreement, count = result.occlusion.agreement, len(result.occlusion.drops)
        yield (
            f"A grey square at {counted(count, 'position')}: where it hides what the projection shows, the activation "
            + _graded(agreement, "drops", "tends to drop", "does not reliably drop")
            + f" (rank correlation {agreement:.2f})."
        )


def _graded(value: float, high: str, middle: str, low: str) -> str:
    return high if value > 0.6 else middle if value > 0.3 else low


def trust(recording: Recording, units: Units, projections: Reconstructions) -> Iterator[Trust]:
    """Yield, for each projection of a place, how far to trust it.

    Args:
        units: the units that were projected.
        projections: their projections.
    """
    refuse_regions(units)
    if not len(projections):
        return
    seeded = [other_units(units, index, projections) for index in range(len(projections))]
    stages = list(under_shuffled_weights(recording, units, projections))
    hidden = occlusions(recording, units, projections)
    for index, ((others, compared, random), occlusion) in enumerate(zip(seeded, hidden, strict=True)):
        likeness = tuple((layer, cosines[index]) for layer, cosines in stages)
        yield Trust(units.seeds.units[index], others, compared, random, likeness, occlusion)
