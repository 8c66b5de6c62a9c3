"""Handle several pictures in one run: find those that the arguments name, plan their results, and work through them."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unconv.cli.progress import remark
from unconv.errors import PictureError, UnconvError, WriteError, counted
from unconv.files import refuse_unwritable
from unconv.progress import Progress

_SHOWN = 3  # names in a sentence about many


@dataclass(frozen=True)
class Job:
    """A picture, and the path of its result.

    Attributes:
        name: the picture's path relative to the folder or glob that named it.
        weight: its share of the work, estimated by the size of its file.
    """

    source: Path
    name: Path
    target: Path
    weight: int = 1


@dataclass
class Outcome:
    """The outcome of a run for each of its pictures, in order.

    Attributes:
        records: the facts to report about each picture, with `error` if it was not restored.
        total: the number of pictures.
    """

    total: int
    records: list[dict[str, Any]] = field(default_factory=list)

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [record for record in self.records if "error" in record]


def alone(arguments: Sequence[Path], out: Path | None) -> Path | None:
    """Return the picture, if the arguments name a single file and `out` is not a folder; None for several pictures.

    Raises:
        PictureError: there is no such file.
    """
    # A folder with the ending of a picture's file is not meant for several.
    into = out is not None and not out.suffix and os.path.isdir(out)
    if len(arguments) > 1 or os.path.isdir(arguments[0]) or _is_glob(arguments[0]) or into:
        return None
    if not os.path.isfile(arguments[0]):
        raise PictureError(f"deblur: there is no picture file {str(arguments[0])!r}.")
    return arguments[0]


def named(arguments: Sequence[Path], without: Iterable[Path], quiet: bool) -> list[tuple[Path, Path]]:
    """Return (path, name) of every picture that files, folders and globs name, each once; `name` is relative to them.

    In a folder the files whose names end like a picture's are taken, sorted by name; a remark says what is left out.

    Args:
        without: files and folders to leave out, such as the folder for results.

    Raises:
        PictureError: an argument names no picture.
    """
    pictures: dict[str, tuple[Path, Path]] = {}
    outside = [os.path.realpath(path) for path in without]
    files = _names_of_files([path for path in arguments if not os.path.isdir(path) and not _is_glob(path)])
    for argument in arguments:
        if _is_glob(argument):
            pairs = _matching(argument)
        elif os.path.isdir(argument):
            pairs = _within(argument, quiet)
        else:
            pairs = [(argument, files[argument])]
        for path, name in pairs:
            real = os.path.realpath(path)
            is_below = len(path.parts) > len(argument.parts) or _is_glob(argument)  # a file named by itself is never left out
            if not (is_below and any(real == other or real.startswith(other + os.sep) for other in outside)):
                pictures.setdefault(real, (path, name))
    if not pictures:
        raise PictureError(
            f"deblur: {_first_names(arguments)}: there are no pictures. Name files, folders or globs that have some."
        )
    return list(pictures.values())


def planned(pairs: Sequence[tuple[Path, Path]], target: Callable[[Path, Path], Path]) -> list[Job]:
    """Return a job for each picture, with targets that all differ, even where upper and lower case are equal."""
    jobs: list[Job] = []
    used: set[str] = set()
    for path, name in pairs:
        wanted = candidate = target(path, name)
        if str(candidate).casefold() in used:  # photo.jpg beside photo.png
            candidate = wanted.with_name(f"{path.name}{wanted.suffix}")
        number = 1
        while str(candidate).casefold() in used:
            number += 1
            candidate = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
        used.add(str(candidate).casefold())
        weight = path.stat().st_size if os.path.isfile(path) else 0
        jobs.append(Job(path, name, candidate, max(weight, 1)))
    return jobs


def left_to_do(
    jobs: Sequence[Job], sources: Iterable[Path], beside: Callable[[Path], Sequence[Path]], resume: bool, overwrite: bool
) -> list[Job]:
    """Return the jobs that are not done yet, after a check of all paths that they will write.

    Args:
        sources: files that must not be overwritten.
        beside: returns the paths of what is written beside a result.
        resume: leave out jobs whose result exists.
        overwrite: allow results to replace files.

    Raises:
        UnconvError: a result would overwrite a source, or another file although `overwrite` is False.
    """
    real = {os.path.realpath(path) for path in sources}
    remaining = [job for job in jobs if not (resume and os.path.lexists(job.target))]
    targets = [target for job in remaining for target in (job.target, *beside(job.target))]
    for target in targets:
        if os.path.realpath(target) in real:
            raise UnconvError(f"deblur: {target} is one of the files read, and would be overwritten. Choose another folder.")
        refuse_unwritable(target)
    existing = [target for target in targets if os.path.lexists(target)]
    if existing and not overwrite:
        raise UnconvError(
            f"deblur: this would overwrite {len(existing)} of {counted(len(targets), 'file')}: {_first_names(existing)}. Pass "
            "--resume to keep results and continue with the other pictures, --force to replace them, or another folder with -o."
        )
    return remaining


def each(
    jobs: Sequence[Job], work: Callable[[Job, Progress], dict[str, Any]], outcome: Outcome, progress: Progress, quiet: bool
) -> None:
    """Do the work of each job and record its outcome; a picture that is refused does not stop the others.

    Raises:
        WriteError: a result cannot be written, so that the next ones could not be, either.
    """
    total_weight, before = sum(job.weight for job in jobs), 0
    for number, job in enumerate(jobs, 1):
        start = time.monotonic()

        def tell(what: str, done: float, total: float, job: Job = job, before: int = before, number: int = number) -> None:
            share = done / total if total else 0.0
            progress(f"{number} of {len(jobs)}, {job.name}: {what}", (before + job.weight * share) / total_weight, 1)

        tell("reading", 0, 1)
        try:
            record = work(job, tell)
        except WriteError:
            raise
        except UnconvError as error:
            record = {"error": str(error)}
            remark(f"left out {job.source}: {error}", quiet)
        outcome.records.append({"source": str(job.source), **record, "seconds": round(time.monotonic() - start, 3)})
        before += job.weight


def _is_glob(path: Path) -> bool:
    return glob.has_magic(str(path)) and not os.path.lexists(path)


def _matching(pattern: Path) -> list[tuple[Path, Path]]:
    """Return the files that match a glob, and their names relative to the part of it without wildcards."""
    root = Path(*_without_wildcards(pattern.parts[:-1]))
    files = [Path(path) for path in sorted(glob.glob(str(pattern), recursive=True)) if os.path.isfile(path)]
    if not files:
        raise PictureError(f"deblur: {str(pattern)!r} matches no file. Check its folder and its ending.")
    return [(path, path.relative_to(root)) for path in files]


def _without_wildcards(parts: Sequence[str]) -> Iterator[str]:
    for part in parts:
        if glob.has_magic(part):
            return
        yield part


def _within(folder: Path, quiet: bool) -> list[tuple[Path, Path]]:
    """Return the pictures in a folder, without hidden files, subfolders and the results of an earlier run."""
    endings = picture_endings()
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    folders = [path for path in entries if path.is_dir()]
    files = [path for path in entries if path.is_file() and not _is_result(path)]
    pictures = [path for path in files if path.suffix.lower() in endings]
    others = [path.name for path in files if path not in pictures]
    if others:
        phrase = (
            "1 file that is no picture by its name"
            if len(others) == 1
            else f"{len(others)} files that are no pictures by their names"
        )
        remark(f"{folder}: left out {phrase}: {_first_names(others)}.", quiet)
    if folders:
        within = str(folder / "**" / "*.png")
        phrase, names = counted(len(folders), "folder"), _first_names(path.name for path in folders)
        remark(f"{folder}: left out {phrase} in it: {names}; {within!r} reads them.", quiet)
    return [(path, Path(path.name)) for path in pictures]


def _is_result(path: Path) -> bool:
    """Return whether this file is the result of an earlier run, which lies beside its source."""
    origin = path.stem.removesuffix("-before-after").removesuffix("-restored")
    if origin == path.stem:
        return False
    return path.with_name(origin).is_file() or any(True for _ in path.parent.glob(f"{glob.escape(origin)}.*"))


def picture_endings() -> set[str]:
    """Return the endings of all files that are read as pictures."""
    from PIL import Image

    from unconv.pictures.formats import FORMATS

    return {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS} | {
        ".npy",
        ".fits",
        ".fit",
        ".fts",
    }


def _names_of_files(files: Sequence[Path]) -> dict[Path, Path]:
    """Return a name for each file: its own, or, if two are equal, its path from the folder that all have in common."""
    own = {file: Path(file.name) for file in files}
    if len({str(name).casefold() for name in own.values()}) == len(own):
        return own
    common = os.path.commonpath([os.path.abspath(file.parent) for file in own])
    return {file: Path(os.path.relpath(os.path.abspath(file), common)) for file in own}


def _first_names(names: Iterable[Any]) -> str:
    texts = [str(name) for name in names]
    return ", ".join(texts[:_SHOWN]) + (f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else "")
