"""Laws of a site: every link leads somewhere, tiles are the projections, stopped runs go on, names are words."""

from __future__ import annotations

import html
import io
import json
import re
import shlex
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

import unconv
from cases.sites import Page, broken_links, save_strange, scan_strange, wide
from unconv.pictures.boxes import cut
from unconv.pictures.draw import common_scale
from unconv.web import Live, contents, gathering, write_site, writing, zipped
from unconv.web.pages import seriation
from unconv.web.sheets import PairSheet, UnitSheet
from unconv.web.spool import Spool
from unconv.web.tiles import Cell, Tile, drawn, patch_tile, projection_tile, scale_of


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scanned")
    index = scan_strange(folder)
    return folder / "index", index.network


@pytest.fixture(scope="module")
def index(scanned):
    return unconv.Index(scanned[0], network=scanned[1])


@pytest.fixture(scope="module")
def site(index, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "site"
    assert write_site(index, folder) == []
    return folder


def test_a_site_that_its_network_does_not_fit_takes_no_folder(scanned, tmp_path):
    with pytest.raises(unconv.ModelError, match="not those that were scanned"):
        write_site(unconv.Index(scanned[0], network=wide(seed=4)), tmp_path / "site")
    assert not list(tmp_path.iterdir())


def test_every_link_leads_to_a_file_and_to_a_part_of_its_page(site):
    assert broken_links(site) == []


def test_every_unit_has_a_page_and_every_live_one_a_sheet(index, site):
    for unit in index.units():
        folder = site / contents.file_names(index.places, taken=("pictures",))[index.places.index(unit.place)]
        assert (folder / f"{unit.channel}.html").exists()
        assert (folder / f"{unit.channel}.webp").exists() != unit.dead


def test_from_the_front_page_every_page_is_reached(site):
    reached, left = set(), [site / "index.html"]
    while left:
        path = left.pop().resolve()
        if path in reached or path.suffix != ".html":
            continue
        reached.add(path)
        left += [path.parent / link.split("#")[0] for link in Page(path).links if link.split("#")[0].endswith(".html")]
    assert reached == {path.resolve() for path in site.rglob("*.html")}


def test_random_leads_through_all_live_units(index, site):
    start = next(site.glob("act/0.html")).resolve()
    seen, at = [], start
    while at not in seen:
        seen.append(at)
        link = re.search(r'<a href="([^"]+)">random</a>', at.read_text())[1]
        at = (at.parent / link).resolve()
    assert len(seen) == sum(not unit.dead for unit in index.units())


def test_names_of_files_classes_and_places_are_words_and_not_markup(site):
    pages = [Page(path) for path in site.rglob("*.html")]
    assert not any("b" in page.tags or "i" in page.tags for page in pages)
    assert any("<b>\"a\"&'b' é" in page.words for page in pages)
    assert not (site / "<i>last").exists() and (site / "_i_last" / "0.html").exists()


def test_a_dead_unit_says_so(site):
    assert "above zero in none of the 24 pictures" in (site / "act" / "2.html").read_text()


def spotted(sheet, spot):
    height, width = spot.cell
    return np.asarray(sheet)[spot.y : spot.y + height, spot.x : spot.x + width]


def test_small_tiles_are_the_projections_to_the_last_bit(index, site):
    made = contents.Contents(index)
    place = made.places[0]  # 3 x 3 pixels, kept without loss
    unit = place.units[0]
    sheet = Image.open(site / place.folder / "0.webp").convert("RGBA")
    where = UnitSheet(place, unit, 9)
    assert sheet.size == where.size
    one = index.projections(place.name, 0, 9, distinct=True)
    scale = scale_of([projection_tile(single.window, single.box, (24, 24), place.cell) for single in one])
    for rank, single in enumerate(one):
        inside = cut(torch.ones(1, 24, 24), single.box)[0].numpy() > 0
        grey = np.clip(np.round((single.window.numpy() / (2 * scale) + 0.5) * 255), 0, 255).transpose(1, 2, 0)
        shown = spotted(sheet, where.projection(rank))
        assert (shown[..., 3] > 0).tolist() == inside.tolist()
        assert np.abs(shown[..., :3].astype(int) - grey)[inside].max() <= 1
        patch = np.round(cut(single.shown, single.box).numpy().transpose(1, 2, 0) * 255)
        assert np.array_equal(spotted(sheet, where.patch(rank))[..., :3][inside], patch[inside])


def test_values_on_a_page_are_those_of_the_index(index, site):
    words = Page(site / "act" / "1.html").words
    for entry in index.top("act", 1, 9, distinct=True):
        assert f"{float(f'{entry.value:.3g}'):.10g}" in words
        assert entry.key.split("/")[-1] in words


def test_pictures_say_of_which_units_they_are_among_the_strongest(index, site):
    made = contents.Contents(index)
    for picture, units in made.among.items():
        page = Page(site / made.picture_page(picture).split("#")[0])
        assert {f"../{made.unit_page(unit)}" for unit, _ in units} <= set(page.links)


class Stop(BaseException):
    pass


@pytest.mark.parametrize("after", [1, 2, 40, 200, 360])
def test_a_site_that_was_stopped_goes_on_and_is_the_same(index, site, tmp_path, monkeypatch, after):
    puts = []
    put = Spool.put

    def stopping(self, *args, **kwargs):
        puts.append(args)
        self.flush()
        if len(puts) == after:
            raise Stop
        put(self, *args, **kwargs)

    monkeypatch.setattr(Spool, "put", stopping)
    with pytest.raises(Stop):
        write_site(index, tmp_path / "site")
    kept = puts[: after - 1]
    again = []
    monkeypatch.setattr(
        Spool, "put", lambda self, name, *args, **kwargs: (again.append(name), put(self, name, *args, **kwargs))
    )
    told = tmp_path / "site" / "site.json"
    assert not told.exists() or not json.loads(told.read_text())["whole"]
    with (tmp_path / "site" / "tiles.partial").open("ab") as file:
        file.write(b"\x07" * 33)  # the torn end of a record
    assert write_site(index, tmp_path / "site") == []
    assert len({name for name, *_ in kept} & set(again)) <= 1  # what was gathered is not gathered again, but for a half pair
    files = {path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()}
    gone_on = tmp_path / "site"
    assert {path.relative_to(gone_on): path.read_bytes() for path in gone_on.rglob("*") if path.is_file()} == files


def test_a_site_that_is_whole_is_not_made_again(index, site, monkeypatch):
    monkeypatch.setattr(gathering.Gathering, "run", None)
    assert write_site(index, site) == []


def test_a_site_of_other_settings_and_a_folder_of_somebody_are_refused(index, site, tmp_path):
    with pytest.raises(unconv.UnconvError, match="other settings"):
        write_site(index, site, n=3)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(unconv.UnconvError, match="something other than a site of unconv"):
        write_site(index, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("n", [0, 65])
def test_more_pictures_than_a_page_can_place_are_refused(index, tmp_path, n):
    with pytest.raises(unconv.ShapeError, match="1 to 64 were needed"):
        write_site(index, tmp_path / "site", n=n)


def test_the_command_on_a_page_is_one_that_a_shell_takes(index, tmp_path):
    write_site(index, tmp_path / "site", n=2, distinct=False)
    shown = re.search(r"<code>(unconv figure [^<]*)</code>", (tmp_path / "site" / "_i_last" / "0.html").read_text())
    assert shlex.split(html.unescape(shown[1]))[3:5] == ["--at", "<i>last"]
    front = html.unescape((tmp_path / "site" / "index.html").read_text())
    assert "unconv site index -n 2 --method deconvnet --no-distinct" in front


def test_what_a_run_left_that_was_stopped_at_its_very_end_is_taken_away(index, site):
    (site / "tiles.partial").write_bytes(b"left over")
    assert write_site(index, site) == []
    assert not (site / "tiles.partial").exists()


def test_a_front_page_of_many_places_is_no_taller_than_webp(index):
    unit = next(unit for unit in contents.Contents(index).units if unit.top)
    assert PairSheet.front([unit] * 9 * 400).size[1] <= 16383


def test_a_projection_that_is_not_finite_is_refused():
    with pytest.raises(unconv.NonFinite, match="not finite"):
        projection_tile(torch.full((3, 4, 4), torch.inf), (0, 0, 4, 4), (9, 9), Cell((4, 4), 4, 4))


def test_pictures_that_are_not_square_have_tiles_that_are_not(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 9, stride=4), torch.nn.ReLU(), torch.nn.Conv2d(3, 2, 3)).eval()
    network = unconv.Network(module, unconv.Preprocess((60, 24)), (3, 60, 24))
    save_strange(tmp_path / "pictures", 6)
    index = unconv.scan(network, tmp_path / "pictures", tmp_path / "index", places=["1"], keep=4)
    assert write_site(index, tmp_path / "site", n=3) == []
    assert broken_links(tmp_path / "site") == []
    assert Live(network, index).facts()["places"][0]["cell"] == [9, 9]
    with Image.open(tmp_path / "site" / "pictures" / "0000.webp") as sheet:
        assert sheet.size == (24 * len(contents.Contents(index, 3).among), 60)


def test_two_processes_do_not_write_one_site(index, tmp_path):
    (tmp_path / "site").mkdir()
    with Spool(tmp_path / "site" / "tiles.partial", "a"), pytest.raises(unconv.UnconvError, match="another process"):
        Spool(tmp_path / "site" / "tiles.partial", "a")


def test_a_picture_that_is_gone_is_named_and_the_site_is_finished_when_it_is_back(tmp_path):
    save_strange(tmp_path / "pictures")
    network = wide()
    unconv.scan(network, tmp_path / "pictures", tmp_path / "index", keep=12)
    index = unconv.Index(tmp_path / "index", network=network)
    gone = index.pictures()[index.top("act", 0)[0].picture]
    path = tmp_path / "pictures" / gone.key
    content = path.read_bytes()
    path.unlink()
    notes = write_site(index, tmp_path / "site", distinct=False)
    assert len(notes) == 1 and gone.key in notes[0]
    assert broken_links(tmp_path / "site") == []
    assert "not there any more" in (tmp_path / "site" / "act" / "0.html").read_text()
    assert gone.key.split("/")[-1] in Page(tmp_path / "site" / "index.html").words
    path.write_bytes(content)
    assert write_site(index, tmp_path / "site", distinct=False) == []
    assert "not there any more" not in (tmp_path / "site" / "act" / "0.html").read_text()


def test_a_zip_holds_the_whole_site(site, tmp_path):
    zipped(site, tmp_path / "site.zip")
    with zipfile.ZipFile(tmp_path / "site.zip") as packed:
        names = {name.split("/", 1)[1] for name in packed.namelist()}
        assert packed.testzip() is None
    assert names == {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}


def test_an_index_without_maxima_and_labels_has_a_site(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (8, 24, 24, 3), dtype=np.uint8)
    network = wide()
    index = unconv.scan(network, images, tmp_path / "index", keep=9, maxima=False)
    assert write_site(index, tmp_path / "site") == []
    assert broken_links(tmp_path / "site") == []
    assert "Similar units" not in (tmp_path / "site" / "act" / "0.html").read_text()


def test_a_network_without_pictures_is_refused(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3), torch.nn.ReLU()).eval()
    network = unconv.Network(module, None, (1, 16))
    index = unconv.scan(network, np.random.default_rng(0).random((4, 1, 16), dtype=np.float32), tmp_path / "index", keep=2)
    with pytest.raises(unconv.ShapeError, match="takes no pictures"):
        write_site(index, tmp_path / "site", n=2)


