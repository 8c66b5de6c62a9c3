"""The house rules that a machine can read."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args, get_type_hints

import pytest

import unconv
from unconv.errors import counted
from unconv.reverse.method_table import METHODS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "unconv"
FILES = sorted(SOURCE.rglob("*.py"))

# Imports point down only; rooms on one floor do not import each other.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"report", "web"},
    {"studies", "scan"},
    {"explain", "reverse", "inverse"},
    {"render", "networks"},
    {"ops", "pictures", "traces", "recordings", "box"},
    {"axis", "errors", "files", "kinds", "progress", "version"},
]
# Doors give users names from rooms above them, on first use. Nothing inside goes through one, except the command.
DOORS = {"unconv", "unconv.ops", "unconv.measured"}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imports(name: str) -> set[str]:
    """The modules of ours that a file imports: at its head, inside functions, for a type checker, or by a name in quotes."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{source}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    ours = {module for module in found if module == "unconv" or module.startswith("unconv.")}
    return {module if module in MODULES else module.rpartition(".")[0] for module in ours} - {name}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def floor(name: str) -> int:
    return next(index for index, rooms in enumerate(FLOORS) if name in rooms)


def test_every_room_stands_on_a_floor():
    rooms = {room(name) for name in MODULES if name not in DOORS} - {""}
    assert rooms <= set().union(*FLOORS)


def test_imports_point_down():
    wrong = []
    for name in set(MODULES) - DOORS:
        here = room(name)
        for other in imports(name):
            inside = room(other) == here or floor(here) == len(FLOORS) - 1
            public = other in DOORS - {"unconv.ops"}
            if (public and here != "cli") or not (public or inside or floor(room(other)) > floor(here)):
                wrong.append(f"{name} imports {other}")
    assert not sorted(wrong)


@pytest.mark.slow
def test_no_two_files_import_each_other_even_by_way_of_others():
    graph = {name: imports(name) - DOORS for name in MODULES if name not in DOORS}
    circles, done = [], set()

    def visit(name: str, way: list[str]) -> None:
        if name in way:
            circles.append(" > ".join([*way[way.index(name) :], name]))
        elif name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, [*way, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    assert not circles


LIGHT = {
    "import unconv": ("torch", "torchvision", "PIL", "jinja2", "numpy"),
    "import unconv.cli": ("torch", "torchvision", "PIL", "jinja2", "numpy"),
    "from unconv import ops": ("torchvision", "PIL", "jinja2", "rich", "typer", "scipy"),
    "from unconv import explain": ("torchvision", "scipy", "typer"),
}


@pytest.mark.slow
@pytest.mark.parametrize("statement", LIGHT)
def test_what_a_room_needs_is_all_that_it_loads(statement):
    code = f"{statement}; import sys; print(*sorted(set({LIGHT[statement]!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []


def test_no_file_is_longer_than_500_lines():
    assert not [path.name for path in [*FILES, *(ROOT / "tests").rglob("*.py")] if len(path.read_text().splitlines()) > 500]


@pytest.mark.slow
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
    # An alias of types cannot carry a docstring before Python 3.12: what it means stands in a string below it.
    assert all(getattr(unconv, name).__doc__ or get_args(getattr(unconv, name)) for name in unconv.__all__)


def test_the_public_modules_are_those_that_the_reference_lists():
    def announced(module):
        found = [getattr(module, name) for name in getattr(module, "__all__", ())]
        # `unconv.scan` may be its function or the room of the same name, which can be called.
        modules = [each for each in found if isinstance(each, ModuleType) and not callable(each)]
        return {module.__name__}.union(*map(announced, modules))

    for page in ("reference.md", "reference.zh-CN.md"):
        listed = re.findall(r"^\|(.*?)\|", (ROOT / "docs" / page).read_text(), re.M)
        assert set(re.findall(r"`(unconv[\w.]*)`", " ".join(listed))) == announced(unconv), page


def test_what_arguments_may_be_is_exported_and_the_choices_are_the_table_s():
    assert get_args(unconv.Method) == tuple(METHODS)
    assert {*get_args(unconv.Unit)} > {Literal["strongest", "map"]} and {*get_args(unconv.Source)} > {str, Path}
    hints = get_type_hints(unconv.Network.project)
    assert (hints["image"], hints["channels"], hints["unit"]) == (unconv.Source, unconv.Channels, unconv.Unit)
    assert hints["method"] == unconv.Method | unconv.Rules


@pytest.mark.parametrize("name", [name for name, path in MODULES.items() if "__all__" in path.read_text()])
def test_a_package_gives_every_name_that_it_announces(name):
    module = __import__(name, fromlist=["__all__"])
    assert not [each for each in module.__all__ if not hasattr(module, each)]


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
    import typer

    from unconv.cli import app

    commands = typer.main.get_command(app).commands.values()
    options = {name for command in commands for parameter in command.params for name in parameter.opts if name[0] == "-"}
    reference = (ROOT / "docs" / "cli.md").read_text()
    assert len(options) > 30
    assert not {option for option in options if option not in reference}


def test_the_two_readmes_show_the_same_commands():
    blocks = [re.findall(r"```\w*\n(.*?)```", (ROOT / name).read_text(), re.S) for name in ("README.md", "README.zh-CN.md")]
    english, chinese = ([re.sub(r"#.*", "", block).split() for block in page] for page in blocks)
    assert english and english == chinese


def test_the_version_is_the_newest_in_the_changelog_and_the_one_to_cite():
    newest, date = re.search(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.M).groups()
    assert newest == unconv.__version__
    assert f"version: {newest}\ndate-released: {date}\n" in (ROOT / "CITATION.cff").read_text()


def test_no_path_of_a_machine_is_in_the_project():
    shipped = [*FILES, *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "benchmarks").rglob("*.py")]
    assert not [path for path in shipped if re.search(r"/(work|root|home|tmp)/\w", path.read_text())]


def test_a_count_of_one_is_in_the_singular():
    assert (counted(1, "place"), counted(2, "place"), counted(0, "place")) == ("1 place", "2 places", "0 places")
    assert counted(12345, "unit") == "12,345 units"
