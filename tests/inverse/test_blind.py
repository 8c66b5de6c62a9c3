"""Blind deconvolution: kernels that come back, and pictures that improve."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch.testing import assert_close

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse import Convolution, blind, estimate_and_judge, estimate_kernel, inner, last, richardson_lucy_blind
from unconv.inverse.operators.by_kernel import ByKernel
from unconv.inverse.solvers.blind.judged import _confidence, _jpeg_error
from unconv.inverse.solvers.blind.picture import hard_threshold, noise_level, soft_threshold, wrap_around


def drawn(height: int = 140, width: int = 150) -> torch.Tensor:
    """Shapes and letters with sharp edges, between 0 and 1."""
    sheet = Image.new("L", (width, height), 60)
    pen = ImageDraw.Draw(sheet)
    generator = torch.Generator().manual_seed(0)
    for _ in range(26):
        y, x, h, w, grey = (torch.rand(5, generator=generator) * torch.tensor([height, width, 40, 40, 255])).int().tolist()
        (pen.ellipse if grey % 2 else pen.rectangle)((x, y, x + w + 4, y + h + 4), fill=grey)
    for row in range(8, height, 24):
        pen.text((6 + row % 17, row), "deconvolution", fill=(row * 37) % 255)
    return torch.tensor(list(sheet.tobytes()), dtype=torch.float32).reshape(height, width) / 255


def motion() -> torch.Tensor:
    """(11, 11): a bent path."""
    kernel = torch.zeros(11, 11)
    for i, (y, x) in enumerate([(2, 2), (3, 3), (4, 4), (5, 5), (5, 6), (6, 7), (6, 8), (5, 9)]):
        kernel[y, x] = 1 + (i % 3)
    return kernel / kernel.sum()


def likeness(a: torch.Tensor, b: torch.Tensor) -> float:
    """The greatest correlation of two kernels over all shifts."""
    grid = [n + m for n, m in zip(a.shape, b.shape, strict=True)]
    crossed = torch.fft.irfft2(torch.fft.rfft2(a, grid).conj() * torch.fft.rfft2(b, grid), grid)
    return float(crossed.max() / (a.norm() * b.norm()))


def error_at_best_shift(restored: torch.Tensor, truth: torch.Tensor, margin: int = 16, reach: int = 4) -> float:
    cut = (slice(margin, -margin),) * 2
    moves = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)]
    return min(float((restored.roll(move, (0, 1))[cut] - truth[cut]).square().mean()) for move in moves)


@pytest.fixture(scope="module")
def seen():
    """(truth under the observed samples, observed with 0.5 % of noise, what `blind` yielded)."""
    truth = drawn()
    y = Convolution(motion(), truth.shape, "unknown").forward(truth)
    y = y + 0.005 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    return truth[5:-5, 5:-5], y, list(blind(y, 15))


@pytest.mark.slow
def test_a_motion_blur_is_found(seen):
    *_, ended = seen[2]
    assert likeness(ended.kernel, motion()) > 0.9


@pytest.mark.slow
def test_restoring_with_the_kernel_found_improves_the_picture(seen):
    truth, y, iterates = seen
    assert iterates[-1].restored.shape == y.shape
    assert error_at_best_shift(iterates[-1].restored, truth) < 0.5 * error_at_best_shift(y, truth)


@pytest.mark.slow
def test_each_step_has_a_proper_kernel_and_a_residual(seen):
    for iterate in seen[2]:
        assert float(iterate.kernel.min()) >= 0
        assert_close(iterate.kernel.sum(), torch.tensor(1.0))
        assert iterate.estimate.shape == iterate.operator.shape_in
    assert seen[2][-1].residual < 0.05
    assert [i.steps for i in seen[2]] == list(range(1, len(seen[2]) + 1))


def test_the_kernels_centroid_is_at_its_middle(seen):
    kernel = seen[2][-1].kernel
    places = torch.arange(15.0)
    assert abs(float((kernel.sum(1) * places).sum()) - 7) <= 1 and abs(float((kernel.sum(0) * places).sum()) - 7) <= 1


@pytest.mark.slow
def test_range_and_channels_do_not_change_the_kernel():
    y = Convolution(motion(), (140, 150), "unknown").forward(drawn())[:80, :90].double()
    once = estimate_kernel(y, (11, 9), steps=2)
    assert once.shape == (11, 9) and once.dtype == torch.double
    assert_close(estimate_kernel(200 * y + 30, (11, 9), steps=2), once, rtol=1e-6, atol=1e-8)
    assert_close(estimate_kernel(torch.stack([y, y, y]), (11, 9), steps=2), once, rtol=1e-6, atol=1e-8)
    colour = last(blind(torch.stack([y, 2 * y]), 9, steps=1, levels=1))
    assert colour.estimate.shape == (2, 88, 98) and colour.restored.shape == (2, 80, 90)


def test_an_even_picture_still_has_a_proper_kernel():
    kernel = estimate_kernel(torch.full((40, 40), 3.0), 7)
    assert_close(kernel.sum(), torch.tensor(1.0))


@pytest.mark.parametrize("boundary", ["circular", "zero", "reflect", "unknown"])
@pytest.mark.parametrize("size", [(5,), (3, 4), (3, 2, 3)])
def test_the_convolution_is_linear_in_its_kernel(boundary, size):
    shape = (9, 8, 7)[: len(size)]
    picture, kernel = torch.rand(shape, dtype=torch.double), torch.rand(size, dtype=torch.double)
    operator = Convolution(kernel, shape, boundary)
    by_kernel = ByKernel(picture, operator)
    y = torch.randn(operator.shape_out, dtype=torch.double)
    assert_close(by_kernel.forward(kernel), operator.forward(picture))
    assert_close(inner(by_kernel.forward(kernel), y), inner(kernel, by_kernel.adjoint(y)))


@pytest.mark.parametrize("boundary", ["circular", "zero", "reflect", "unknown"])
def test_blind_richardson_lucy_from_the_true_kernel_improves_the_picture(boundary):
    truth = drawn()[:70, :80].double() * 200 + 5
    operator = Convolution(motion().double(), truth.shape, boundary)
    y = operator.forward(truth)
    ended = last(richardson_lucy_blind(y, (11, 11), start=motion() * 7, steps=6, inner=5, boundary=boundary))
    here = truth[5:-5, 5:-5] if boundary == "unknown" else truth
    assert ended.restored.shape == y.shape and ended.estimate.shape == truth.shape
    assert (ended.restored - here).norm() < 0.8 * (y - here).norm()
    assert_close(ended.kernel.sum(), torch.tensor(1.0, dtype=torch.double))
    assert float(ended.kernel.min()) >= 0 and likeness(ended.kernel, motion().double()) > 0.9


def test_blind_richardson_lucy_narrows_what_it_starts_with():
    line = torch.zeros(80, dtype=torch.double)
    line[[10, 22, 40, 47, 66]] = torch.tensor([50.0, 90, 70, 30, 100]).double()
    blur = torch.tensor([0.25, 0.5, 0.25]).double()
    y = Convolution(blur, (80,), "zero").forward(line + 1)
    iterates = list(richardson_lucy_blind(y, (7,), steps=20, boundary="zero"))
    assert iterates[-1].residual < 0.2 * iterates[0].residual
    assert (iterates[-1].kernel > 0.02).sum() < 7


def test_shrinking_is_a_proximal_map():
    # The least of (d - s)^2 + price R(d), searched on a grid of lengths.
    slopes = torch.tensor([[0.5, 0.05, -0.3], [0.1, 0.02, 0.4]], dtype=torch.double)
    lengths = torch.linspace(0, 1, 2001, dtype=torch.double)[:, None]
    size = slopes.norm(dim=0)
    for shrink, cost in ((hard_threshold, (lengths > 0).double()), (soft_threshold, lengths)):
        best = lengths[((lengths - size).square() + 0.2 * cost).argmin(0)].flatten()
        assert_close(shrink(slopes, 0.2).norm(dim=0), best, rtol=0, atol=1e-3)


def test_a_wrapped_picture_has_no_jump_at_its_end():
    y = torch.linspace(0, 1, 40).reshape(40, 1) + torch.linspace(0, 2, 50)
    wide = wrap_around(y, (9, 9))
    assert torch.equal(wide[:40, :50], y)
    assert float(torch.cat([wide, wide[:1]]).diff(dim=0).abs().max()) < 0.15
    assert float(torch.cat([wide, wide[:, :1]], 1).diff(dim=1).abs().max()) < 0.3


def test_noise_is_measured():
    noise = 0.03 * torch.randn(100, 100, generator=torch.Generator().manual_seed(2))
    assert noise_level(drawn(100, 100) * 0.2 + noise) == pytest.approx(0.03, rel=0.15)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match=r"blind: a kernel \(40, 5\) for a picture \(40, 40\)"):
        estimate_kernel(torch.rand(40, 40), (40, 5))
    with pytest.raises(ShapeError, match="at least 3 and less than"):
        estimate_kernel(torch.rand(40, 40), 1)
    with pytest.raises(DtypeError, match="observed is complex"):
        last(blind(torch.rand(40, 40, dtype=torch.complex64), 5))
    with pytest.raises(ShapeError, match="pass one picture at a time"):
        last(richardson_lucy_blind(torch.rand(2, 40, 40), (5, 5)))


def shaken(kernel: torch.Tensor, height: int = 140, width: int = 150, noise: float = 0.005) -> torch.Tensor:
    y = Convolution(kernel, (height, width), "unknown").forward(drawn(height, width))
    return y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
def test_a_kernel_that_is_found_is_trusted_and_one_cut_off_is_not():
    y = shaken(motion())
    complete, cut = estimate_and_judge(y, 15), estimate_and_judge(y, 5)
    assert (
        likeness(complete.kernel, motion()) > 0.85 and complete.trusted and complete.confidence >= 0.75 and complete.notes == ()
    )
    assert not cut.trusted and cut.confidence < 0.75
    assert any("reaches its border. If it looks cut off there" in note for note in cut.notes)
    assert any(note.startswith("blind: do not trust this kernel") for note in cut.notes)


def test_a_flat_picture_has_no_blur():
    judged = estimate_and_judge(torch.full((40, 40), 3.0), 7)
    assert not judged.trusted and judged.confidence == 0
    assert "0 samples on edges came for a kernel of" in judged.notes[0] and any(
        "no blur was found" in note for note in judged.notes
    )


def test_noise_alone_is_not_trusted():
    judged = estimate_and_judge(torch.randn(60, 60, generator=torch.Generator().manual_seed(0)), 7)
    assert not judged.trusted


def test_the_less_noise_there_is_the_more_alike_estimates_must_be():
    kernel = torch.nn.functional.pad(torch.full((5, 5), 1 / 25), (1, 1, 1, 1))
    confidence = [_confidence(kernel, likeness, clear, 0.0, 10**4)[0] for likeness, clear in ((0.8, 5), (0.8, 50), (0.99, 50))]
    assert confidence[0] > 0.75 > confidence[1] and confidence[2] > 0.75
    assert _confidence(kernel, 0.6, 1, 0.0, 10**4)[0] < 0.75  # noise alone
    assert _confidence(kernel, 1.0, 5, 0.5, 10**4)[0] < 0.75 < _confidence(kernel, 1.0, 5, 0.1, 10**4)[0]
    confidence, against = _confidence(kernel, 0.8, 50, 0.0, 10**4)
    assert "their likeness is 0.80, but 0.94 was needed" in against[0] and len(against) == 1


def test_what_jpeg_lost_is_seen_in_samples():
    file = io.BytesIO()
    Image.fromarray((255 * drawn().clamp(0, 1)).byte().numpy()).save(file, "JPEG", quality=70)
    compressed = torch.from_numpy(np.asarray(Image.open(file)).astype(np.float32))
    assert _jpeg_error(compressed) > 1 and _jpeg_error(compressed.expand(3, -1, -1)) > 1
    assert (
        _jpeg_error(compressed / 255) == _jpeg_error((255 * drawn()).round()) == _jpeg_error(compressed.expand(2, -1, -1)) == 0
    )


def test_missing_samples_are_filled_and_infinite_ones_refused():
    y = shaken(motion(), 70, 70)
    y[30, 30] = torch.nan
    assert bool(estimate_and_judge(y, 5).kernel.isfinite().all())
    y[30, 31] = torch.inf
    with pytest.raises(NonFinite, match="infinite samples"):
        estimate_and_judge(y, 5)
    with pytest.raises(ShapeError, match="less than the picture's"):
        estimate_and_judge(y, 200)


@pytest.mark.slow
def test_of_a_large_picture_the_part_with_most_edges_is_used():
    y = torch.full((60, 1100), 0.3)
    y[:, 620:690] = shaken(motion(), 70, 80)
    judged = estimate_and_judge(y, 5)
    assert "estimated from 60 x 512 samples from (0, 256)" in judged.notes[0] or "from (0, 512)" in judged.notes[0]
