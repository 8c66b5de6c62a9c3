"""The classes to which a network gives the largest scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unconv.errors import NoSuchLayer, ShapeError
from unconv.reverse.places import find
from unconv.reverse.tape.step import Tape

SOFTMAX = "softmax of the network's output"
OWN = "scores as the network gives them"


@dataclass(frozen=True)
class TopClass:
    """One class: its number in the output, its name ("" if unknown), and its score."""

    index: int
    name: str
    score: float

    @property
    def label(self) -> str:
        """The name, or the number where there is none."""
        return self.name or f"class {self.index}"


@dataclass(frozen=True)
class TopClasses:
    """The classes with the largest scores, the largest first.

    Args:
        classes: as many as were asked for, or all.
        score: what a score is, in words.
        place: the output of the network that has them.
    """

    classes: tuple[TopClass, ...]
    score: str
    place: str = "output"

    def __len__(self) -> int:
        return len(self.classes)

    def __iter__(self) -> Iterator[TopClass]:
        return iter(self.classes)

    def __getitem__(self, index: int) -> TopClass:
        return self.classes[index]

    def __repr__(self) -> str:
        return f"TopClasses({self.text()})"

    def text(self) -> str:
        """Return all classes in one line."""
        return f"{', '.join(f'{each.label} {each.score:.3g}' for each in self.classes)} ({self.score})"

    def numbers(self) -> dict[str, Any]:
        """Return all classes, ready for JSON."""
        classes = [{"index": each.index, "name": each.name or None, "score": each.score} for each in self.classes]
        return {"score": self.score, "place": self.place, "classes": classes}


def top_classes(tape: Tape, names: Sequence[str], n: int) -> TopClasses | None:
    """Return the classes with the `n` largest scores; None if the model returned no vector, or several that may be scores.

    Args:
        names: the names of the classes, () if unknown; they are used if there are as many as scores.
    """
    if n < 1:
        raise ShapeError(f"top_classes: n is {n}, but at least 1 was needed. Pass how many classes to return.")
    place = _place_of_scores(tape.vectors, len(names))
    if place is None:
        return None
    scores, words = _scores(tape.vectors[place].double().flatten().cpu(), _made_by(tape, place))
    best = scores.sort(descending=True, stable=True).indices[:n].tolist()
    labels = names if len(names) == len(scores) else [""] * len(scores)
    return TopClasses(tuple(TopClass(index, str(labels[index]), float(scores[index])) for index in best), words, place)


def _place_of_scores(vectors: Mapping[str, Tensor], classes: int) -> str | None:
    """Return the vector of scores: the only one, the one with as many entries as there are classes, or the logits."""
    fitting = [place for place, vector in vectors.items() if vector.numel() == classes]
    logits = [place for place in vectors if place.rpartition(".")[2] in ("logits", "output", "out")]
    for candidates in (list(vectors), fitting, logits):
        if len(candidates) == 1:
            return candidates[0]
    return None


def _made_by(tape: Tape, place: str) -> str:
    """Return the common name of the operation that computed an output; "" if the picture did not reach it."""
    try:
        return find(tape, place)[0].kind
    except (NoSuchLayer, ShapeError):
        return ""


def _scores(output: Tensor, made_by: str) -> tuple[Tensor, str]:
    """Return an output as scores, and what they are in words; only logits get a softmax."""
    if made_by in ("sigmoid", "hardsigmoid") or _sum_to_one(output):
        return output, OWN
    if _sum_to_one(output.exp()):
        return output.exp(), "probabilities, from the network's log-probabilities"
    return output.softmax(0), SOFTMAX


def _sum_to_one(scores: Tensor) -> bool:
    return bool((scores >= 0).all()) and abs(float(scores.sum()) - 1) < 1e-2 and bool(torch.isfinite(scores).all())
