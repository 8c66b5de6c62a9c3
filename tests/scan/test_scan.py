"""A scan: equal to a slow loop, whatever its parts; what is damaged is named; what was stopped goes on."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import unconv
from cases.scans import save_pictures, small
from unconv.errors import ModelError, NoSuchLayer, NoSuchUnit, PictureError, ScanError, ShapeError
from unconv.scan import scan_part, winners

TABLES = ("index.parquet", "units.parquet", "pictures.parquet")


def hashes(folder):
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in TABLES]


def slow_loop(network, files, place, keep):
    """Of each channel (value, number, position) of the strongest pictures, by recording one after the other."""
    maps = [network.record(file, [place]).activation(place) for file in files]
    found = []
    for channel in range(len(maps[0])):
        rows = [(float(m[channel].max()), k, int(m[channel].argmax()), m[channel].shape) for k, m in enumerate(maps)]
        rows.sort(key=lambda row: (-row[0], row[1]))
        found.append([(v, k, tuple(map(int, np.unravel_index(at, shape))) if shape else ()) for v, k, at, shape in rows][:keep])
    return found


def test_the_index_equals_a_slow_loop(network, pictures, tmp_path):
    files = sorted(pictures.rglob("*.png"))
    index = unconv.scan(network, pictures, tmp_path / "i", batch=4, shard=16, keep=12)
    assert index.places == ["1", "4", "7", "8"]
    for place in index.places:
        for channel, expected in enumerate(slow_loop(network, files, place, 12)):
            expected = [row for row in expected if row[0] > 0 or place == "8"]
            found = index.top(place, channel, 12)
            assert [(e.picture, e.position) for e in found] == [(k, at) for _, k, at in expected]
            assert [e.value for e in found] == pytest.approx([v for v, _, _ in expected], rel=1e-5)


def test_the_boxes_are_those_of_projections(network, pictures, tmp_path):
    index = unconv.scan(network, pictures, tmp_path / "i", batch=4, shard=16)
    for place in index.places:
        projected = index.projections(place, 1)
        assert [list(entry.box) for entry in index.top(place, 1)] == projected.boxes.tolist()
        assert not projected.notes


@pytest.mark.parametrize("worthwhile", [1, 1000])
def test_projections_are_those_of_project(network, pictures, tmp_path, monkeypatch, worthwhile):
    monkeypatch.setattr(winners, "_WORTHWHILE", worthwhile)  # together, and one by one
    index = unconv.scan(network, pictures, tmp_path / "i", batch=4, shard=16)
    found = index.projections("4", 2, n=5)
    for one, entry in zip(found, index.top("4", 2, n=5), strict=True):
        alone = network.project(pictures / entry.key, "4", 2, entry.position)
        assert one.key == entry.key and one.picture == entry.picture
        torch.testing.assert_close(one.window, alone.windows[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shard", [8, 16, 64])
def test_any_split_gives_the_same_entries(network, pictures, tmp_path, shard):
    whole = unconv.scan(network, pictures, tmp_path / "whole", batch=4, shard=64)
    parts = unconv.scan(network, pictures, tmp_path / "parts", batch=4, shard=shard)
    for place in whole.places:
        for channel in range(3):
            assert whole.top(place, channel) == parts.top(place, channel)
            assert whole.levels(place, channel) == parts.levels(place, channel)


def test_parts_in_any_order_give_the_same_bytes(network, pictures, tmp_path):
    settings = {"batch": 4, "shard": 8}
    unconv.scan(network, pictures, tmp_path / "one", **settings)
    for part in ("3/3", "1/3"):
        assert scan_part(network, pictures, tmp_path / "three", part, **settings) is None
    index = scan_part(network, pictures, tmp_path / "three", "2/3", **settings)
    assert index is not None
    assert hashes(tmp_path / "one") == hashes(tmp_path / "three")


def test_a_grown_folder_goes_on(network, tmp_path):
    save_pictures(tmp_path / "p", 20)
    unconv.scan(network, tmp_path / "p", tmp_path / "i", batch=4, shard=8)
    kept = (tmp_path / "i" / "shards" / "00000.safetensors").stat().st_mtime_ns
    save_pictures(tmp_path / "p" / "more", 9, seed=1)
    index = unconv.scan(network, tmp_path / "p", tmp_path / "i", batch=4, shard=8)
    assert (tmp_path / "i" / "shards" / "00000.safetensors").stat().st_mtime_ns == kept
    assert len(index.pictures()) == 29
    assert [p.key.startswith("more/") for p in index.pictures()] == [False] * 20 + [True] * 9
    fresh = unconv.scan(network, [p.source for p in index.pictures()], tmp_path / "f", batch=4, shard=8)
    assert [e.picture for e in index.top("4", 1)] == [e.picture for e in fresh.top("4", 1)]


def test_another_run_is_refused_and_named(network, pictures, tmp_path):
    unconv.scan(network, pictures, tmp_path, batch=4, shard=16)
    with pytest.raises(ScanError, match=r"another run.*keep: 32 there, 5 now"):
        unconv.scan(network, pictures, tmp_path, batch=4, shard=16, keep=5)
    with pytest.raises(ScanError, match="weights"):
        unconv.scan(small(seed=1), pictures, tmp_path, batch=4, shard=16)


class Holding(nn.Module):
    """A network whose weights are no parameters: in a plain dictionary, in a tensor, in a buffer that is not saved."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.weights = {"first": torch.randn(4, 3, 3, 3, generator=draw)}
        self.scale = torch.ones(())
        self.register_buffer("bias", torch.zeros(4), persistent=False)

    def forward(self, x):
        return torch.relu(torch.conv2d(x * self.scale, self.weights["first"], self.bias))