@pytest.mark.parametrize("channels, cell", [(1, 48), (512, 48), (4096, 48), (9000, 40), (30000, 10)])
def test_walls_are_no_larger_than_browsers_show(index, channels, cell):
    place = contents.Contents(index).places[1]
    unit = place.units[0]
    place = contents.ShownPlace(1, place.facts, "x", Cell((96, 96), 96, 96), Cell((96, 96), cell, cell), [unit] * channels)
    width, height = PairSheet.wall(place).size
    assert width <= 2048 and height <= 16383


def test_a_spool_gives_back_what_it_took(tmp_path):
    rng = np.random.default_rng(0)
    tiles = {
        ("a", 1): Tile(rng.integers(0, 256, (3, 4, 5)).astype(np.uint8), (0, 1, 4, 6), (9, 9)),
        ("b", 2): Tile(rng.integers(-9, 9, (1, 2, 2)).astype(np.int16), (-1, 0, 1, 2), (9, 9), 0.25),
    }
    with Spool(tmp_path / "tiles", "run") as spool:
        for name, tile in tiles.items():
            spool.put(name, tile, note="é")
    with Spool(tmp_path / "tiles", "run") as spool:
        for name, tile in tiles.items():
            found = spool.get(name)
            assert np.array_equal(found.samples, tile.samples) and found.samples.dtype == tile.samples.dtype
            assert (found.box, found.frame, found.step) == (tile.box, tile.frame, tile.step)
            assert spool.words(name)["note"] == "é"
    with Spool(tmp_path / "tiles", "another run") as spool:
        assert ("a", 1) not in spool


