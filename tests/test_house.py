"""The house rules that a machine can read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import unconv

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "unconv"
FILES = sorted(SOURCE.rglob("*.py"))

# Imports point down only; rooms on one line do not import each other.
FLOORS = [
    {"cli"},
    {"report"},
    {"reverse", "inverse"},
    {"ops"},
    {"render"},
    {"images", "networks"},
    {"box"},
    {"shapes", "errors"},
]
NEIGHBOURS = {("networks", "images")}  # a network brings its preprocessing


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def floor(name: str) -> int:
    return next(index for index, rooms in enumerate(FLOORS) if name in rooms)


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("unconv"):
            names |= {node.module} if node.module != "unconv" else {f"unconv.{alias.name}" for alias in node.names}
    return {room(name) for name in names if not hasattr(unconv, room(name)) or room(name) not in unconv.__all__}


def test_imports_point_down():
    wrong = []
    for path in FILES:
        here = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if here in ("__init__", "__main__"):
            continue
        for name in imported(path):
            if name and name != here and floor(name) <= floor(here) and (here, name) not in NEIGHBOURS:
                wrong.append(f"{path.relative_to(SOURCE)} imports {name}")
    assert not wrong


def test_no_file_is_longer_than_500_lines():
    assert not [path.name for path in [*FILES, *(ROOT / "tests").rglob("*.py")] if len(path.read_text().splitlines()) > 500]


def test_no_function_is_longer_than_40_lines():
    long = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                documented = ast.get_docstring(node) is not None
                body = node.body[1:] if documented and len(node.body) > 1 else node.body
                if node.end_lineno - body[0].lineno + 1 > 40:
                    long.append(f"{path.name}: {node.name}")
    assert not long


def test_all_is_sorted_and_complete():
    assert unconv.__all__ == sorted(unconv.__all__)
    assert all(getattr(unconv, name).__doc__ for name in unconv.__all__)


def test_every_public_function_and_class_has_a_docstring():
    bare = []
    for path in FILES:
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path} has no docstring"
        for node in tree.body:
            if (
                isinstance(node, ast.FunctionDef | ast.ClassDef)
                and not node.name.startswith("_")
                and not ast.get_docstring(node)
            ):
                bare.append(f"{path.name}: {node.name}")
    assert not bare


def test_every_option_of_the_command_is_in_the_reference():
    command = (SOURCE / "cli" / "__init__.py").read_text()
    options = set(re.findall(r'"(--[a-z-]+)"', command)) | {
        "--weights",
        "--size",
        "--channels",
        "--at",
    }
    reference = (ROOT / "docs" / "cli.md").read_text()
    assert not {option for option in options if option not in reference}


def test_the_two_readmes_show_the_same_commands():
    blocks = [re.findall(r"```\w*\n(.*?)```", (ROOT / name).read_text(), re.S) for name in ("README.md", "README.zh-CN.md")]
    assert blocks[0] and [b.split("#")[0].split() for b in blocks[0]] == [b.split("#")[0].split() for b in blocks[1]]


def test_no_path_of_a_machine_is_in_the_project():
    shipped = [*FILES, *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "benchmarks").rglob("*.py")]
    assert not [path for path in shipped if re.search(r"/(work|root|home|tmp)/\w", path.read_text())]
