"""The API reference: a page for each public module, from the names that its stub (or `__all__`) announces.

An object that several modules give, as `unconv.conv2d` is `unconv.ops.conv2d`, is described where it lies deepest and
listed elsewhere. The pages are written to docs/api, which git ignores.
"""

from __future__ import annotations

import inspect
import re
import shutil
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx import addnodes


def public_names(module: ModuleType) -> list[str]:
    """List what a module announces, or else what is defined in it and begins with no underscore."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    own = [name for name, it in vars(module).items() if getattr(it, "__module__", None) == module.__name__]
    return sorted(name for name in own if not name.startswith("_") and callable(getattr(module, name)))


def public_modules(name: str = "unconv") -> dict[str, ModuleType]:
    """Find the public modules: `unconv`, and each module that a public one announces, by its dotted name."""
    module = import_module(name)
    found = {name: module}
    for child in public_names(module):
        # `unconv.scan` may be its function or the room of the same name, which can be called.
        if inspect.ismodule(getattr(module, child)) and not callable(getattr(module, child)):
            found |= public_modules(f"{name}.{child}")
    return found


def homes(modules: dict[str, ModuleType]) -> dict[str, dict[str, str]]:
    """Say, for each name of each module, under which full name it is described."""
    owner: dict[int, str] = {}
    for module in sorted(modules, key=lambda name: (-name.count("."), name)):
        for name in _objects(modules[module]):
            owner.setdefault(id(getattr(modules[module], name)), f"{module}.{name}")
    return {module: {name: owner[id(getattr(it, name))] for name in _objects(it)} for module, it in modules.items()}


def _objects(module: ModuleType) -> list[str]:
    return [name for name in public_names(module) if not inspect.ismodule(getattr(module, name)) and name[0] != "_"]


def page(name: str, module: ModuleType, described: dict[str, str], children: list[str]) -> str:
    """Write the page of one module in MyST's Markdown."""
    lines = [f"# {name}", "", "```{eval-rst}", f".. automodule:: {name}", "   :no-members:", "```", ""]
    lines += [f"- {{doc}}`{child} <{child}>`: {_first_line(import_module(child))}" for child in children]
    elsewhere = [f"{{py:obj}}`{short} <{home}>`" for short, home in described.items() if home != f"{name}.{short}"]
    if elsewhere:
        lines += ["", "Described with the module it comes from: " + ", ".join(elsewhere) + "."]
    for short, home in described.items():
        if home == f"{name}.{short}":
            lines += ["", f"## {short}", "", "```{eval-rst}", *_directive(getattr(module, short), home), "```"]
    return "\n".join(lines) + "\n"


def _first_line(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().partition("\n")[0]


def _directive(it: Any, home: str) -> list[str]:
    if inspect.isclass(it):
        return [f".. autoclass:: {home}"]
    if inspect.isfunction(it):
        return [f".. autofunction:: {home}"]
    rows = [f"``{key!r}``: {said}" for key, said in it.items()] if isinstance(it, dict) else []
    choices = [f"``{choice.__name__ if isinstance(choice, type) else repr(choice)}``" for choice in get_args(it)]
    return [f".. py:data:: {home}", "", *(f"   - {row}" for row in rows or choices)]


def _write_pages(app: Any) -> None:
    if app.config.language != "en":
        return
    folder = Path(app.srcdir) / "docs" / "api"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    modules = public_modules()
    where = homes(modules)
    for name, module in modules.items():
        children = [other for other in modules if other.rpartition(".")[0] == name]
        (folder / f"{name}.md").write_text(page(name, module, where[name], children))
    app.config.unconv_homes = {home for names in where.values() for home in names.values()}
    tree = "\n".join(f"/docs/api/{name}" for name in sorted(modules))
    app.config.unconv_api_tree = f"\n```{{toctree}}\n:maxdepth: 1\n\n{tree}\n```\n"


def _add_tree(app: Any, docname: str, source: list[str]) -> None:
    if docname == "docs/reference" and app.config.language == "en":
        source[0] += app.config.unconv_api_tree


def _resolve(app: Any, env: Any, node: addnodes.pending_xref, contnode: nodes.Element) -> nodes.Node | None:
    """Lead a bare name in a docstring, or the full name of where a class is written, to where it is described."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    found = [home for home in app.config.unconv_homes if home.rpartition(".")[2] == target.rpartition(".")[2]]
    is_ours = "." not in target or target.startswith("unconv.") or target in found
    if len(found) != 1 or not is_ours:
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, contnode)


# Stands for a colon until napoleon, which takes what is before one for a type, has read a property's docstring.
_COLON = "\ue000"

# What is to be kept as it is: examples with their results, and what stands between backticks.
_KEPT = re.compile(r"(^ *>>> .*?(?:\n *$|\Z)|``.+?``|`[^`]+`)", re.M | re.S)


def _plain(_app: Any, what: str, _name: str, _it: object, _options: Any, lines: list[str]) -> None:
    """Escape what Sphinx would take for markup: in our docstrings A* y, |x| and x_ mean what they say."""
    if what == "module":  # how a package is put together is no matter of its users
        paragraphs = "\n".join(lines).split("\n\n")
        lines[:] = "\n\n".join(text for text in paragraphs if "`lazy_loader`" not in text).split("\n")
    parts = _KEPT.split("\n".join(lines))
    parts[::2] = [re.sub(r"[*|\\]|(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    lines[:] = "".join(parts).split("\n")
    if what in ("attribute", "property"):
        lines[0] = lines[0].replace(":", _COLON)


def _with_colons(_app: Any, _what: str, _name: str, _it: object, _options: Any, lines: list[str]) -> None:
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def setup(app: Any) -> dict[str, bool]:
    """Write the pages before Sphinx looks for them, and lead names to them."""
    app.add_config_value("unconv_homes", set(), "")
    app.add_config_value("unconv_api_tree", "", "")
    app.connect("builder-inited", _write_pages)
    app.connect("source-read", _add_tree)
    app.connect("autodoc-process-docstring", _plain, priority=400)  # before napoleon reads sections
    app.connect("autodoc-process-docstring", _with_colons, priority=600)
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
