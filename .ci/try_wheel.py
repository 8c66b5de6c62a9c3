"""Try a wheel as users have it: all files are in it, links are absolute, and what it installs runs outside the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = """
import unconv
from unconv.box import demo_pictures
from unconv.inverse.fields import image

assert len(demo_pictures()) == 4, demo_pictures()
projection = unconv.load("unconv:caltech").project(demo_pictures()[1], "features.13", channels="top:2")
print(unconv.__file__, projection.values)
"""


def absent(wheel: Path) -> list[str]:
    """List what the repository has under src/unconv and the wheel lacks, and what only the wheel has."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "src"]
    tracked = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    return sorted({name.removeprefix("src/") for name in tracked} ^ packed)


def addresses_at_fault(wheel: Path) -> str:
    """Say what is wrong with the addresses in the metadata: those of `UNCONV_URL`, and none where it is not set."""
    with zipfile.ZipFile(wheel) as packed:
        (name,) = [name for name in packed.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = packed.read(name).decode()
    address = os.environ.get("UNCONV_URL", "")
    if not address:
        return "an address, though UNCONV_URL is not set" if "\nProject-URL:" in metadata else ""
    if f"\nProject-URL: Homepage, {address}\n" not in metadata:
        return f"no Project-URL of {address}"
    relative = re.findall(r"\]\((?!https?:|#)[^)]+\)", metadata)
    return f"relative links: {' '.join(relative)}" if relative else ""


def main(wheel: Path) -> None:
    """Stop with the first thing that is wrong."""
    if fault := addresses_at_fault(wheel):
        sys.exit(f"{wheel}: the metadata has {fault}")
    if absent(wheel):
        sys.exit(f"{wheel}: these files are in the wheel or in src, but not in both: {', '.join(absent(wheel))}")
    tools = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        for command in (
            [tools / "unconv", "--version"],
            [tools / "unconv", "demo", "-q", "-o", "demo"],
            [tools / "python", "-I", "-c", CODE],
        ):
            done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        if str(ROOT / ".venv-wheel") not in done.stdout:
            sys.exit(f"another unconv was imported: {done.stdout}")
        if not (Path(folder) / "demo" / "index.html").is_file():
            sys.exit("unconv demo wrote no index.html")
    print(f"{wheel.name}: all files are in it; unconv --version, unconv demo and import unconv ran from it")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