@pytest.mark.parametrize("change", ["first", "scale", "bias"])
def test_weights_that_are_no_parameters_count(pictures, tmp_path, change):
    module = Holding()
    network = unconv.Network(module, input_size=(3, 24, 24), preprocess=unconv.Preprocess(size=(24, 24)))
    unconv.scan(network, pictures, tmp_path, batch=4, shard=16)
    held = {"first": module.weights["first"], "scale": module.scale, "bias": module.bias}
    held[change].view(-1)[:1] += 1
    with pytest.raises(ScanError, match=r"another run.*weights"):
        unconv.scan(network, pictures, tmp_path, batch=4, shard=16)


def test_a_shard_of_another_run_is_refused(network, pictures, tmp_path):
    unconv.scan(network, pictures, tmp_path / "a", batch=4, shard=16)
    unconv.scan(small(seed=1), pictures, tmp_path / "b", batch=4, shard=16)
    shutil.copy(tmp_path / "b" / "shards" / "00001.safetensors", tmp_path / "a" / "shards")
    with pytest.raises(ScanError, match=r"00001\.safetensors is of another run"):
        unconv.scan(network, pictures, tmp_path / "a", batch=4, shard=16)


@pytest.mark.parametrize("damage", ["cut", "gone", "index gone", "index cut"])
def test_what_is_torn_is_made_again(network, pictures, tmp_path, damage):
    unconv.scan(network, pictures, tmp_path, batch=4, shard=16)
    before = hashes(tmp_path)
    shard, table = tmp_path / "shards" / "00001.safetensors", tmp_path / "index.parquet"
    if damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-100])
    elif damage == "gone":
        shard.unlink()
    elif damage == "index gone":
        table.unlink()
    else:
        table.write_bytes(table.read_bytes()[:500])
    if "index" in damage:
        with pytest.raises(ScanError, match="not complete"):
            unconv.Index(tmp_path)
    unconv.scan(network, pictures, tmp_path, batch=4, shard=16)
    assert hashes(tmp_path) == before