@pytest.mark.parametrize("box", [(0, 0, 24, 24), (-5, 3, 19, 27), (20, 20, 30, 30), (-10, -10, 34, 34)])
def test_a_patch_is_transparent_where_it_lies_outside(box):
    image = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0))
    cell = Cell((24, 24), 24, 24)
    tile = patch_tile(image, box, cell)
    picture = drawn(tile)
    inside = cut(torch.ones(1, 24, 24), tile.box)[0] > 0
    alpha = torch.from_numpy(np.asarray(picture.convert("RGBA"))[..., 3] > 0)
    assert torch.equal(alpha, inside)


def test_a_white_picture_is_white_to_its_edge():
    image, cell = torch.ones(3, 90, 90), Cell((90, 90), 31, 31)
    tile = patch_tile(image, (-41, 20, 49, 110), cell)
    assert (tile.samples[:, tile.inside] == 255).all()


def test_the_scale_is_that_of_reports():
    rng = np.random.default_rng(0)
    tiles = [
        Tile(rng.integers(-30000, 30000, (3, 9, 9)).astype(np.int16) * (k > 0), (0, 0, 9, 9), (9, 9), 0.01 * k)
        for k in range(4)
    ]
    assert scale_of(tiles) == pytest.approx(common_scale([torch.from_numpy(tile.values()) for tile in tiles]), rel=1e-6)
    assert scale_of([]) == scale_of(tiles[:1]) == 0.0


def test_seriation_takes_every_channel_once_and_neighbours_are_alike():
    angles = np.random.default_rng(1).permutation(np.linspace(0, np.pi, 40))
    points = np.stack([np.cos(angles), np.sin(angles)], 1)
    order = seriation(points @ points.T)
    assert sorted(order) == list(range(40))
    steps = np.abs(np.diff(angles[order]))
    assert np.median(steps) < 2 * np.pi / 39


def test_the_files_are_webp_and_the_pages_need_no_script(site):
    for path in site.rglob("*.webp"):
        assert Image.open(io.BytesIO(path.read_bytes())).format == "WEBP"
    assert not any("<script>" in path.read_text() for path in site.rglob("*.html"))
    assert not (site / writing.SPOOL).exists()
