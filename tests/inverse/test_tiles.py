"""Tiles of large pictures join without seams and equal the result for the entire picture."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from cases.blurs import photograph
from unconv.inverse import Convolution, headway, psf
from unconv.inverse.fields.image import deblur, run
from unconv.inverse.fields.image.pace import Pace
from unconv.inverse.fields.image.table import METHODS
from unconv.inverse.fields.image.tiles import forecast, parts
from unconv.inverse.solvers.iterate import Iterate

BLUR, NOISE = psf.disk(2), 3.0
STEPS = {"similar": 6, "dct": 6, "tv": 60, "wavelet": 60, "richardson-lucy": 20}


def uneven(side=204):
    """A blurred picture, noisy; its left half is all but flat."""
    truth = photograph(side).float()
    truth[:, : side // 2] = torch.linspace(120, 130, side)[:, None]
    blur = Convolution(BLUR, truth.shape, "unknown")
    return blur.forward(truth) + NOISE * torch.randn(blur.shape_out, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape, kernel, tile", [
    ((200, 170), (5, 5), (120, 110)), ((3, 150, 301), (9, 4), (150, 140)), ((150, 40, 47), (3, 3, 5), (110, 40, 47)),
])  # fmt: skip
@pytest.mark.parametrize("method", ["tikhonov", "wavelet"])
def test_tiles_of_a_picture_are_put_together_to_that_picture(shape, kernel, tile, method):
    picture = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    channels = 3 if len(shape) > len(kernel) else 1
    cut = parts(picture, kernel, method, forecast(tile, kernel, method, channels), "unknown")
    assert len(cut) > 1 and {boundary for _, boundary in cut} == {"unknown"}
    assert_close(cut.joined(samples for samples, _ in cut), picture)


def test_what_the_kernel_could_not_see_whole_at_a_tile_s_end_has_no_part_in_the_result():
    cut = parts(torch.zeros(400), (9,), "wiener", forecast((260,), (9,), "wiener"), "unknown")
    tiles = [torch.zeros_like(samples) for samples, _ in cut]
    for tile, ((start, end),) in zip(tiles, cut.boxes, strict=True):
        tile[:4] += start > 0
        tile[-4:] += end < 400
    assert len(cut) > 1 and not cut.joined(tiles).any()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_tiles_agree_with_the_whole_and_no_line_shows_where_they_end(method):
    y = uneven()
    room = forecast((130, 130), BLUR.shape, method)
    settings = {"noise": NOISE, "method": method, "steps": STEPS.get(method)}
    whole, tiled = deblur(y, BLUR, **settings).picture, deblur(y, BLUR, **settings, memory=room).picture
    difference = tiled - whole
    assert float(difference.square().mean().sqrt()) < NOISE / 2
    boxes = parts(y, BLUR.shape, method, room, "unknown").boxes
    for axis in (0, 1):
        ends = sorted({end for box in boxes for end in box[axis]} - {0, y.shape[axis]})
        jumps = difference.diff(dim=axis).square().mean(1 - axis).sqrt()
        assert ends and max(float(jumps[end - 1]) for end in ends) < 2 * float(jumps.quantile(0.9))


@pytest.mark.parametrize("method", ["dct", "wiener"])
def test_noise_is_estimated_once_for_the_whole_picture(monkeypatch, method):
    y, seen, estimate = uneven(), [], run.deviation_of

    def counted(samples, *rest):
        seen.append(tuple(samples.shape))
        return estimate(samples, *rest)

    monkeypatch.setattr(run, "deviation_of", counted)
    found = deblur(y, BLUR, method=method, steps=1, memory=forecast((130, 130), BLUR.shape, method))
    assert "tiles" in " ".join(found.notes) and seen == [tuple(y.shape)]


# How far a run has come


def iterates(steps, within=0, converged=True):
    for step in range(1, steps + 1):
        for place in range(within):
            headway.tell(place / within)
        yield Iterate(None, torch.ones(1), torch.ones(1), step, converged and step == steps)


def told(parts, most, made, later=1.0, within=0):
    said = []
    pace = Pace(lambda *news: said.append(news), parts, most, later)
    for steps in made:
        pace.run(iterates(steps, within))
    return said, pace


def test_steps_of_all_parts_are_told_and_what_is_within_long_ones():
    said, pace = told(2, 3, [3, 3], within=4)
    assert said[0] == ("part 1 of 2", 0, 6) and said[-1][1:] == (6, 6)
    assert [done for _, done, _ in said] == [n / 4 for n in range(25)]
    assert (pace.steps, pace.converged) == (3, True)


def test_a_part_that_ended_early_tells_how_long_the_next_ones_take():
    said, pace = told(3, 100, [10, 10, 10])
    done = [done for _, done, _ in said]
    assert done == sorted(done) and done[-1] == 300 and 100 in done and 110 in done and 200 in done
    assert pace.steps == 10


def test_a_part_that_takes_longer_than_the_ones_before_never_goes_back():
    done = [done for _, done, _ in told(2, 100, [10, 80])[0]]
    assert done == sorted(done) and done[-1] == 200


def test_later_steps_that_take_longer_count_for_more():
    done = [done for _, done, _ in told(1, 4, [4], later=3.0)[0]]
    assert done == [0, 0.5, 1, 2.5, 4]


def test_what_runs_inside_a_part_of_a_step_fills_that_part():
    said = []
    with headway.heard(said.append):
        with headway.part(0, 0.5):
            headway.tell(0.5)
            with headway.part(0.5, 1):
                headway.tell(0.5)
        headway.tell(0.75)
    headway.tell(1)  # nobody listens
    assert said == [0.25, 0.375, 0.5, 0.5, 0.75]
