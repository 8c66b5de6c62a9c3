"""A command costs one function in one file; what there is to choose is completed and told by the tables."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

from unconv import cli
from unconv.cli.app import build
from unconv.cli.groups import groups
from unconv.inverse.fields.image.table import METHODS as IMAGE_METHODS
from unconv.networks.openers import OPENERS
from unconv.reverse.method_table import METHODS, Method

ONE_FILE = """
from unconv.cli.groups import Group

GROUP = Group("Greetings", 9)


@GROUP.command
def greet(name: str, loudly: bool = False) -> None:
    \"\"\"Say hello.\"\"\"
    print(f"hello {name}" + "!" * loudly)
"""


def test_a_command_is_one_function_in_one_file(tmp_path, monkeypatch):
    (tmp_path / "more_commands").mkdir()
    (tmp_path / "more_commands" / "greetings.py").write_text(ONE_FILE)
    monkeypatch.syspath_prepend(tmp_path)
    app = build("unconv.cli.commands", "more_commands")
    told = CliRunner().invoke(app, ["--help"])
    assert "Greetings" in told.output and "Say hello." in told.output and "Networks" in told.output
    assert CliRunner().invoke(app, ["greet", "you", "--loudly"]).output == "hello you!\n"
    for name in [name for name in sys.modules if name.startswith("more_commands")]:
        del sys.modules[name]


def test_the_groups_stand_in_help_in_their_order():
    headings = [group.heading for group in groups("unconv.cli.commands")]
    assert headings == ["Networks", "Data sets", "Operations", "Signals and pictures", "Measured signals"]
    told = CliRunner().invoke(cli.app, ["--help"]).output
    places = [told.index(heading) for heading in headings]
    assert places == sorted(places)


def parameter(command, name):
    (found,) = [p for p in typer.main.get_command(cli.app).commands[command].params if name in p.opts or p.name == name]
    return found


@pytest.mark.parametrize(
    "command, option, names",
    [
        ("project", "--method", METHODS),
        ("check", "--method", METHODS),
        ("bench", "--method", METHODS),
        ("deblur", "--method", IMAGE_METHODS),
    ],
)
def test_the_names_of_methods_are_those_of_their_table(command, option, names):
    assert all(name in parameter(command, option).help for name in names)


def test_every_way_to_name_a_network_is_in_help():
    told = CliRunner().invoke(cli.app, ["project", "--help"], env={"COLUMNS": "400"}).output
    assert all(opener.form in told for opener in OPENERS)


def test_the_type_of_a_method_names_every_row():
    assert set(get_args(Method)) == set(METHODS)


@pytest.mark.parametrize(
    "line, choices",
    [
        ("unconv project --method d", ["deconvnet", "desalinet"]),
        ("unconv deblur --method wi", ["wiener"]),
        ("unconv explain unpool", ["unpool", "unpool_avg", "unpool_max"]),
        ("unconv dem", ["demo"]),
    ],
)
def test_a_shell_completes_commands_and_choices(line, choices):
    words = line.split()
    environment = {
        "_UNCONV_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    result = CliRunner().invoke(cli.app, [], env=environment, prog_name="unconv")
    assert sorted(result.output.split()) == choices


def test_the_package_is_run_as_a_module():
    done = subprocess.run([sys.executable, "-m", "unconv", "--version"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith("unconv ")
