"""The denoisers of pictures: plain-loop oracles, exact adjoints, and the properties that solvers rely on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cases.operators import random
from oracles import inverse as oracle
from unconv.box import demo_pictures
from unconv.inverse import inner
from unconv.inverse.metrics import psnr
from unconv.inverse.priors import block_matching as similar
from unconv.inverse.priors import matching
from unconv.inverse.priors.block_matching import SimilarBlocks, boxes, collaborative_filter, haar, lines, synthesis
from unconv.inverse.priors.matching import Matches, match_blocks
from unconv.inverse.priors.sliding_dct import (
    SIDE,
    SlidingDct,
    Workspace,
    add_blocks,
    add_boxes,
    blocks,
    cosines,
    empirical_wiener,
    extend,
    filter_blocks,
    fold,
    hard_threshold,
    lattice,
)
from unconv.pictures.measured import measured

CPU = torch.device("cpu")
SIZES = [(20, 27), (9, 8), (5, 3), (1, 8)]
DENOISERS = {
    "frame": SlidingDct,
    "similar": SimilarBlocks,
    "similar, far from the end": lambda: SimilarBlocks(thorough_below=0),
}


def photograph(which=0, side=96):
    samples = measured(demo_pictures()[which]).samples.double().mean(0)
    return samples[40 : 40 + side, 40 : 40 + side].contiguous()


def noisy(which=0, sigma=20.0, side=96):
    return photograph(which, side) + sigma * random(side, side, seed=which)


# Laws of both


@pytest.mark.slow
@pytest.mark.parametrize("name", DENOISERS)
def test_where_there_is_no_noise_nothing_is_taken_away(name):
    """Also: no sample is without a block, at any size and call; rows that are all different leave no block alike."""
    for side in (60, 65, 97):
        rows = 100 + 50 * random(side, 1).expand(side, side + 3).contiguous()
        for picture in (rows, rows.T.contiguous()):
            denoiser = DENOISERS[name]()
            for call in range(4):
                made = denoiser(picture, 1e-9 * (1 + call))  # rising: blocks are match_blocks anew
                assert_close(made, picture, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", DENOISERS)
def test_a_brighter_picture_with_more_noise_is_brighter_and_nothing_else(name):
    y = noisy(side=64)
    assert_close(DENOISERS[name]()(8 * y, 160.0), 8 * DENOISERS[name]()(y, 20.0), atol=1e-7, rtol=1e-9)


@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("moved", [(48, 48), (48, 0)])
def test_a_picture_that_goes_round_is_denoised_going_round(name, moved):
    y = noisy(side=96)  # a multiple of each lattice's step, as are the moves
    assert_close(DENOISERS[name]()(y.roll(moved, (0, 1)), 20.0), DENOISERS[name]()(y, 20.0).roll(moved, (0, 1)))


@pytest.mark.parametrize("name", DENOISERS)
def test_a_constant_picture_stays_as_it_is(name):
    assert_close(DENOISERS[name]()(torch.full((64, 64), 7.0, dtype=torch.double), 3.0), torch.full((64, 64), 7.0).double())


@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("which", range(4))
def test_noise_is_taken_away_from_photographs(name, which):
    truth, y = photograph(which), noisy(which)
    gained = psnr(truth, DENOISERS[name]()(y.float(), 20.0).double(), 255) - psnr(truth, y, 255)
    assert gained > 4


@pytest.mark.parametrize("name", DENOISERS)
def test_what_is_given_is_not_written_to(name):
    y = noisy(side=64)
    kept = y.clone()
    DENOISERS[name]()(y, 20.0)
    assert torch.equal(y, kept)


# The frame


@pytest.mark.parametrize("step", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("size", SIZES)
def test_analysis_and_synthesis_are_the_identity_on_every_lattice(step, size):
    x = random(*size)
    for call in range(step * step):
        assert_close(filter_blocks(x, None, hard_threshold(0.0), step, lattice(call, step), Workspace()), x)


@pytest.mark.parametrize("step", [1, 3, 4])
@pytest.mark.parametrize("at", [(0, 0), (2, 1)])
def test_the_frame_is_the_plain_loop(step, at):
    def kept(c, _told):
        few = np.abs(c) >= 1.0
        few[0] = True
        return c * few, 1 / few.sum()

    def gained(c, told):
        gains = told**2 / (told**2 + 0.49)
        gains[0] = 1
        return c * gains, 1 / (gains**2).sum()

    y, pilot = random(17, 22), random(17, 22, seed=1)
    found = filter_blocks(y, None, hard_threshold(1.0), step, at, Workspace())
    assert_close(found, torch.from_numpy(oracle.filtered_blocks(y.numpy(), None, kept, step, at)))
    found = filter_blocks(y, pilot, empirical_wiener(0.49), step, at, Workspace())
    assert_close(found, torch.from_numpy(oracle.filtered_blocks(y.numpy(), pilot.numpy(), gained, step, at)))


def test_bands_of_the_frame_do_not_show(monkeypatch):
    y = noisy(side=64)
    whole = SlidingDct()(y, 20.0)
    monkeypatch.setattr("unconv.inverse.priors.sliding_dct._BAND", 100)
    assert_close(SlidingDct()(y, 20.0), whole)


def test_every_lattice_comes_once():
    for step in (1, 2, 3, 4, 8):
        assert len({lattice(call, step) for call in range(step * step)}) == step * step


def test_the_cosines_are_orthonormal_and_those_of_the_formula():
    basis = cosines(torch.double, CPU)
    assert_close(basis @ basis.T, torch.eye(64, dtype=torch.double))
    assert_close(basis, torch.from_numpy(oracle.block_basis().reshape(64, 64)))


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_extended_and_gathered_are_adjoint(step, size):
    x = random(*size)
    y = random(*extend(x, step, (2, 1)).shape, seed=1)
    assert_close(inner(extend(x, step, (2, 1)), y), inner(x, fold(y, step, (2, 1), size)))


@pytest.mark.parametrize("step", [1, 2, 5])
def test_blocks_and_add_blocks_are_adjoint(step):
    first, count, columns = 1, 3, 4
    source = random((first + count - 1) * step + SIDE, (columns - 1) * step + SIDE)
    y = random(SIDE, SIDE, count, columns, seed=1)
    back = torch.zeros_like(source)
    add_blocks(back, y, first, step)
    cut = blocks(source, first, count, columns, step, source.new_empty(SIDE**2, count * columns))
    assert_close(inner(cut.view_as(y), y), inner(source, back))


def test_add_boxes_is_add_blocks_of_constant_blocks():
    weights, boxed, plain = random(3, 4), torch.zeros(14, 17).double(), torch.zeros(14, 17).double()
    add_boxes(boxed, weights, 0, 3)
    add_blocks(plain, weights.expand(SIDE, SIDE, 3, 4), 0, 3)
    assert_close(boxed, plain)


def test_the_lattice_moves_from_call_to_call_and_comes_round():
    y, denoiser = noisy(side=32), SlidingDct(2)
    made = [denoiser(y, 20.0) for _ in range(5)]
    assert_close(made[4], made[0])
    assert (made[1] - made[0]).abs().max() > 0.1


# Groups of similar blocks


@pytest.mark.parametrize("n", [1, 2, 8, 16])
def test_haar_is_orthonormal_and_begins_with_the_mean(n):
    turn = haar(n, torch.double, CPU)
    assert_close(turn @ turn.T, torch.eye(n, dtype=torch.double))
    assert_close(turn[0], torch.full((n,), n**-0.5, dtype=torch.double))


@pytest.mark.parametrize("window", [4, 5])
@pytest.mark.parametrize("step, at", [(4, (0, 0)), (4, (3, 1)), (6, (1, 0)), (8, (5, 6))])
def test_matches_are_those_of_all_distances(monkeypatch, step, at, window):
    monkeypatch.setattr(matching, "_REFERENCES", 24)
    picture, members = random(41, 45), 8
    found = 0
    for band in match_blocks(picture, members, window, step, at):
        places = torch.cat(band.groups, 1)
        for number in range(0, places.shape[1], 3):
            row, column = divmod(number, band.columns)
            top, left = band.top + window + row * step, at[1] + column * step
            wanted = oracle.distances(picture.numpy(), top, left, window, 2)
            order = np.argsort(wanted, axis=None)[:members]
            rows, columns = band.top + places[:, number] // 45, places[:, number] % 45
            assert (rows.numpy() == top - window + order // (2 * window + 1)).all()
            assert (columns.numpy() == (left - window + order % (2 * window + 1)) % 45).all()
            assert (int(rows[0]), int(columns[0])) == (top, left % 45)
            found += 1
    assert found > 8


def test_of_blocks_all_alike_the_reference_itself_comes_first():
    (band,) = match_blocks(torch.ones(40, 40, dtype=torch.double), 4, 6, 4, (0, 0))
    rows, columns = band.groups[0][0] // 40 + band.top, band.groups[0][0] % 40
    number = torch.arange(len(rows))
    assert torch.equal(rows, number // band.columns * 4) and torch.equal(columns, number % band.columns * 4)


@pytest.mark.parametrize("references", [16, 100])
def test_bands_of_similar_blocks_do_not_show(monkeypatch, references):
    y = noisy(side=64)
    monkeypatch.setattr(matching, "_REFERENCES", 10**6)
    whole = SimilarBlocks()(y, 20.0)
    monkeypatch.setattr(matching, "_REFERENCES", references)
    monkeypatch.setattr(matching, "_GROUPS", 7)
    assert_close(SimilarBlocks()(y, 20.0), whole, atol=1e-6, rtol=0)


def test_groups_of_one_are_the_frame_on_the_references():
    y, pilot, step, at = 5 + random(32, 40), 5 + random(32, 40, seed=1), 4, (3, 1)
    matches = match_blocks(y, 1, 6, step, at)
    kept = collaborative_filter(y, None, matches, similar.hard_threshold(1.0), Workspace())
    assert_close(kept, filter_blocks(y, None, hard_threshold(1.0), step, at, Workspace()))
    with_pilot = collaborative_filter(y, pilot, matches, similar.empirical_wiener(0.25), Workspace())

    def gained(c, told):
        gains = told**2 / (told**2 + 0.25)
        gains[0] = 1
        return c * gains, 1 / (gains**2).sum()

    assert_close(with_pilot, torch.from_numpy(oracle.filtered_blocks(y.numpy(), pilot.numpy(), gained, step, at)))


def test_a_filter_of_groups_is_the_plain_loop():
    """Groups of four in a picture whose bands and windows go round its edges."""
    y, pilot = 5 + random(33, 46), 5 + random(33, 46, seed=1)
    bands = match_blocks(pilot, 4, 6, 4, (2, 1))
    found = collaborative_filter(y, pilot, bands, similar.empirical_wiener(0.25), Workspace())
    basis, turn = oracle.block_basis().reshape(64, 64), haar(4, torch.double, CPU).numpy()
    total, weight = np.zeros((33, 46)), np.zeros((33, 46))
    for band in bands:
        for group in torch.cat(band.groups, 1).T.numpy():
            rows = [(band.top + place // 46 + np.arange(SIDE)) % 33 for place in group]
            columns = [(place % 46 + np.arange(SIDE)) % 46 for place in group]
            at = [np.ix_(*each) for each in zip(rows, columns, strict=True)]
            seen, told = (turn @ np.stack([x.numpy()[n].ravel() for n in at]) @ basis.T for x in (y, pilot))
            gains = told**2 / (told**2 + 0.25)
            gains[0, 0] = 1
            share = 1 / (gains**2).sum()
            for n, block in zip(at, turn.T @ (gains * seen) @ basis, strict=True):
                total[n] += share * block.reshape(SIDE, SIDE)
                weight[n] += share
    assert_close(found, torch.from_numpy(total / weight))


def test_the_cosines_of_lines_and_their_synthesis_are_adjoint():
    x = random(33, 36)
    band = Matches(-5, 33, 36, 1, ())
    y = random(33, 36, SIDE, seed=1)
    assert_close(inner(lines(x, band), y), inner(x.roll(5, 0), synthesis(y)))


def test_boxes_are_blocks_of_ones():
    weights, total = random(5, 9), np.zeros((12, 9))
    for row, column in np.ndindex(5, 9):
        total[row : row + 8, np.arange(column, column + 8) % 9] += float(weights[row, column])
    assert_close(boxes(weights), torch.from_numpy(total))


@pytest.mark.slow
def test_another_picture_is_not_denoised_with_the_groups_of_the_one_before():
    used, truth, y = SimilarBlocks(), photograph(2), noisy(2)
    for _ in range(3):
        used(noisy(0, 25.0), 20.0)
    again = [used(y, 30.0), SimilarBlocks()(y, 30.0)]
    first, second = (psnr(truth, made, 255) for made in again)
    assert abs(first - second) < 0.2


def test_a_shape_that_changes_begins_anew():
    used = SimilarBlocks()
    used(noisy(0), 20.0)
    assert psnr(photograph(1, 64), used(noisy(1, side=64), 20.0), 255) > psnr(photograph(1, 64), noisy(1, side=64), 255) + 4


def test_a_picture_too_small_to_look_around_in_gets_the_frame():
    y = noisy(side=43)
    assert torch.equal(SimilarBlocks()(y, 20.0), SlidingDct(3, SimilarBlocks().threshold)(y, 20.0))


def test_channels_are_denoised_with_the_groups_of_the_first():
    first, second = noisy(0, side=64), noisy(1, side=64)
    alone, both = SimilarBlocks()(first, 20.0), SimilarBlocks()(torch.stack([first, second]), 20.0)
    assert_close(both[0], alone)
    truth = photograph(1, 64)
    assert psnr(truth, both[1], 255) > psnr(truth, second, 255) + 4


def test_above_a_deviation_other_quarters_of_the_groups_pass_the_filter_at_each_call():
    y = noisy(side=64)
    every, few = SimilarBlocks(), SimilarBlocks(all_below=19.5)
    first, second, third = ((few(y, deviation), every(y, deviation)) for deviation in (20.0, 20.0, 19.0))
    assert (first[0] - first[1]).abs().max() > 0.1 and (first[0] - second[0]).abs().max() > 0.1
    assert psnr(photograph(side=64), first[0], 255) > psnr(photograph(side=64), first[1], 255) - 0.5
    assert_close(third[0], third[1])
