"""What the site is made of, as far as it can be told without Sphinx; `make docs` tests the rest."""

from __future__ import annotations

import re
import runpy
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
CHINESE = ".zh-CN.md"

menu = runpy.run_path(str(DOCS / "_site" / "navigation.py"))["menu"]
make_site = runpy.run_path(str(DOCS / "make_site.py"))


def prose(page: Path) -> str:
    """Leave out code, in which signs of Markdown mean something else."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


@cache
def anchors(page: Path) -> set[str]:
    """Make the anchors of a page's headings as forges and the site do."""
    titles = re.findall(r"^#+ +(.+?) *$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_into_pages_lead_to_a_heading(page):
    links = re.findall(r"\]\(([^)#:\s]*\.md)?#([^)\s]+)\)", prose(page))
    targets = [((page.parent / name).resolve() if name else page, anchor) for name, anchor in links]
    assert not [f"{target.name}#{anchor}" for target, anchor in targets if anchor not in anchors(target)]


@pytest.mark.parametrize("index", ["index.md", f"index{CHINESE}"])
def test_every_page_is_in_the_menu_of_its_language(index):
    listed = [target for _, links in menu((DOCS / index).read_text()) for _, target in links]
    assert len(listed) == len(set(listed))
    chinese = {path.name for path in DOCS.glob(f"*{CHINESE}")}
    pages = chinese if index.endswith(CHINESE) else {path.name for path in DOCS.glob("*.md")} - chinese
    assert pages - {index} <= set(listed)


def test_the_two_menus_have_the_same_pages_in_the_same_order():
    english, chinese = (menu((DOCS / name).read_text()) for name in ("index.md", f"index{CHINESE}"))
    pages = [[[target.replace(CHINESE, ".md") for _, target in links] for _, links in part] for part in (english, chinese)]
    assert len(pages[0]) == 5
    assert pages[0] == pages[1]


def test_the_two_glossaries_explain_the_same_number_of_words_in_each_part():
    parts = [prose(DOCS / f"glossary{end}").split("\n## ")[1:] for end in (".md", CHINESE)]
    english, chinese = ([part.count("\n### ") for part in language] for language in parts)
    assert sum(english) > 60
    assert english == chinese


@pytest.mark.parametrize("page", ["glossary.md", f"glossary{CHINESE}"])
def test_a_word_of_the_glossary_takes_two_sentences_and_a_link(page):
    for entry in prose(DOCS / page).split("\n### ")[1:]:
        title, _, rest = entry.partition("\n")
        said = rest.partition("\n## ")[0]
        assert re.search(r"\[(More|详见)\]\([\w.-]+\.md(#[^)]+)?\)\s*$", said), title
        words = re.sub(r"et al\.|\[(More|详见)\]\(.*", "", said)
        assert len(re.findall(r"[.。](?=\s|$)|。", words)) <= 2, title


@pytest.mark.parametrize("page", ["reference.md", f"reference{CHINESE}"])
def test_every_public_module_is_on_the_page_of_the_reference(page):
    reference = runpy.run_path(str(DOCS / "_site" / "reference.py"))
    modules = set(reference["public_modules"]())
    assert {"unconv", "unconv.ops", "unconv.inverse.psf", "unconv.inverse.fields.channel"} <= modules
    assert modules == set(re.findall(r"`(unconv(?:\.\w+)*)`(?=[ 、,])", (DOCS / page).read_text().partition("|---|")[2]))


def test_what_two_modules_give_is_described_where_it_lies_deepest():
    reference = runpy.run_path(str(DOCS / "_site" / "reference.py"))
    homes = reference["homes"](reference["public_modules"]())
    assert homes["unconv"]["conv2d"] == homes["unconv.ops"]["conv2d"] == "unconv.ops.conv2d"
    assert homes["unconv"]["load"] == "unconv.load"


def test_a_docstring_s_signs_mean_what_they_say():
    plain = runpy.run_path(str(DOCS / "_site" / "reference.py"))["_plain"]
    lines = ["A* y of |x|, with `a * b`", "", ">>> 2 * 3", "6", "", "x_ and n_jobs"]
    plain(None, "function", "f", None, None, lines)
    assert lines == ["A\\* y of \\|x\\|, with `a * b`", "", ">>> 2 * 3", "6", "", "x\\_ and n_jobs"]


@pytest.fixture
def small_site(tmp_path):
    (tmp_path / "a.html").write_text('<h1 id="top-1">A</h1><a href="b.html#there">b</a><a href="https://example.org">out</a>')
    (tmp_path / "b.html").write_text('<p id="there">B</p><a href="a.html#top-1">a</a><a href="#">top</a>')
    return tmp_path


def test_a_site_without_faults_has_none(small_site):
    assert make_site["faults"](small_site) == []


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ('<a href="c.html">', "c.html is not there"),
        ('<a href="a.html#nowhere">', "a.html#nowhere has no such anchor"),
        ('<img src="absent.png">', "absent.png is not there"),
        ('<script src="https://example.org/a.js"></script>', "loads https://example.org/a.js from elsewhere"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "loads //example.org/a.css from elsewhere"),
    ],
)
def test_faults_of_a_site_are_found(small_site, html, said):
    (small_site / "b.html").write_text(f'<p id="there">{html}</p>')
    (found,) = make_site["faults"](small_site)
    assert said in found


def test_pre_commit_runs_the_ruff_of_the_tests():
    (pinned,) = re.findall(r"^ruff==.*$", (ROOT / "requirements-dev.txt").read_text(), re.M)
    assert set(re.findall(r"ruff==[\d.]+", (ROOT / ".pre-commit-config.yaml").read_text())) == {pinned}
