"""What the docs say is run."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import unconv
from unconv.reverse.rules import KEEPERS, REACHES, RULES

ROOT = Path(__file__).parents[1]


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.S)


def test_the_command_reference_is_what_help_says():
    reference = runpy.run_path(str(ROOT / "docs" / "write_cli.py"))["reference"]()
    assert (ROOT / "docs" / "cli.md").read_text() == reference


@pytest.fixture
def tables_as_they_were():
    before = [dict(table) for table in (RULES, REACHES, KEEPERS)]
    yield
    for table, rows in zip((RULES, REACHES, KEEPERS), before, strict=True):
        table.clear()
        table.update(rows)


def test_the_rule_in_adding_an_operation_works(tables_as_they_were):
    class Rolled(nn.Module):
        def forward(self, x):
            return torch.roll(x, (1, 2), (2, 3)).relu()

    network = unconv.Network(Rolled(), input_size=(1, 5, 6))
    image = torch.rand(1, 5, 6)
    with pytest.raises(unconv.NoRule, match=r"aten.roll.default \(at roll\)"):
        network.project(image, "relu")
    exec(blocks("docs/adding-an-operation.md")[0], {})
    (pixels,) = network.project(image, "relu", channels=0, unit=(3, 3)).pixels()
    assert pixels.nonzero().tolist() == [[0, 2, 1]]


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs(example, tmp_path):
    done = subprocess.run([sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_readme_s_code_runs_as_written(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(page)
    exec(code, {})


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")], ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]
