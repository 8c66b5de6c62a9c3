"""What the docs say is run."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageStat
from torch import nn
from torchvision import models

import unconv
from cases.networks import DATA
from unconv import ops
from unconv.reverse.rules import KEEPERS, REACHES, RULES

ROOT = Path(__file__).parents[1]


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.S)


def test_the_command_reference_is_what_help_says():
    names = runpy.run_path(str(ROOT / "docs" / "write_cli.py"))
    assert (ROOT / "docs" / "cli.md").read_text() == names["reference"]()
    assert (ROOT / "docs" / "cli.zh-CN.md").read_text() == names["chinese"]()


def test_each_command_on_the_page_in_chinese_leads_to_its_section_of_the_reference():
    headings = re.findall(r"^### `(.*)`$", (ROOT / "docs" / "cli.md").read_text(), re.M)
    anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    assert re.findall(r"cli\.md#([\w-]+)", (ROOT / "docs" / "cli.zh-CN.md").read_text()) == anchors


@pytest.fixture
def tables_as_they_were():
    before = [dict(table) for table in (RULES, REACHES, KEEPERS)]
    yield
    for table, rows in zip((RULES, REACHES, KEEPERS), before, strict=True):
        table.clear()
        table.update(rows)


def test_the_rule_in_adding_an_operation_works(tables_as_they_were):
    class Mixed(nn.Module):
        def forward(self, x):
            return torch.lerp(x, x.flip(2), 0.25).relu()

    network = unconv.Network(Mixed(), input_size=(1, 5, 6))
    image = torch.rand(1, 5, 6)
    with pytest.raises(unconv.NoRule, match=r"aten.lerp.Scalar \(at lerp\)"):
        network.project(image, "relu")
    exec(blocks("docs/adding-an-operation.md")[0], {})
    found = network.project(image, "relu", channels=0, unit=(0, 3))
    share = found.pixels()[0, 0, :, 3] / found.values
    assert torch.allclose(share, torch.tensor([0.75, 0, 0, 0, 0.25]))


def test_rules_of_one_s_own_change_one_method_alone(capsys):
    exec(blocks("docs/adding-an-operation.md")[1], {})
    assert capsys.readouterr().out == "tensor(2.)\n"


def test_the_code_on_rectifiers_and_gates_runs():
    (code,) = blocks("docs/rectifiers-and-gates.md")
    exec(code, {})


def test_the_code_on_projections_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks("docs/projections.md")), {})
    assert {path.name for path in tmp_path.iterdir()} == {"nine.png", "several.png"}
    assert "astronaut.jpg" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs(example, tmp_path):
    done = subprocess.run([sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_readme_s_code_runs_as_written(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for code in blocks(page):
        exec(code, {})


def likeness(first, second):
    """The mean difference of two pictures' samples, or of two animations' first frames."""
    with Image.open(first) as one, Image.open(second) as other:
        assert one.size == other.size
        return ImageStat.Stat(ImageChops.difference(one.convert("L"), other.convert("L"))).mean[0]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["transposed-convolution.md", "transposed-convolution.zh-CN.md"])
def test_the_pages_on_transposed_convolution_show_what_their_code_gives(page, tmp_path):
    executed = runpy.run_path(str(ROOT / "docs" / "write_steps.py"))["executed"]
    assert executed(page, tmp_path) == (ROOT / "docs" / page).read_text()
    made = list((tmp_path / "images").iterdir())
    assert len(made) == 8
    for picture in made:
        assert likeness(picture, ROOT / "docs" / "images" / picture.name) < 2
        shown = picture.stem + (".zh-CN" if "zh-CN" in page else "") + picture.suffix
        assert f"(images/{shown})" in (ROOT / "docs" / page).read_text()
        assert (ROOT / "docs" / "images" / shown).is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")  # captum's
def test_the_page_on_captum_and_zennit_shows_what_its_code_gives(tmp_path):
    for peer in ("captum", "zennit"):
        pytest.importorskip(peer, reason=f"{peer} is absent: pip install captum zennit")
    executed = runpy.run_path(str(ROOT / "docs" / "write_steps.py"))["executed"]
    assert executed("peers.md", tmp_path) == (ROOT / "docs" / "peers.md").read_text()


@pytest.mark.slow
def test_the_tutorial_shows_what_its_code_gives(tmp_path):
    executed = runpy.run_path(str(ROOT / "docs" / "write_steps.py"))["executed"]
    page = (ROOT / "docs" / "tutorial.md").read_text()
    assert executed("tutorial.md", tmp_path) == page
    for name, most in {"layers": 4, "units": 2}.items():  # the first is dithered in the docs
        assert likeness(tmp_path / "images" / f"tutorial-{name}.png", ROOT / "docs" / "images" / f"tutorial-{name}.png") < most
        assert f"(images/tutorial-{name}.png)" in page


def test_the_tutorial_prints_what_tensorflow_prints():
    # As TensorFlow 2.21 printed them: conv2d, conv2d_transpose, max_pool_with_argmax, scatter_nd.
    small = np.full((1, 2, 2, 1), -2, np.float32)
    large = np.tile(np.array([[-2, 0], [2, 4]], np.float32), (2, 2))
    pooled = np.array([[[[1, 5], [1, 5]], [[3, 7], [3, 7]]]], np.float32)
    mask = np.array([[[[8, 9], [12, 13]], [[24, 25], [28, 29]]]])
    unpooled = np.zeros(32, np.float32)
    unpooled[mask] = pooled
    maps = unpooled.reshape(1, 4, 4, 2)
    printed = blocks("docs/tutorial.md", "text")
    assert printed[0] == f"{small}\n{small}\n"
    assert printed[1] == f"{large}\n"
    assert printed[2] == f"{large.reshape(1, 4, 4, 1)}\nTrue True\n"
    assert printed[4] == f"{pooled}\n{mask}\n"
    assert printed[5] == f"{maps}\n{maps[0, :, :, 0]}\n{maps[0, :, :, 1]}\n"


NUMBER = re.compile(r"-?\d+\.\d+")


@pytest.mark.slow
def test_the_page_on_deconvolution_shows_what_its_code_gives(tmp_path):
    pytest.importorskip("pywt", reason="PyWavelets is absent: pip install PyWavelets")
    executed = runpy.run_path(str(ROOT / "docs" / "write_steps.py"))["executed"]
    pictures = runpy.run_path(str(ROOT / "docs" / "write_deconvolution.py"))["pictures"]
    names = {}
    made, page = executed("deconvolution.md", tmp_path, names), (ROOT / "docs" / "deconvolution.md").read_text()
    assert NUMBER.sub("#", made) == NUMBER.sub("#", page)
    decibels = [[float(number) for number in NUMBER.findall(text)] for text in (made, page)]
    assert decibels[0] == pytest.approx(decibels[1], abs=0.3)
    pictures(names, tmp_path / "images")
    for name in ("telephone", "adjoint-and-inverse", "deblurred", "boundary"):
        assert likeness(tmp_path / "images" / f"{name}.png", ROOT / "docs" / "images" / f"{name}.png") < 2
        assert f"(images/{name}.png)" in page


ANY_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "inverse").is_dir(), reason="real signals are absent; set UNCONV_DATA to their folder")
def test_the_page_on_spikes_shows_what_its_code_gives(tmp_path, monkeypatch):
    for library in ("obspy", "segyio", "scipy", "matplotlib"):
        pytest.importorskip(library, reason=f"{library} is absent: pip install {library}")
    monkeypatch.setenv("UNCONV_DATA", str(DATA))
    executed = runpy.run_path(str(ROOT / "docs" / "write_steps.py"))["executed"]
    pictures = runpy.run_path(str(ROOT / "docs" / "write_spikes.py"))["pictures"]
    names = {}
    made, page = executed("spikes.md", tmp_path, names), (ROOT / "docs" / "spikes.md").read_text()
    assert ANY_NUMBER.sub("#", made) == ANY_NUMBER.sub("#", page)
    numbers = [[float(number) for number in ANY_NUMBER.findall(text)] for text in (made, page)]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.05, abs=0.02)
    pictures(names, tmp_path / "images")
    for name in ("spikes", "echoes"):
        assert likeness(tmp_path / "images" / f"{name}.png", ROOT / "docs" / "images" / f"{name}.png") < 2


@pytest.mark.slow
def test_the_page_on_channels_shows_what_its_code_gives(tmp_path):
    executed = runpy.run_path(str(ROOT / "docs" / "write_steps.py"))["executed"]
    assert_the_same(executed("channels.md", tmp_path), "channels.md")


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "inverse").is_dir(), reason="real signals are absent; set UNCONV_DATA to their folder")
def test_the_page_on_speech_shows_what_its_code_gives(tmp_path, monkeypatch):
    for library in ("soundfile", "h5py"):
        pytest.importorskip(library, reason=f"{library} is absent: pip install {library}")
    monkeypatch.setenv("UNCONV_DATA", str(DATA))
    executed = runpy.run_path(str(ROOT / "docs" / "write_steps.py"))["executed"]
    assert_the_same(executed("speech.md", tmp_path), "speech.md")


def assert_the_same(made: str, name: str) -> None:
    """A page as it was made just now has the words of the one that is there, and its numbers within 5 %."""
    page = (ROOT / "docs" / name).read_text()
    assert ANY_NUMBER.sub("#", made) == ANY_NUMBER.sub("#", page)
    numbers = [[float(number) for number in ANY_NUMBER.findall(text)] for text in (made, page)]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.05, abs=0.02)


CHINESE = runpy.run_path(str(ROOT / "docs" / "write_chinese.py"))
BOTH = [*CHINESE["names"](), "../CHANGELOG", "../CONTRIBUTING", "../SECURITY"]


def in_both(name: str) -> tuple[str, str]:
    """A page in English, and in Chinese."""
    english, chinese = ((ROOT / "docs" / f"{name}{ending}.md").read_text() for ending in ("", ".zh-CN"))
    return english, chinese


@pytest.mark.parametrize("name", BOTH)
def test_the_two_languages_show_the_same_blocks_and_cells_without_words(name):
    english, chinese = in_both(name)
    assert CHINESE["refreshed"](chinese, english) == chinese


@pytest.mark.parametrize("name", BOTH)
def test_the_tables_of_the_two_languages_have_the_same_numbers(name):
    rows = [[row for table in CHINESE["tables"](page) for _, row in table] for page in in_both(name)]
    assert len(rows[0]) == len(rows[1])
    assert not [pair for pair in zip(*rows, strict=True) if len({tuple(sorted(ANY_NUMBER.findall(row))) for row in pair}) > 1]


def named_in_sections(page: str) -> list[set[str]]:
    """What each section has in code, outside blocks and tables; formulas may have words, and are left out."""
    text = re.sub(r"^```.*?^```$|^\|.*$", "", page, flags=re.S | re.M)
    sections = re.split(r"^#+ .*$", text, flags=re.M)
    found = [re.findall(r"`[^`]+`", re.sub(r"\s+", " ", section)) for section in sections]
    return [{code for code in codes if " log" not in code} for codes in found]


@pytest.mark.parametrize("name", BOTH)
def test_the_sections_of_the_two_languages_name_the_same_things(name):
    english, chinese = (named_in_sections(page) for page in in_both(name))
    assert english == chinese


@pytest.mark.parametrize("name", sorted(path.name.removesuffix(".zh-CN.md") for path in (ROOT / "docs").glob("*.zh-CN.md")))
def test_the_two_languages_show_the_same_pictures_and_lead_to_each_other(name):
    english, chinese = (re.findall(r"\(images/[^)]*\)", page) for page in in_both(name))
    assert english == [picture.replace(".zh-CN", "") for picture in chinese]
    assert f"]({name}.zh-CN.md)" in in_both(name)[0]
    assert f"]({name}.md)" in in_both(name)[1]


def test_a_page_that_drifts_is_not_the_same():
    english, chinese = (f"| {head} |\n|---|\n| 2.5 ms |\n\n```sh\nrun\n```\n" for head in ("time", "时间"))
    assert CHINESE["refreshed"](chinese, english) == chinese
    assert CHINESE["refreshed"](chinese.replace("2.5", "2.4").replace("run", "go"), english) == chinese
    with pytest.raises(ValueError, match="rows in table 1: 3 in English, but 2 in Chinese"):
        CHINESE["refreshed"](chinese.replace("| 2.5 ms |\n", ""), english)


def test_every_model_of_torchvision_is_on_the_page_of_networks():
    page = (ROOT / "docs" / "networks.md").read_text()
    assert not [name for name in models.list_models() if f"`{name}`" not in page]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alexnet", "shufflenet_v2_x0_5"])
def test_a_row_of_the_page_of_networks_is_what_the_script_finds(name):
    names = runpy.run_path(str(ROOT / "docs" / "write_networks.py"))
    found = " | ".join(names["cells"]([names["measured"](name, "models")]))
    rows = [line for line in (ROOT / "docs" / "networks.md").read_text().splitlines() if line.startswith("|")]
    assert [row.split(" | ", 1)[1] for row in rows if f"`{name}`" in row] == [f"{found} |"]


def test_the_tables_of_networks_in_chinese_are_those_in_english():
    english, chinese = in_both("networks")
    assert runpy.run_path(str(ROOT / "docs" / "write_networks.py"))["chinese"](chinese, english) == chinese
    cells = re.sub(r"`[^`]*`", "", "\n".join(row for table in CHINESE["tables"](chinese) for _, row in table))
    words = set(re.findall(r"[A-Za-z]{3,}", cells))  # names of functions and methods are no words
    assert words <= {"gradient", "deconvnet", "relu", "leaky", "hardswish", "silu", "gelu"}


def test_every_op_is_on_its_page():
    page = (ROOT / "docs" / "ops.md").read_text()
    assert not [name for name in ops.__all__ if f"`{name}`" not in page]


PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def named(page: Path) -> set[str]:
    """The names of ours on a page that are written with dots; what code imports is run elsewhere."""
    text = re.sub(r"^ *from unconv.*$", "", page.read_text(), flags=re.M)
    dotted = set(re.findall(r"(?<![\w./-])unconv(?:\.[A-Za-z_]\w*)+(?!\w*[/:])", text))
    return {name for name in dotted if not re.search(r"\.(md|py|toml|html)$", name)}


@pytest.mark.slow
def test_every_dotted_name_in_the_docs_is_reached_from_unconv():
    code = "import sys, operator, unconv\nfor name in sys.argv[1:]: operator.attrgetter(name)(unconv)"
    names = sorted({name.removeprefix("unconv.") for page in PAGES for name in named(page)})
    assert {"inverse.psf", "inverse.fields.image.deblur", "load"} <= set(names)
    # In a process of its own, where nothing but `import unconv` has happened.
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


def test_the_page_on_scans_runs_and_both_languages_say_the_same(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    english, chinese = (blocks(f"docs/scan{name}.md") for name in ("", ".zh-CN"))
    without_remarks = [[line.partition("  #")[0] for line in block.splitlines()] for block in (*english, *chinese)]
    assert without_remarks[0] == without_remarks[1]
    exec(english[0], {})
    assert (tmp_path / "unit.png").exists()
    assert "Fires(place=" in capsys.readouterr().out
