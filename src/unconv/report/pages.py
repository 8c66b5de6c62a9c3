"""Write the report of one picture or of several; each picture is read once and passes through the network once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unconv.errors import PictureError, WriteError, counted
from unconv.files import Staged, file_names, refuse_taken, uninterrupted, whole_folder
from unconv.pictures.decode import Source
from unconv.progress import Progress
from unconv.render.page import page, stylesheet
from unconv.report.listing import KEYS, PAGES, listed
from unconv.report.picture import Picture, words
from unconv.reverse.network import Network
from unconv.reverse.request import Request
from unconv.version import __version__


def report(network: Network, image: Source, folder: Path, request: Request, progress: Progress) -> dict[str, Any]:
    """Write the pages of one picture into `folder`, completely or not at all, and return all numbers on them.

    If the run is stopped or a unit fails, the pages of the units written until then are kept, if there are any.

    Args:
        request: the units to project; if it names no places, those of every convolution's rectified output.

    Raises:
        WriteError: `folder` cannot be written, another process writes it, or something that unconv did not write is in the way.
    """
    with whole_folder(folder, listed, "index.html", (*PAGES, KEYS)) as staged:
        picture = Picture(network, image, request, staged)
        refuse_taken(folder, picture.files(), listed(folder))
        interruption = _ended_by(lambda: picture.walk(progress))
        with uninterrupted():  # a second Ctrl-C must not destroy what the first has left
            if interruption is None or picture.begun:
                picture.finish()
                staged.publish()
    if interruption is not None:
        raise interruption
    return picture.numbers


def reports(
    network: Network,
    images: Sequence[Path],
    folder: Path,
    request: Request,
    progress: Progress,
    skip: Callable[[Path, PictureError], None] | None = None,
) -> list[dict[str, Any]]:
    """Write the pages of several pictures, each in a folder of its own, and a page with links to them: see `report`.

    Args:
        skip: called with each picture that cannot be read and the error; the picture is then left out, and listed as
            damaged. With None such a picture ends the run.

    Raises:
        PictureError: a picture cannot be read, or, with `skip`, none of them can.
    """
    names = file_names((image.stem for image in images), (*PAGES, KEYS))
    pictures: dict[str, Picture] = {}
    damaged: list[tuple[Path, PictureError]] = []

    def walk() -> None:
        for before, (image, name) in enumerate(zip(images, names, strict=True)):
            try:
                pictures[name] = Picture(network, image, request, staged, name)
            except PictureError as error:
                if skip is None:
                    raise
                damaged.append((image, error))
                skip(image, error)
                continue
            refuse_taken(folder, pictures[name].files(), listed(folder))
            pictures[name].walk(lambda what, done, total: progress(what, before + done / total, len(images)))  # noqa: B023
            pictures[name].finish()
        if images and not pictures:
            raise PictureError(f"project: cannot read any of {counted(len(images), 'picture')}: {damaged[0][1]}")

    known = [*PAGES, *(f"{name}/{page}" for name in names for page in (*PAGES, KEYS))]
    with whole_folder(folder, listed, "index.html", known) as staged:
        interruption = _ended_by(walk)
        with uninterrupted():
            # After a stop the last picture keeps the pages of the units it has; without any it is dropped.
            if pictures and not (last := next(reversed(pictures.values()))).numbers:
                last.finish() if last.begun else pictures.popitem()
            if pictures or interruption is None:
                _write_index(network, request, staged, pictures, damaged)
                staged.publish()
    if interruption is not None:
        raise interruption
    return [picture.numbers for picture in pictures.values()]


def refuse_folder(folder: Path) -> None:
    """Refuse, before any network is loaded, a folder that `report` would refuse.

    Raises:
        WriteError: as in `report`.
    """
    with whole_folder(folder, listed, "index.html", (*PAGES, KEYS)):
        pass


def _ended_by(walk: Callable[[], None]) -> BaseException | None:
    """Run a walk; return the error of a failed unit, or Ctrl-C, and raise a `WriteError`, after which nothing can be kept."""
    try:
        walk()
    except WriteError:
        raise
    except (KeyboardInterrupt, Exception) as ended:
        return ended
    return None


def _card(name: str, numbers: dict[str, Any]) -> dict[str, Any]:
    """Return what the page of all pictures shows for one picture."""
    units = [unit for layer in numbers["layers"] for unit in layer["units"][:1]]
    top = numbers["top_classes"] and numbers["top_classes"]["classes"][0]
    return {
        "page": f"{name}/index.html",
        "image": f"{name}/picture.png",
        "shown": numbers["shown"],
        "name": name,
        "projection": f"{name}/{units[-1]['large']}" if units else "",
        "pixels": units[-1]["pixels"] if units else (),
        "top": (top["name"] or f"class {top['index']}") if top else "",
        "units": sum(len(layer["units"]) for layer in numbers["layers"]),
        "layers": len(numbers["layers"]),
    }


def _write_index(
    network: Network,
    request: Request,
    staged: Staged,
    pictures: dict[str, Picture],
    damaged: Sequence[tuple[Path, PictureError]],
) -> None:
    """Write the page with links to the pictures, and the list by which the next run recognises its files."""
    cards = [_card(name, picture.numbers) for name, picture in pictures.items()]
    left_out = [{"picture": image.name, "error": str(error)} for image, error in damaged]
    facts = {**words(network, "", request), "damaged": left_out, "channel_words": request.channel_words}
    staged.put("style.css", stylesheet())
    staged.put("index.html", page("pictures.html", root="", title=f"unconv: {network.name}", cards=cards, **facts))
    numbers = {"network": network.name, "pictures": list(pictures), "damaged": left_out, "version": __version__}
    staged.put("numbers.json", json.dumps(numbers, indent=1).encode())
