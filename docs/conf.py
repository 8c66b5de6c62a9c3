"""How Sphinx makes the site: once in English, once in Chinese (`-t chinese`); `python docs/make_site.py` does both."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "docs" / "_site"), str(ROOT / "src")]

if TYPE_CHECKING:
    tags: set[str]

chinese = "chinese" in tags  # noqa: F821  (Sphinx puts `tags` here)

project = "unconv"
author = "The unconv authors"
project_copyright = author
release = version = runpy.run_path(str(ROOT / "src" / "unconv" / "version.py"))["__version__"]
language = "zh_CN" if chinese else "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "formulas",
    "languages",
    "navigation",
    "reference",
]

# The source folder is the repository, so that links between files are the same here and on a forge.
root_doc = "docs/index"
source_suffix = {".zh-CN.md": "markdown"} if chinese else {".md": "markdown"}
include_patterns = [
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/*.md", "docs/api/*.md"),
    "src/unconv/box/pictures/LICENCES.md",
]
if chinese:
    include_patterns = ["*.zh-CN.md", "docs/*.zh-CN.md"]
exclude_patterns = [".*", "__pycache__", "benchmarks", "site", "tests", "training", "unconv-*", "docs/_*"]
if not chinese:
    exclude_patterns.append("**.zh-CN.md")

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_url_schemes: dict[str, Any] = {"http": None, "https": None, "mailto": None, "other-language": None}

html_theme = "furo"
html_title = "unconv"
html_static_path = ["_static"]
html_css_files = ["site.css"]
templates_path = ["_templates"]
html_copy_source = False
html_show_copyright = False
html_domain_indices = False
html_use_index = not chinese
html_theme_options = {"top_of_page_buttons": ["view"]}

# `name` in a docstring is a link where there is such a name, and code where there is none.
default_role = "py:obj"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_class_signature = "mixed"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_custom_sections = ["Source", ("Attributes", "params_style"), ("Boundaries", "params_style")]
napoleon_use_param = False  # "first, last: ..." is one line for two arguments
napoleon_use_rtype = False
napoleon_preprocess_types = False
