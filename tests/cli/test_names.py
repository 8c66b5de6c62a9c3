"""Names out of other people's files are shown as they are: no markup, no HTML, nothing that steers a terminal."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
import torch

import unconv
from unconv.cli.progress import print_table, remark
from unconv.errors import NoSuchLayer, PictureError, UnconvError, printable

NAMES = {
    "markup": "[red]x[/b]",
    "emoji": ":warning:",
    "tag": "<img src=x onerror=alert(1)>",
    "entity": "&lt;b&gt;",
    "terminal": "\x1b[2J\x1b]0;owned\x07",
    "line": "a\nb\r",
    "reversed": "x\u202eyp.",
    "jinja": "{{ 7 * 7 }}{% raw %}",
    "path": "../../../x",
    "quotes": "\"'` --",
    "python": "__import__('os').system('true')",
}


@pytest.fixture(params=NAMES.values(), ids=NAMES)
def odd(request, tmp_path, monkeypatch):
    """A file whose node has an odd name, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)).numpy(), "w")
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["h"], name=request.param, kernel_shape=[3, 3]),
        helper.make_node("Relu", ["h"], ["out"], name=request.param + "2"),
    ]
    ports = [helper.make_tensor_value_info("image", kind, [1, 3, 16, 16])]
    ends = [helper.make_tensor_value_info("out", kind, [1, 4, 14, 14])]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", ports, ends, [weight])), tmp_path / "odd.onnx")
    return request.param


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.handlers: set[str] = set()
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        self.handlers |= {name for name, _ in attrs if name.startswith("on")}

    def handle_data(self, data):
        self.words.append(data)


def read(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


def steers(text: str) -> list[str]:
    return re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\u2066-\u2069]", text)


@pytest.mark.parametrize("command", ["places", "check", pytest.param("bench", marks=pytest.mark.slow)])
def test_a_command_prints_them_as_they_are(odd, unconv_command, command):
    status, out, err = unconv_command(command, "onnx:odd.onnx")
    assert status == 0, err
    assert not steers(out + err)
    if command != "check":
        assert printable(unconv.load("onnx:odd.onnx").places()[0].name) in out


def test_an_error_shows_them(odd, unconv_command):
    status, _, err = unconv_command("project", "onnx:odd.onnx", "p.png", "--at", "nothing")
    assert status == 1 and len(err.splitlines()) == 1 and not steers(err)
    with pytest.raises(NoSuchLayer) as caught:
        unconv.load("onnx:odd.onnx").project(torch.rand(3, 16, 16), "nothing")
    assert not steers(str(caught.value))


def test_a_notebook_shows_them(odd):
    network = unconv.load("onnx:odd.onnx")
    found = network.project(torch.rand(3, 16, 16), network.places()[0].name)
    tags = read(found._repr_html_())
    assert tags.found == {"figure", "img", "figcaption", "b"} and not tags.handlers
    assert network.places()[0].name in "".join(tags.words)


def test_pages_show_them(odd, unconv_command, tmp_path):
    import numpy as np
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save("p.png")
    status, out, err = unconv_command("project", "onnx:odd.onnx", "p.png", "--json", "-o", "pages")
    assert status == 0, err
    assert not steers(out)
    pages = list((tmp_path / "pages").rglob("*.html"))
    assert pages and {path.name for path in tmp_path.iterdir()} == {"odd.onnx", "p.png", "pages"}
    for page in pages:
        tags = read(page.read_text())
        assert not tags.handlers, page
    place = json.loads(out)["layers"][0]["place"]
    assert any(place.split()[0] in "".join(read(page.read_text()).words) for page in pages)


def test_every_error_of_ours_is_printable():
    assert str(PictureError("\x1b[31m a\nb")) == "\\x1b[31m a\nb"
    assert str(UnconvError("plain é 中 ×")) == "plain é 中 ×"


@pytest.mark.parametrize("text", ["a\x1bb", "\x9b1m", "a\u202eb", "\ud800", "a\u2028b", "\x7f"])
def test_what_steers_a_terminal_is_shown(text, capsys):
    assert printable(text).isprintable() and printable(text) != text
    remark(text, quiet=False)
    print_table(("place", "n"), [(text, "1")], title=text)
    assert not steers("".join(capsys.readouterr()))
