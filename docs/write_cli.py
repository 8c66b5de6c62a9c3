"""Write docs/cli.md from the command itself: `python docs/write_cli.py`."""

from __future__ import annotations

from pathlib import Path

import typer

from unconv.cli.app import app
from unconv.cli.groups import groups

HEAD = """# The `unconv` command

Exit status: 0 done; 1 refused, with one line that says what came, what was needed and what to do; 2 wrong usage; 130 stopped by
Ctrl-C and 143 by SIGTERM, where what was written is whole.

A file or a folder of pages appears whole or not at all, whatever stops the program: earlier pages stay until the new ones are
complete. In a folder only files that an earlier run has listed there, in `numbers.json`, are replaced; if another file has the
name of a page, the command refuses. `explain -o` replaces the file that it names, `deblur` only with `--force`; the mode of
a file that is replaced is kept, and of a symbolic link it is the file that the link leads to. Two runs cannot write one folder
at the same time. A result that standard output does not take (a full disk, a reader that has gone) is status 1.

Progress and remarks go to standard error; `-q` leaves them out. This page is written by `docs/write_cli.py`.

`unconv --version` prints the version, `unconv COMMAND --help` what follows here. `unconv --install-completion` has your shell
complete commands, options, and choices such as methods; `unconv --show-completion` prints what it would install.
"""


def reference() -> str:
    """Return the whole page."""
    commands = typer.main.get_command(app).commands
    parts = [HEAD]
    for group in groups("unconv.cli.commands"):
        parts.append(f"## {group.heading}\n")
        names = [function.__name__.replace("_", "-") for function in group.commands]
        parts += [described(name, commands[name]) for name in names]
    return "\n".join(parts)


def described(name: str, command) -> str:
    """Return the section of one command."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join(["unconv", name, *(p.name.upper() for p in arguments), "[OPTIONS]"])
    rows = [(f"`{p.name.upper()}`", p.help, "") for p in arguments]
    rows += [(f"`{', '.join(p.opts)}`", p.help, default(p)) for p in options]
    lines = "\n".join(f"| {what} | {text} | {value} |" for what, text, value in rows)
    return f"### `{usage}`\n\n{command.help}\n\n| | what | default |\n|---|---|---|\n{lines}\n"


def default(option) -> str:
    """Return an option's default as one would type it."""
    return "" if option.default in (None, False, [], ()) else f"`{option.default}`"


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(reference())
