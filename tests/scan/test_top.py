"""Merging: associative, order-free, and what it keeps is what sorting everything keeps."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unconv.errors import ShapeError
from unconv.scan import Top, merge
from unconv.scan.gather import Gathers
from unconv.scan.top import NOBODY, bins, draws

KEEP, CHANNELS = 3, 2


def top_of(first, values, size=(4,)):
    """What is kept of pictures from number `first` on, whose maps are (n, C, samples..)."""
    maps = torch.tensor(values, dtype=torch.float32).reshape(-1, CHANNELS, *size)
    gathers = Gathers([((CHANNELS, *size), True)], KEEP, lowest=True, maxima=True)
    numbers = torch.arange(first, first + len(maps))
    rows, good = slice(0, len(maps)), torch.ones(len(maps), dtype=torch.bool)
    gathers.places[0].look(rows, draws(numbers), maps, None)
    gathers.commit(rows, draws(numbers), good)
    gathers.settle(good.nonzero()[:, 0], numbers)
    return Top({first: len(maps)}, [gathers.places[0].result(first)]), maps


numbers = st.integers(-3, 3).map(lambda n: n / 2)  # few values, so that many are equal
parts = st.lists(st.lists(numbers, min_size=8, max_size=8), min_size=1, max_size=6)


def tensors(top):
    (place,) = top.places
    found = [*place.strongest.parts, *place.lowest.parts, place.positive, place.histogram, *place.levels.parts, place.sum()]
    return [dict(top.parts), *found]


def same(a, b):
    return all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(tensors(a), tensors(b), strict=True)
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(parts, min_size=3, max_size=3))
def test_merging_does_not_depend_on_the_order(three):
    tops = [top_of(100 * k, values)[0] for k, values in enumerate(three)]
    results = [merge(merge(a, b), c) for a, b, c in itertools.permutations(tops)]
    results += [merge(a, merge(b, c)) for a, b, c in itertools.permutations(tops)]
    assert all(same(result, results[0]) for result in results)


@settings(max_examples=40, deadline=None)
@given(st.lists(parts, min_size=1, max_size=3))
def test_what_is_kept_is_the_start_of_everything_sorted(several):
    made = [top_of(100 * k, values) for k, values in enumerate(several)]
    merged = made[0][0]
    for top, _ in made[1:]:
        merged = merge(merged, top)
    for channel in range(CHANNELS):
        rows = [(100 * k + n, m[channel]) for k, (_, maps) in enumerate(made) for n, m in enumerate(maps)]
        ranked = sorted((-float(m.max()), number, int(m.argmax())) for number, m in rows if float(m.max()) > 0)[:KEEP]
        kept = merged.places[0].strongest
        live = kept.picture[channel] != NOBODY
        found = zip(kept.rank[channel][live], kept.picture[channel][live], kept.position[channel][live], strict=True)
        assert [(-float(r), int(p), int(at)) for r, p, at in found] == ranked
        lows = sorted((float(m.min()), number) for number, m in rows)[:KEEP]
        low = merged.places[0].lowest
        assert [(-float(r), int(p)) for r, p in zip(low.rank[channel], low.picture[channel], strict=True)][: len(lows)] == lows
        assert int(merged.places[0].positive[channel]) == sum(float(m.max()) > 0 for _, m in rows)
        assert float(merged.places[0].sum()[channel]) == pytest.approx(sum(float(m.max()) for _, m in rows))


def test_each_level_holds_the_picture_with_the_smallest_number_drawn():
    values = torch.rand(40, CHANNELS, 4, generator=torch.Generator().manual_seed(0)).pow(4) * 8
    top, maps = top_of(7, values.tolist())
    levels, drawn = top.places[0].levels, draws(torch.arange(7, 47))
    for channel in range(CHANNELS):
        level = torch.from_numpy(bins(maps[:, channel].amax(1).numpy()))
        for octave in level.unique().tolist():
            members = (level == octave).nonzero()[:, 0]
            winner = members[drawn[members].argmin()]
            assert int(levels.picture[channel, octave]) == 7 + int(winner)
            assert int(levels.position[channel, octave]) == int(maps[winner, channel].argmax())


def test_pictures_cannot_be_counted_twice():
    top, _ = top_of(0, [[1.0] * 8])
    with pytest.raises(ShapeError, match="both hold the part from picture 0 on"):
        merge(top, top)


def test_levels_are_octaves():
    values = torch.tensor([-1.0, 0.0, 1.0, 1.99, 2.0, 0.5, 2.0**40, 2.0**-60])
    assert bins(values.numpy()).tolist() == [0, 0, 32, 32, 33, 31, 63, 1]


def test_no_two_pictures_draw_one_number():
    assert len(set(draws(torch.arange(5000)).tolist())) == 5000
