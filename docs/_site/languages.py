"""Two sites, English and Chinese: the switch between them, links across, and a search that finds Chinese words.

A page in Chinese has the name of the English one and `.zh-CN` in front of its `.md`; on the site both have one address
but for the folder. Folders are relative, so that the site opens from a disk.
"""

from __future__ import annotations

import posixpath
import re
from gettext import NullTranslations
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.search import SearchLanguage
from sphinx.search.en import SearchEnglish
from sphinx.transforms import SphinxTransform

FOLDERS = {"en": "en", "zh_CN": "zh-CN"}
CHINESE = ".zh-CN.md"

# Words that the theme shows and Sphinx' own catalogue lacks.
WORDS = {
    "Skip to content": "跳到正文",
    "Back to top": "回到顶部",
    "On this page": "本页内容",
    "Home": "首页",
    "Made with ": "制作工具：",
}


def _others_page(app: Any, docname: str) -> str | None:
    """Name the page in the other language, or None where there is none."""
    suffix = ".md" if app.config.language == "zh_CN" else CHINESE
    is_there = docname == "search" or (Path(app.srcdir) / (docname + suffix)).is_file()
    return docname if is_there else None


def _others_address(app: Any, here: str, there: str) -> str:
    (other,) = [folder for name, folder in FOLDERS.items() if name != app.config.language]
    up = "../" * (here.count("/") + 1)
    return f"{up}{other}/{there}.html"


def _mark_links(app: Any, docname: str, source: list[str]) -> None:
    """Mark links to Markdown files that belong to the other site: MyST would offer them as downloads, without their anchor."""

    def mark(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(docname), found[1]))
        is_ours = path.endswith(CHINESE) == (app.config.language == "zh_CN")
        name = path.removesuffix(".md").removesuffix(".zh-CN")
        return found[0] if is_ours else f"](other-language:{name}{found[2] or ''})"

    source[0] = re.sub(r"\]\(([^)#:\s]+\.md)(#[^)\s]*)?\)", mark, source[0])


class LinksAcross(SphinxTransform):
    """Turn marked links into addresses on the other site."""

    default_priority = 500

    def apply(self, **_: Any) -> None:
        """Change the references of one page."""
        for node in self.document.findall(nodes.reference):
            scheme, _, rest = str(node.get("refuri", "")).partition(":")
            if scheme == "other-language":
                name, _, anchor = rest.partition("#")
                address = _others_address(self.app, self.env.docname, name)
                node["refuri"] = f"{address}#{anchor}" if anchor else address


class _Words(NullTranslations):
    """What the theme says where Sphinx' catalogue has no word for it."""

    def gettext(self, message: str) -> str:
        """Translate one message, or leave it as it is."""
        return WORDS.get(message, message)


def _add_words(app: Any) -> None:
    if app.config.language == "zh_CN":
        app.translator.add_fallback(_Words())


def _switch(app: Any, pagename: str, _template: str, context: dict[str, Any], _doctree: Any) -> None:
    page = _others_page(app, pagename)
    context["other_page"] = _others_address(app, pagename, page or app.config.root_doc)
    context["is_chinese"] = app.config.language == "zh_CN"
    context["other_has_page"] = page is not None


class Bigrams(SearchLanguage):
    """Pairs of neighbouring characters stand for Chinese words, in the index and in what is asked.

    A dictionary cuts 转置卷积 into two words, and whoever asks for the four characters together finds nothing; pairs need
    no dictionary, and a page that holds all pairs of a word nearly always holds the word (as Lucene's CJKAnalyzer does).
    """

    lang = "zh"
    language_name = "English"  # Sphinx calls the stemmer by it
    js_stemmer_rawcode = SearchEnglish.js_stemmer_rawcode
    stopwords = SearchEnglish.stopwords
    js_splitter_code = r"""
const words = /[\u3400-\u9fff]+|(?:(?![\u3400-\u9fff])[\p{Letter}\p{Number}_])+/gu;
const pairs = (run) => Array.from({ length: run.length - 1 }, (_, i) => run.slice(i, i + 2));
var splitQuery = (query) =>
  (query.match(words) || []).flatMap((run) => (/^[\u3400-\u9fff]{2}/.test(run) ? pairs(run) : [run]));
"""

    def __init__(self, options: dict[str, str]) -> None:
        super().__init__(options)
        self._english = SearchEnglish(options)

    def split(self, text: str) -> list[str]:
        """Cut a text into Latin words and pairs of Chinese characters."""
        runs = re.findall(r"[\u3400-\u9fff]+", text)
        pairs = [run[i : i + 2] for run in runs for i in range(max(len(run) - 1, 1))]
        return pairs + self._english.split(re.sub(r"[\u3400-\u9fff]+", " ", text))

    def stem(self, word: str) -> str:
        """Stem as in English; Chinese stays as it is."""
        return self._english.stem(word)

    def word_filter(self, word: str) -> bool:
        """Keep all but English's smallest words."""
        return self._english.word_filter(word)


def setup(app: Any) -> dict[str, bool]:
    """Connect the switch, the links and the search."""
    app.connect("builder-inited", _add_words)
    app.connect("source-read", _mark_links, priority=500)
    app.connect("html-page-context", _switch)
    app.add_transform(LinksAcross)
    app.add_search_language(Bigrams)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
