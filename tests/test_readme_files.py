"""Whoever copies the READMEs' commands, from the first to the last, has every file that they name."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READMES = ["README.md", "README.zh-CN.md"]
WRITES = "examples/readme_files.py"

# What a word of a command has to look like to be a file: a known ending, perhaps of a factory in it, or a folder.
FILE = re.compile(
    r"^[\w./*-]+\.(py|jpg|png|pdf|safetensors|sgy|mseed|xml|npy|csv|html|wav|txt|cf32|bin|sigmf-meta)(?=$|:)|^[\w.-]+/$"
)
OUTPUTS = {"-o", "--out", "--picture", "--bits", "--remove-echo"}
IN_OUT = {"spikes", "dereverb"}  # commands whose second file is their result


def commands(readme: str) -> list[list[str]]:
    """Split every line of the shell blocks into words, without remarks."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / readme).read_text(), re.S)
    return [words for block in blocks for line in block.splitlines() if (words := shlex.split(line, comments=True))]


def named(words: list[str]) -> tuple[set[str], set[str]]:
    """Sort the files of one command into those that it reads and those that it writes."""
    files = [(before, found[0]) for before, word in zip(["", *words], words, strict=False) if (found := FILE.match(word))]
    writes = {name for before, name in files if before in OUTPUTS}
    if words[0] == "unconv" and words[1] in IN_OUT:
        writes.add(files[1][1])
    return {name for _, name in files} - writes, writes


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    for library in ("obspy", "segyio"):
        pytest.importorskip(library, reason=f"{library} is absent: pip install {library}")
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [WRITES, str(folder)])
        runpy.run_path(str(ROOT / WRITES), run_name="__main__")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("readme", READMES)
def test_every_file_of_a_command_is_there_before_it_is_named(readme, written):
    folders, earlier, absent, reads = [ROOT], set(), [], 0
    for words in commands(readme):
        if WRITES in words:
            folders.append(written)
        reading, writing = named(words)
        reads += len(reading)
        absent += [name for name in reading - earlier if not any(any(folder.glob(name)) for folder in folders)]
        earlier |= writing
    assert reads > 10
    assert not absent


def test_files_are_told_from_other_words():
    words = "unconv project my_network.py:make dog.jpg --mean 0.5 --at features.7 -o out.png photos/ torchvision:vgg16"
    assert named(words.split()) == ({"my_network.py", "dog.jpg", "photos/"}, {"out.png"})


@pytest.mark.parametrize("readme", READMES)
def test_extras_are_named_in_both_ways_and_exist(readme):
    text, project = (ROOT / readme).read_text(), (ROOT / "pyproject.toml").read_text()
    extras = set(re.findall(r"^(\w+) = \[", project.partition("optional-dependencies]")[2].partition("\n[")[0], re.M))
    from_a_clone, from_an_index = re.findall(r'"\.\[([\w,]+)\]"', text), re.findall(r'"unconv\[([\w,]+)\]"', text)
    assert from_a_clone and from_an_index
    assert {name for names in (*from_a_clone, *from_an_index) for name in names.split(",")} <= extras
