"""Projections in one line, in numbered grids, and put together from several pictures."""

from __future__ import annotations

import builtins
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import unconv
from reverse.test_reconstruction import SIZE, image, network, projected
from unconv.errors import ShapeError, UnconvError


def other(seed):
    return torch.rand(3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def shown_by(value):
    text = repr(value)
    assert "\n" not in text and "tensor(" not in text and len(text) < 200
    return text


def test_projections_print_in_one_line():
    text = shown_by(projected([3, 1, 0, 2, 5]))
    assert text == "Reconstructions(Sequential 4: 5 units, channels 3, 1, 0, 2 ..., deconvnet, 8 × 8 pixels)"
    assert shown_by(projected("together")).startswith("Reconstructions(Sequential 4: 1 unit, all channels together, whole maps")
    assert "0 units" in shown_by(projected([]))


def test_one_projection_a_signal_and_a_picture_print_in_one_line(tmp_path):
    Image.new("RGB", (30, 30), "orange").save(tmp_path / "cat\x1b[2J.png")
    one = network().project(tmp_path / "cat\x1b[2J.png", "4", "top:1", trace=True)[0]
    assert (
        shown_by(one).startswith(f"Reconstruction(Sequential 4, channel {one.unit[0]} at (")
        and "cat" in repr(one)
        and "\x1b" not in repr(one)
    )
    assert f"channels {one.unit[0]} 100%" in shown_by(one.signals[0])
    assert "cat" in shown_by(network().project(tmp_path / "cat\x1b[2J.png", "4", 3).pictures[0])
    assert "steps" in shown_by(network().record(image()))


def test_columns_are_units():
    wide = projected("all", "map").picture(columns=3, side=26, labels=False)
    assert wide.size == (3 * (26 + 2 + 26) + 2 * 10, 2 * 18 + 10)
    maps = projected("all", "map").picture(columns=3, side=26, labels=False, maps=True)
    assert maps.size == (3 * (26 * 3 + 4) + 2 * 10, 2 * 18 + 10)


def test_labels_stand_below_and_change_nothing_above():
    found = projected([3, 1], "map")
    plain, labelled = (np.asarray(found.picture(1, 52, labels)) for labels in (False, True))
    assert np.array_equal(plain[:36], labelled[:36, : plain.shape[1]])
    below = labelled[36 : labelled.shape[0] // 2 - 5]
    assert (below < 128).any()
    swapped = np.asarray(projected([1, 3], "map").picture(1, 52))
    assert not np.array_equal(swapped[36 : labelled.shape[0] // 2 - 5], below)


@pytest.mark.parametrize("name, head", [("sheet.pdf", b"%PDF-"), ("sheet.svg", b"<?xml")])
def test_figures_are_the_same_each_time_and_hold_labels_as_text(tmp_path, name, head):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")
    found = projected([3, 1])
    written = []
    for _ in range(2):
        found.save(tmp_path / name, columns=2, maps=True)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1] and written[0].startswith(head)
    if name.endswith("svg"):
        text = written[0].decode()
        assert f"0: channel 3 at {found.units[0][1:]}: {found.values[0]:.3g}" in re.sub(r"\s+", " ", text)
        assert text.count("<image") == 6


def test_a_figure_without_matplotlib_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if name.startswith("matplotlib"):
            raise ImportError("No module named 'matplotlib'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(
        UnconvError, match=r'save: matplotlib cannot be imported .* pip install "unconv\[plot\]", or save as .png'
    ):
        projected([3]).save(tmp_path / "sheet.pdf")
    assert list(tmp_path.iterdir()) == []


def test_projections_of_several_pictures_are_put_together():
    parts = [network().project(other(seed), "4", "top:2") for seed in range(3)]
    found = unconv.Reconstructions.joined(parts)
    assert len(found) == 6 and [one.picture for one in found] == [0, 0, 1, 1, 2, 2]
    assert found.units == [unit for part in parts for unit in part.units]
    assert torch.equal(found.values, torch.cat([part.values for part in parts]))
    assert torch.equal(found.pixels(), torch.cat([part.pixels() for part in parts]))
    assert torch.equal(found.activations, torch.cat([part.activations for part in parts]))
    for patch, right in zip(found.patches(), [patch for part in parts for patch in part.patches()], strict=True):
        assert torch.equal(patch, right)
    assert ", 3 pictures)" in repr(found)
    assert torch.equal(found[4].image, other(2)) and torch.equal(found[2:4].image, other(0))
    assert [one.picture for one in found[2:4]] == [1, 1]
    assert [unit["picture"] for unit in found.numbers()["units"]] == [0, 0, 1, 1, 2, 2]


def test_what_a_stream_gave_is_put_together_with_its_numbers():
    stream = network().stream([other(seed) for seed in range(3)], "4", "top:1")
    found = unconv.Reconstructions.joined(one for one in stream if one.picture != 1)
    assert [one.picture for one in found] == [0, 2]
    assert found.values.dtype == torch.float64


def test_a_drawing_of_several_pictures_has_each_ones_patch(tmp_path):
    parts = [network().project(other(seed), "4", 2, "map") for seed in range(2)]
    joined = np.asarray(unconv.Reconstructions.joined(parts).picture(2, 26, labels=False))
    for at, part in enumerate(parts):
        alone = np.asarray(part.picture(1, 26, labels=False))
        assert np.array_equal(joined[:, at * 64 + 28 : at * 64 + 54], alone[:, 28:54])
    unconv.Reconstructions.joined(parts).save(tmp_path / "folder")
    assert len(list((tmp_path / "folder").glob("*_patch.png"))) == 2


def test_pictures_of_different_sizes_are_put_together_but_make_no_tensor():
    sizes = [(18, 26), (12, 20)]
    parts = [network().project(torch.rand(3, *size, dtype=torch.float64), "4", 1) for size in sizes]
    found = unconv.Reconstructions.joined(parts)
    assert found.picture().size[0] > 0 and len(found.patches()) == 2
    with pytest.raises(ShapeError, match=r"pixels: the pictures are \(3, 18, 26\) and \(3, 12, 20\)"):
        found.pixels()
    with pytest.raises(ShapeError, match=r"activations: maps are \(9, 13\) and \(6, 10\)"):
        _ = found.activations


@pytest.mark.parametrize(
    "parts, words",
    [
        (list, "nothing came"),
        (lambda: [projected(1), projected(1, method="guided")], "Sequential 4 by deconvnet and Sequential 4 by guided came"),
        (lambda: [projected(1), network().project(image(), "3", 1)], "4 by deconvnet and Sequential 3 by deconvnet came"),
    ],
    ids=["nothing", "methods", "places"],
)
def test_what_does_not_belong_together_is_not_put_together(parts, words):
    with pytest.raises(ShapeError, match=words):
        unconv.Reconstructions.joined(parts())


def test_colours_of_a_network_that_takes_blue_first_stay_so_in_all_that_is_made_of_its_projections():
    torch.manual_seed(0)
    prepared = unconv.Preprocess((12, 12), mean=(0.0,) * 3, std=(1.0,) * 3, bgr=True)
    found = unconv.Network(nn.Conv2d(3, 4, 3).eval(), prepared, (3, 12, 12)).project(
        Image.new("RGB", (12, 12), "red"), "output"
    )
    for part in (found[:2], found[1], unconv.Reconstructions.joined([found, found[0]])):
        assert part.blue_first
    assert unconv.Reconstructions.joined([found[0]]).picture().tobytes() == found[:1].picture().tobytes()
