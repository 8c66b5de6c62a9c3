"""The progress that a restoration reports."""

from __future__ import annotations

import torch

from unconv.inverse.fields.image.pace import Pace
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.solvers.iterate import Iterate


def iterates(count):
    operator, x = Convolution(torch.ones(1), (4,)), torch.zeros(4)
    for step in range(1, count + 1):
        yield Iterate(operator, x, x, step, step == count)


def test_a_part_done_again_is_told_as_it_goes():
    told = []
    pace = Pace(lambda *news: told.append(news), 1, 4)
    for _ in range(2):
        pace.begin(1)
        pace.run(iterates(4))
    first, second = ([done / total for what, done, total in told if what == part] for part in ("part 1 of 1", "part 2 of 2"))
    assert first == [0, 0.25, 0.5, 0.75, 1]
    assert second == [0.5, 0.625, 0.75, 0.875, 1]