def test_damaged_pictures_are_named_and_change_nothing_else(network, tmp_path):
    files = save_pictures(tmp_path / "p", 20)
    clean = unconv.scan(network, files, tmp_path / "clean", batch=4, shard=8)
    whole = files[5].read_bytes()
    files[5].write_bytes(whole[: len(whole) // 2])
    files[11].write_bytes(b"")
    files[17].unlink()
    index = unconv.scan(network, files, tmp_path / "i", batch=4, shard=8)
    assert [p.number for p in index.damaged()] == [5, 11, 17]
    assert "damaged or cut off" in index.damaged()[0].reason
    assert "is empty" in index.damaged()[1].reason
    assert "cannot be read" in index.damaged()[2].reason
    lost = {5, 11, 17}
    for place in index.places:
        for channel in range(3):
            expected = [(e.picture, e.value) for e in clean.top(place, channel, 20) if e.picture not in lost]
            assert [(e.picture, e.value) for e in index.top(place, channel, 20)] == expected


def test_a_picture_that_changed_is_not_projected(network, tmp_path):
    files = save_pictures(tmp_path / "p", 12)
    index = unconv.scan(network, tmp_path / "p", tmp_path / "i", batch=4, shard=8)
    winner = index.top("4", 1)[0]
    shutil.copy(
        next(file for file in files if file.name != winner.key.rpartition("/")[2]), winner_path := files[winner.picture]
    )
    assert winner_path.exists()
    with pytest.raises(PictureError, match="has changed since it was scanned"):
        index.projections("4", 1)


def test_equal_pictures_are_ranked_by_number_and_told_apart(network, tmp_path):
    files = save_pictures(tmp_path / "p", 1)
    for number in range(11):
        shutil.copy(files[0], tmp_path / "p" / f"copy{number:02d}.png")
    index = unconv.scan(network, tmp_path / "p", tmp_path / "i", batch=4, shard=8)
    found = index.top("1", 0)
    assert [e.picture for e in found] == list(range(9))
    assert [e.near for e in found] == [None] + [0] * 8
    assert len(index.top("1", 0, distinct=True)) == 1


def test_fewer_pictures_than_nine_give_fewer(network, tmp_path):
    save_pictures(tmp_path / "p", 2)
    index = unconv.scan(network, tmp_path / "p", tmp_path / "i", batch=4, shard=8)
    assert len(index.top("8", 0)) == 2


def test_no_pictures_are_refused(network, tmp_path):
    (tmp_path / "p").mkdir()
    with pytest.raises(PictureError, match="there are none in"):
        unconv.scan(network, tmp_path / "p", tmp_path / "i")


def test_saturated_units_are_ranked_by_what_stood_before_the_clip(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU6()).eval()
    module[0].weight.data = torch.tensor([[30.0, 0, 0], [-1.0, 0, 0]])[..., None, None]
    network = unconv.Network(module, unconv.Preprocess((4, 4)), (3, 4, 4))
    levels = [100, 250, 130, 200, 90, 40]
    index = unconv.scan(network, np.stack([np.full((4, 4, 3), v, np.uint8) for v in levels]), tmp_path, batch=2, shard=4)
    found = index.top("1", 0)
    assert [e.picture for e in found] == [1, 3, 2, 0, 4, 5]
    assert [e.value for e in found] == pytest.approx([6.0] * 5 + [30 * 40 / 255])
    assert found[0].score == pytest.approx(30 * 250 / 255)
    assert index.top("1", 1) == []
    assert next(unit for unit in index.units() if unit.channel == 1).dead


def test_the_lowest_are_those_of_what_stood_before_the_rectifier(network, pictures, tmp_path):
    files = sorted(pictures.rglob("*.png"))
    index = unconv.scan(network, pictures, tmp_path, ["1"], batch=4, shard=16, lowest=True)
    minima = [float(network.record(file, ["0"]).activation("0")[2].min()) for file in files]
    order = sorted(range(len(files)), key=lambda k: (minima[k], k))[:9]
    assert [e.picture for e in index.lowest("1", 2)] == order
    assert [e.value for e in index.lowest("1", 2)] == pytest.approx([minima[k] for k in order], rel=1e-5)
    with pytest.raises(ScanError, match="kept no lowest"):
        unconv.scan(network, pictures, tmp_path / "j", ["1"], batch=4, shard=16).lowest("1", 2)


def test_statistics_are_those_of_all_maxima(network, pictures, tmp_path):
    files = sorted(pictures.rglob("*.png"))
    index = unconv.scan(network, pictures, tmp_path, ["4"], batch=4, shard=16)
    maxima = torch.stack([network.record(file, ["4"]).activation("4").flatten(1).amax(1) for file in files])
    for unit in index.units():
        own = maxima[:, unit.channel]
        assert (unit.pictures, unit.positive) == (45, int((own > 0).sum()))
        assert unit.mean == pytest.approx(float(own.double().mean()), rel=1e-5)
        assert unit.histogram.sum() == 45
        means = {
            f"class{k}": float(own[[n for n, f in enumerate(files) if f.parent.name == f"class{k}"]].mean()) for k in range(3)
        }
        assert dict(unit.classes) == pytest.approx(means, rel=2e-3)  # of maxima kept in half precision
        assert [label for label, _ in unit.classes] == sorted(means, key=lambda label: -means[label])


def test_similar_units_correlate(network, pictures, tmp_path):
    files = sorted(pictures.rglob("*.png"))
    index = unconv.scan(network, pictures, tmp_path, ["1", "4"], batch=4, shard=16)
    maxima = [
        torch.cat([network.record(f, ["1", "4"]).activation(place).flatten(1).amax(1) for place in ("1", "4")]) for f in files
    ]
    expected = np.corrcoef(torch.stack(maxima).T.numpy())[6]
    names = [("1", c) for c in range(5)] + [("4", c) for c in range(4)]
    best = [k for k in np.argsort(-expected) if k != 6][:3]
    found = index.similar("4", 1, n=3)
    assert [(s.place, s.channel) for s in found] == [names[k] for k in best]
    assert [s.correlation for s in found] == pytest.approx([expected[k] for k in best], abs=1e-2)


def test_what_fires_on_a_picture_stands_high_in_its_own_distribution(network, pictures, tmp_path):
    index = unconv.scan(network, pictures, tmp_path, batch=4, shard=16)
    winner = index.top("4", 2)[0]
    found = index.fires(winner.picture, n=30)
    (own,) = [f for f in found if (f.place, f.channel) == ("4", 2)]
    assert own.value == pytest.approx(winner.value, rel=1e-5) and own.position == winner.position and own.share > 0.8
    assert found == sorted(found, key=lambda f: (-f.share, -f.value))
    y0, x0, y1, x1 = winner.box
    middle = ((y0 + y1) // 2, (x0 + x1) // 2)
    inside = index.fires(winner.picture, (*middle, middle[0] + 1, middle[1] + 1), n=30)
    assert ("4", 2, winner.position) in [(f.place, f.channel, f.position) for f in inside]


def test_an_index_opened_anew_finds_network_and_pictures(tmp_path):
    save_pictures(tmp_path / "p", 6, side=100)
    unconv.scan(unconv.load("unconv:caltech"), tmp_path / "p", tmp_path / "i", ["features.3"], shard=8)
    assert len(unconv.Index(tmp_path / "i").projections("features.3", 4, n=3)) == 3


def test_what_only_memory_held_is_asked_for(network, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (9, 12, 12, 3), dtype=np.uint8)
    unconv.scan(network, array, tmp_path, batch=4, shard=8)
    with pytest.raises(ModelError, match="live module"):
        unconv.Index(tmp_path).projections("4", 1)
    with pytest.raises(ScanError, match="an array in memory"):
        unconv.Index(tmp_path, network).projections("4", 1)
    with pytest.raises(ModelError, match="not those that were scanned"):
        unconv.Index(tmp_path, small(seed=3), array).projections("4", 1)
    index = unconv.Index(tmp_path, network, array)
    assert [one.picture for one in index.projections("4", 1)] == [entry.picture for entry in index.top("4", 1)]


def test_wrong_questions_are_answered(network, pictures, tmp_path):
    index = unconv.scan(network, pictures, tmp_path, batch=4, shard=16)
    with pytest.raises(NoSuchLayer, match="'5' was not scanned"):
        index.top("5", 0)
    with pytest.raises(NoSuchUnit, match="no channel 99; 4 has 4"):
        index.top("4", 99)
    with pytest.raises(ShapeError, match="the scan kept 32"):
        index.top("4", 0, 33)
    with pytest.raises(ScanError, match="it holds no scan"):
        unconv.Index(tmp_path / "nothing")


def test_pictures_of_many_sizes_are_refused_where_nothing_crops_them(pictures, tmp_path):
    network = unconv.Network(small().module[:5], unconv.Preprocess(None), (3, 12, 12))
    with pytest.raises(ShapeError, match="all pictures were needed of one size"):
        unconv.scan(network, pictures, tmp_path, batch=4, shard=16)


def test_the_model_is_left_as_it_was(network, pictures, tmp_path):
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    unconv.scan(network, pictures, tmp_path, batch=4, shard=16)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.module.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.module.modules())


class Undecided(nn.Module):
    """Runs one of two convolutions, by what the picture shows."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 2, 3), nn.Conv2d(3, 2, 3)

    def forward(self, x):
        return torch.relu(self.a(x) if x.mean() > 0.5 else self.b(x))


def test_a_network_that_decides_by_the_picture_is_run_one_by_one(pictures, tmp_path):
    torch.manual_seed(0)
    network = unconv.Network(Undecided().eval(), unconv.Preprocess((12, 12)), (3, 12, 12))
    index = unconv.scan(network, pictures, tmp_path, ["relu"], batch=4, shard=16)
    assert json.loads((tmp_path / "run.json").read_text())["one_by_one"]
    files = sorted(pictures.rglob("*.png"))
    for channel, expected in enumerate(slow_loop(network, files, "relu", 9)):
        assert [(e.picture, e.position) for e in index.top("relu", channel)] == [(k, at) for _, k, at in expected]


def test_signals_and_volumes_are_scanned(tmp_path):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    for axes, layer in ((1, nn.Conv1d), (3, nn.Conv3d)):
        module = nn.Sequential(layer(2, 3, 3), nn.ReLU()).eval()
        network = unconv.Network(module, None, (2, *[8] * axes))
        array = rng.standard_normal((10, 2, *[8] * axes)).astype(np.float32)
        index = unconv.scan(network, array, tmp_path / str(axes), batch=4, shard=8)
        maps = module(torch.from_numpy(array)).flatten(2)[:, 1].amax(1)
        assert [e.picture for e in index.top("1", 1)] == maps.argsort(descending=True)[:9].tolist()
        assert len(index.top("1", 1)[0].position) == axes and len(index.top("1", 1)[0].box) == 2 * axes


def test_an_index_shows_itself_in_a_notebook_and_names_are_words(network, pictures, tmp_path):
    index = unconv.scan(network, pictures, tmp_path / "<b>index", keep=2)
    shown = index._repr_html_()
    assert "&lt;b&gt;index" in shown and "<b>index" not in shown
    assert shown.count("<tr>") == 1 + len(index.places)


def test_a_region_finds_units_that_see_more_than_two_pictures(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 41, stride=4, padding=20), torch.nn.ReLU()).eval()
    network = unconv.Network(module, unconv.Preprocess((16, 16)), (3, 16, 16))
    save_pictures(tmp_path / "p", 9)
    index = unconv.scan(network, tmp_path / "p", tmp_path / "i", keep=2)
    for region, rows in (((0, 0, 7, 16), {0, 1}), ((7, 0, 16, 16), {2, 3})):
        found = index.fires(0, region)
        assert found and {each.position[0] for each in found} <= rows
