"""`FILE.py:factory`: modules beside the file can be imported and are unloaded afterwards; other results are refused."""

from __future__ import annotations

import sys
import types

import pytest

import unconv
from unconv.errors import ModelError

NET = """
from torch import nn

def make(width={width}):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU())
"""


def channels(spec):
    return [place.channels for place in unconv.load(str(spec), input_size=(3, 8, 8)).places()]


def folder(path, **files):
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / f"{name}.py").write_text(content)
    return path


@pytest.fixture(autouse=True)
def _nothing_stays():
    modules, places = dict(sys.modules), list(sys.path)
    yield
    assert sys.path == places
    new = {name for name in sys.modules if name not in modules and not name.startswith("unconv")}
    assert not new & {"layers", "blocks", "nets", "widths"}
    assert all(sys.modules.get(name) is module for name, module in modules.items() if not name.startswith("unconv_factory"))


def test_a_file_imports_what_lies_beside_it(tmp_path):
    net = f"from layers import WIDTH\nimport blocks.deep\n{NET.format(width='WIDTH + blocks.deep.MORE')}"
    here = folder(tmp_path, layers="WIDTH = 4", net=net)
    folder(tmp_path / "blocks", __init__="", deep="from layers import WIDTH\nfrom .more import MORE", more="MORE = 2")
    assert channels(f"{here / 'net.py'}:make") == [6, 6]


def test_files_of_one_name_in_two_folders_are_two(tmp_path):
    for number, name in enumerate(("one", "two"), start=2):
        folder(tmp_path / name, layers=f"WIDTH = {number}", net=f"from layers import WIDTH\n{NET.format(width='WIDTH')}")
    for number, name in ((2, "one"), (3, "two"), (2, "one")):
        assert channels(f"{tmp_path / name / 'net.py'}:make") == [number, number]


def test_a_file_in_a_package_imports_relatively_and_by_full_name(tmp_path):
    folder(tmp_path / "nets", __init__="", widths="WIDTH = 5")
    head = "from ..widths import WIDTH\nfrom .near import MORE\nfrom nets.widths import WIDTH as SAME\nassert WIDTH == SAME\n"
    here = folder(tmp_path / "nets" / "small", __init__="", near="MORE = 1", net=head + NET.format(width="WIDTH + MORE"))
    assert channels(f"{here / 'net.py'}:make") == [6, 6]


def test_what_the_program_has_loaded_from_elsewhere_is_not_mistaken_for_what_lies_beside(tmp_path, monkeypatch):
    mine = types.ModuleType("layers")
    mine.WIDTH = 9
    monkeypatch.setitem(sys.modules, "layers", mine)
    here = folder(tmp_path, layers="WIDTH = 4", net=f"from layers import WIDTH\n{NET.format(width='WIDTH')}")
    assert channels(f"{here / 'net.py'}:make") == [4, 4]
    assert sys.modules["layers"] is mine


def test_a_file_beside_it_called_as_a_library_does_not_replace_that(tmp_path):
    here = folder(tmp_path, torch="raise SystemExit('no')", random="raise SystemExit('no')", net=NET.format(width=4))
    assert channels(f"{here / 'net.py'}:make") == [4, 4]


def test_what_a_factory_prints_does_not_mix_with_results(tmp_path, capsys):
    here = folder(tmp_path, net=f"print('loading')\n{NET.format(width=4)}    print('never')\n")
    channels(f"{here / 'net.py'}:make")
    out, err = capsys.readouterr()
    assert (out, "loading" in err) == ("", True)


REFUSED = {
    "def make(width, *, depth): pass": r"net\.py:make needs arguments \(width, depth\).*def mine\(\): return make\(\.\.\), and",
    "class make(nn.Module):\n    def __init__(self, width): pass": r"net\.py:make needs arguments \(width\)",
    "def make(): return nn.ReLU(), {}": r"returned tuple of ReLU, dict, but a torch\.nn\.Module .* Return only the network",
    "def make(): return {'net': nn.ReLU()}": r"returned dict, but .* Return only the network from make",
    "def make(): return nn.ReLU": r"returned the class ReLU, but .* Return an instance from make: ReLU\(\.\.\)",
    "def make(): return nn.Linear(2, 2).state_dict()": r"returned a state dict, but .* Build the network in make, load",
    "async def make(): pass": r"returned coroutine, but a torch\.nn\.Module was needed",
    "def make():\n    raise ValueError('no such width')": r"raised ValueError: no such width \(line 3 of net\.py\)\. Fix it",
    "def make():\n    raise SystemExit(2)": r"raised SystemExit: 2 \(line 3 of net\.py\)",
    "import nowhere_at_all": r"cannot be run: ModuleNotFoundError: No module named 'nowhere_at_all' \(line 2 of net\.py\)",
    "from .layers import WIDTH": r"cannot be run: ImportError: .* For relative imports, put an empty __init__\.py into",
    "def make(:": r"cannot be run: SyntaxError: invalid syntax",
    "import argparse\nargparse.ArgumentParser().parse_args(['--no'])": r"cannot be run: SystemExit: 2",
}


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.parametrize("text", REFUSED)
def test_what_makes_no_network_is_refused_in_words(tmp_path, text):
    here = folder(tmp_path, net=f"from torch import nn\n{text}\n")
    with pytest.raises(ModelError, match=REFUSED[text]):
        unconv.load(f"{here / 'net.py'}:make")


def test_a_class_that_needs_nothing_is_a_factory(tmp_path):
    here = folder(
        tmp_path, net="from torch import nn\nclass Net(nn.Conv2d):\n    def __init__(self): super().__init__(3, 4, 3)\n"
    )
    assert channels(f"{here / 'net.py'}:Net") == [4]


def test_an_import_while_the_network_runs_is_refused_in_words(tmp_path):
    text = (
        "from torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n        import layers\n        return x * 2\n"
    )
    here = folder(tmp_path, layers="", net=text)
    with pytest.raises(
        ModelError, match=r"imports a module while it runs, and fails: No module named 'layers'\. Import it at the top"
    ):
        channels(f"{here / 'net.py'}:Net")
