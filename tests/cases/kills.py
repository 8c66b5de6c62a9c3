"""A process that is killed at its n-th step on files, for every n: `python kills.py FOLDER KIND` prints what was then found."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from unconv.files import folder as moving
from unconv.files import whole_folder

STEPS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "os.listdir", "os.scandir"}
STEPS |= {"ctypes.dlsym", "shutil.rmtree"}
KINDS = ("fresh", "empty", "over", "beside others", "no exchange", "within")
USERS = {"notes.txt": "mine", "tiles/my_channel_3.png": "mine", "own/page.html": "Made by unconv"}


def listed(folder: Path) -> set[str]:
    try:
        return set(json.loads((folder / "list.json").read_text()))
    except OSError:
        return set()


def files(run: str) -> dict[str, str]:
    """What a run writes: names in common with other runs, and names of its own."""
    names = ["index.html", "picture.png", "tiles/a_channel_0.png", f"tiles/{run}_channel_1.png", f"units/{run}/deep.html"]
    return {name: f"{run}: {name}" for name in names} | {"list.json": json.dumps(sorted([*names, "list.json"]))}


def write(folder: Path, run: str) -> None:
    with whole_folder(folder, listed, "index.html", ["index.html", "list.json"]) as staged:
        for name, content in files(run).items():
            staged.put(name, content.encode())
        staged.publish()


def seen(folder: Path) -> dict[str, str]:
    """What a person sees in a folder: all files but hidden ones."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".unconv" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


def begun(folder: Path) -> dict[str, str]:
    """What a person sees in a folder when the next run has begun there, and written nothing."""
    with whole_folder(folder, listed, "index.html", []):
        pass
    return seen(folder)


def killed_at(step: int, run: Callable[[], None]) -> bool:
    """Whether a process that does `run` came to its n-th step on files, where it was killed."""
    child = os.fork()
    if not child:
        count = 0

        def die(event: str, _arguments: object) -> None:
            nonlocal count
            count += event in STEPS
            if count == step:
                os._exit(9)

        sys.addaudithook(die)
        run()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


def prepared(folder: Path, kind: str) -> dict[str, str]:
    """Make what is there before; return the files of it that are the user's."""
    shutil.rmtree(folder.parent)
    folder.parent.mkdir()
    if kind in ("empty", "within"):
        folder.mkdir()
    if kind not in ("empty", "fresh"):
        write(folder, "old")
    users = USERS if kind in ("beside others", "within") else {}
    for name, content in users.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    return users


def outcomes(folder: Path, kind: str) -> list[str]:
    """Return for each step what was found after a process was killed there: old, new, a rest, or what was wrong."""
    if kind in ("no exchange", "within"):
        moving.exchanged = lambda *_: False
    if kind == "within":
        moving._room = lambda place: place / ".unconv"
    found = []
    while True:
        users = prepared(folder, kind)
        before = seen(folder)
        again = killed_at(len(found) + 1, lambda: write(folder, "new"))
        after = seen(folder)
        new = files("new") | users
        if not users.items() <= after.items():
            found.append(f"the user's files are lost: {after}")
        elif after in (before, new):
            found.append("old" if after == before else "new")
        elif "index.html" not in after and begun(folder) == new:
            found.append("rest")
        else:
            found.append(f"two runs are mixed: {after}")
        write(folder, "next")
        rests = [path.name for path in folder.parent.iterdir() if path != folder] + [
            path.name for path in folder.iterdir() if path.name == ".unconv"
        ]
        if seen(folder) != files("next") | users or rests:
            found[-1] = f"the next run did not clean up: {seen(folder)}, {rests}"
        if not again:
            return found


if __name__ == "__main__":
    print(json.dumps(outcomes(Path(sys.argv[1]) / "parent" / "pages", sys.argv[2])))
