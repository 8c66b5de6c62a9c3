"""What came back: windows, boxes, patches and pixels that agree, and files that hold them."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import nn

import unconv
from unconv.errors import ShapeError

SIZE = (18, 26)
FAR = 60  # more than any box reaches outside


def network(channels=3, size=SIZE):
    torch.manual_seed(0)
    conv, pool = (nn.Conv2d, nn.MaxPool2d) if len(size) == 2 else (nn.Conv1d, nn.MaxPool1d)
    layers = [conv(channels, 4, 3, padding=1), nn.ReLU(), pool(2), conv(4, 6, 3, padding=1), nn.ReLU()]
    return unconv.Network(nn.Sequential(*layers).double().eval(), input_size=(channels, *size))


def image(channels=3, size=SIZE):
    return torch.rand(channels, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def projected(channels="all", unit="strongest", planes=3, size=SIZE, **options):
    return network(planes, size).project(image(planes, size), "4", channels, unit, **options)


def padded(picture):
    return nn.functional.pad(picture, (FAR, FAR, FAR, FAR))


def around(box):
    y0, x0, y1, x1 = (edge + FAR for edge in box)
    return ..., slice(y0, y1), slice(x0, x1)


def mask(*positions):
    found = torch.zeros(9, 13, dtype=torch.bool)
    for position in positions:
        found[position] = True
    return found


def test_length_iteration_and_indexing_agree():
    found = projected([5, 0, 3])
    assert len(found) == len(list(found)) == 3
    assert [one.unit for one in found] == found.units == [found[index].unit for index in range(3)]
    assert [one.value for one in found] == found.values.tolist()
    assert all(one.window is window for one, window in zip(found, found.windows, strict=True))


def test_indices_count_from_the_end_too():
    found = projected([5, 0, 3])
    assert found[-1].unit == found.units[2]
    assert found[-3].unit == found.units[0]


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_beyond_the_end_is_refused(index):
    with pytest.raises(IndexError):
        projected([5, 0, 3])[index]


@pytest.mark.parametrize(
    "part", [slice(1, 4), slice(-2, None), slice(None, -1), slice(None, None, 2), slice(4, 1), slice(0, 99)]
)
def test_a_slice_is_the_same_as_a_slice_of_all_its_parts(part):
    found = projected(trace=True)
    some = found[part]
    assert isinstance(some, unconv.Reconstructions)
    assert (some.units, some.values.tolist()) == (found.units[part], found.values.tolist()[part])
    assert some.boxes.tolist() == found.boxes.tolist()[part]
    assert torch.equal(some.pixels(), found.pixels()[part])
    assert [one.signals for one in some] == [one.signals for one in list(found)[part]]


@pytest.mark.parametrize("part", [slice(None, None, -1), slice(4, 1, -2)])
def test_a_slice_may_run_backwards(part):
    found = projected()
    assert found[part].units == found.units[part]
    assert found[part].boxes.tolist() == found.boxes.tolist()[part]


@pytest.mark.parametrize("unit", ["strongest", "map", (0, 0), (8, 12), (4, 6), mask((0, 0), (1, 2)), mask((8, 12))])
def test_a_patch_is_what_the_image_has_in_the_box_and_zero_outside(unit):
    found = projected(unit=unit)
    wide = padded(image())
    for one, patch, box in zip(found, found.patches(), found.boxes.tolist(), strict=True):
        assert one.box == tuple(box)
        assert patch.shape == one.window.shape
        assert torch.equal(patch, wide[around(box)])
        assert torch.equal(one.patch, patch)


@pytest.mark.parametrize("unit", ["strongest", "map", (0, 0), (8, 12), (4, 6), mask((0, 0), (1, 2)), mask((8, 12))])
def test_pixels_are_the_windows_in_their_boxes_and_zero_elsewhere(unit):
    found = projected(unit=unit)
    assert found.pixels().shape == (6, 3, *SIZE)
    for frame, window, box in zip(found.pixels(), found.windows, found.boxes.tolist(), strict=True):
        wide = padded(torch.zeros_like(image()))
        wide[around(box)] = window
        assert torch.equal(padded(frame), wide)


def test_a_units_box_is_its_receptive_field_and_may_reach_outside():
    found = projected(0, (0, 0))
    assert found.place.receptive_field == (8, 8)
    assert found.boxes.tolist() == [[-3, -3, 5, 5]]
    assert projected(0, (8, 12)).boxes.tolist() == [[13, 21, 21, 29]]


def test_the_box_of_a_map_or_a_region_is_cut_to_the_image():
    assert projected(0, "map").boxes.tolist() == [[0, 0, 18, 26]]
    assert projected(0, mask((0, 0), (1, 2))).boxes.tolist() == [[0, 0, 7, 9]]


def test_a_region_of_one_unit_is_that_unit():
    one, region = projected(unit=(4, 6)), projected(unit=mask((4, 6)))
    assert torch.equal(one.pixels(), region.pixels())
    assert torch.equal(one.values, region.values)


def test_the_gradient_of_a_region_is_the_sum_of_its_units():
    region = projected(unit=mask((0, 0), (1, 2)), method="gradient").pixels()
    parts = sum(projected(unit=unit, method="gradient").pixels() for unit in [(0, 0), (1, 2)])
    assert torch.allclose(region, parts, atol=1e-12)


def test_of_an_empty_region_nothing_comes_back():
    found = projected(unit=mask())
    assert (float(found.pixels().abs().max()), found.scale) == (0, 0)
    assert found.picture().getpixel((0, 0)) == (128, 128, 128)


def test_what_stands_in_a_box_of_the_image_is_cut_out_of_the_projection():
    one = projected(0, (0, 0))[0]
    frame = padded(projected(0, (0, 0)).pixels()[0])
    assert torch.equal(one.within((0, 1, 7, 4)), frame[around((0, 1, 7, 4))])
    assert one.within((10, 10, 12, 13)).abs().sum() == 0


@pytest.mark.parametrize("planes", [1, 5])
def test_images_of_one_and_of_five_channels_come_back_so(planes):
    found = projected(planes=planes)
    assert found.pixels().shape == (6, planes, *SIZE)
    assert [patch.shape[0] for patch in found.patches()] == [planes] * 6
    assert (found.shown.shape, float(found.shown.min()) >= 0, float(found.shown.max()) <= 1) == ((planes, *SIZE), True, True)


def test_a_one_dimensional_signal_comes_back_but_makes_no_picture(tmp_path):
    found = projected(planes=2, size=(32,))
    assert (found.pixels().shape, found.boxes.shape) == ((6, 2, 32), (6, 2))
    found.save(tmp_path / "found.safetensors")
    for path in (tmp_path / "found.png", tmp_path / "folder"):
        with pytest.raises(ShapeError, match=r"only \(C, H, W\) makes a picture. Use .windows"):
            found.save(path)
    assert [path.name for path in tmp_path.iterdir()] == ["found.safetensors"]
    assert "<img" not in found._repr_html_()


def test_no_channels_are_no_projections_and_still_an_answer(tmp_path):
    found = projected([])
    assert (len(found), list(found), found.patches()) == (0, [], [])
    assert (found.pixels().shape, found.boxes.shape) == ((0, 3, *SIZE), (0, 4))
    assert "0 units" in found._repr_html_()
    found.save(tmp_path / "none.safetensors")


def test_a_picture_of_no_projections_is_refused_in_words(tmp_path):
    with pytest.raises(ShapeError, match="picture: "):
        projected([]).save(tmp_path / "none.png")


def test_numbers_survive_json():
    found = projected([2, 0])
    numbers = json.loads(json.dumps(found.numbers(), allow_nan=False))
    assert numbers == found.numbers()
    assert (numbers["place"], numbers["method"], numbers["map"]) == ("4", "deconvnet", [9, 13])
    assert (numbers["receptive_field"], numbers["stride"], numbers["scale"]) == ([8, 8], [2, 2], found.scale)
    for unit, one in zip(numbers["units"], found, strict=True):
        assert (unit["channel"], *unit["position"]) == one.unit
        assert (unit["activation"], tuple(unit["box"])) == (one.value, one.box)
        assert unit["largest"] == float(one.window.abs().max())


def test_the_numbers_of_a_map_have_no_position():
    assert json.loads(json.dumps(projected(1, "map").numbers()))["units"][0]["position"] == [None, None]


def test_a_saved_png_is_the_picture(tmp_path):
    found = projected()
    found.save(str(tmp_path / "found.png"))
    with Image.open(tmp_path / "found.png") as back:
        assert np.array_equal(back, found.picture())


@pytest.mark.parametrize("part", [slice(None), slice(1, 3), slice(None, None, 2)])
def test_saved_safetensors_are_exact(tmp_path, part):
    found = projected()[part]
    found.save(tmp_path / "found.safetensors")
    with safe_open(tmp_path / "found.safetensors", "pt") as file:
        assert set(file.keys()) == {"values", "boxes", *(f"window_{index}" for index in range(len(found)))}
        assert all(torch.equal(file.get_tensor(f"window_{i}"), window) for i, window in enumerate(found.windows))
        assert torch.equal(file.get_tensor("values"), found.values)
        assert torch.equal(file.get_tensor("boxes"), found.boxes)
        assert {key: json.loads(value) for key, value in file.metadata().items()} == found.numbers()


def test_a_saved_folder_holds_each_projection_each_patch_and_the_numbers(tmp_path):
    found = projected([5, 0])
    found.save(tmp_path / "folder")
    stems = ["0000_channel_5", "0001_channel_0"]
    pictures = {f"{stem}_{what}.png" for stem in stems for what in ("projection", "patch")}
    assert {path.name for path in (tmp_path / "folder").iterdir()} == {"units.json", *pictures}
    assert json.loads((tmp_path / "folder" / "units.json").read_text()) == found.numbers()
    with Image.open(tmp_path / "folder" / "0001_channel_0_patch.png") as patch:
        assert patch.size == (found.windows[1].shape[2], found.windows[1].shape[1])


def test_a_second_save_replaces_what_the_first_listed_and_no_other_file(tmp_path):
    for unit in ("strongest", "map"):
        projected([5, 0, 3], unit).save(tmp_path / "folder")
    (tmp_path / "folder" / "0002_channel_9_patch.png").write_text("mine")
    projected([1]).save(tmp_path / "folder")
    expected = {"0000_channel_1_patch.png", "0000_channel_1_projection.png", "0002_channel_9_patch.png", "units.json"}
    assert {path.name for path in (tmp_path / "folder").iterdir()} == expected
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("name", ["units.json", "0000_channel_1_patch.png"])
def test_a_file_of_the_user_s_is_not_replaced_in_a_folder(tmp_path, name):
    (tmp_path / name).write_text('{"units": [{"channel": 1}]}')
    with pytest.raises(unconv.WriteError, match=f"{re.escape(name)} was not made by unconv and would be overwritten"):
        projected([1]).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "name", ["a" * 300, "a" * 300 + ".png", "file/a", "file/a.safetensors", "a\0.png", "a\0"], ids=range(6)
)
def test_a_place_that_cannot_be_written_is_refused_in_words(tmp_path, name):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(unconv.WriteError, match="write: "):
        projected([1]).save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_existing_folder_with_a_dot_in_its_name_is_a_folder(tmp_path):
    (tmp_path / "run.1").mkdir()
    projected([0]).save(tmp_path / "run.1")
    assert (tmp_path / "run.1" / "units.json").is_file()


@pytest.mark.parametrize("name", ["found.jpg", "found.npz", "found.html"])
def test_a_file_of_another_kind_is_refused(tmp_path, name):
    with pytest.raises(ShapeError, match=rf"{name} came, but another kind of file was needed. Pass NAME.png, NAME.pdf"):
        projected([0]).save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_shows_the_picture_and_says_what_it_is():
    found = projected([1])
    html = found._repr_html_()
    assert "<b>4</b>: 1 unit, deconvnet, receptive field 8 × 8" in html
    content = base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])
    with Image.open(io.BytesIO(content)) as back:
        assert np.array_equal(back, found.picture())


def test_a_notebook_shows_36_of_many_and_says_so():
    html = projected([0, 1] * 20)._repr_html_()
    assert "40 units" in html
    assert "; the first 36 are drawn" in html


def test_a_picture_puts_each_projection_beside_its_patch_on_one_scale():
    found = projected("all", "map")
    sheet = np.asarray(found.picture(columns=1, side=26, labels=False))
    assert sheet.shape == (6 * (18 + 10) - 10, 26 + 2 + 26, 3)
    expected = (found.windows[0] / (2 * found.scale) + 0.5).clamp(0, 1) * 255
    assert np.array_equal(sheet[:18, :26], expected.float().round().byte().permute(1, 2, 0))
    assert np.array_equal(sheet[:18, 28:], (found.shown * 255).round().byte().permute(1, 2, 0))


def test_the_trace_leads_from_the_unit_down_and_ends_above_the_pixels():
    one = projected([3], trace=True)[0]
    assert [signal.place for signal in one.signals] == ["4", "3", "2", "1", "0"]
    assert one.signals[0].energy.max().item() == pytest.approx(one.value)
    assert one.signals[0].channels[0] == (3, 1.0)
    assert [signal.energy.shape for signal in one.signals] == [(9, 13)] * 3 + [SIZE] * 2
    assert projected([3])[0].signals == ()


def test_the_shares_of_a_signal_fall_and_are_no_more_than_the_whole():
    for signal in projected([3], trace=True)[0].signals:
        shares = [share for _, share in signal.channels]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) <= 1 + 1e-9
        assert signal.strongest.shape == signal.energy.shape
