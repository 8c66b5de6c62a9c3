"""Process several pictures in one run: find them, plan their results, and continue when one fails."""

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

_SHOWN = 3  # names listed in a message about many


@dataclass(frozen=True)
class Job:
    """A picture and the file of its result.

    Attributes:
        name: of the picture, relative to the folder or glob that named it.
        weight: its share of the work, by the size of its file in bytes.
    """

    source: Path
    name: Path
    target: Path
    weight: int = 1


@dataclass
class Outcome:
    """The outcome of a run, in the order of its pictures.

    Attributes:
        total: the number of pictures.
        records: one JSON record per picture, with `error` if it was not restored.
    """

    total: int
    records: list[dict[str, Any]] = field(default_factory=list)

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [record for record in self.records if "error" in record]


def alone(arguments: Sequence[Path], out: Path | None) -> Path | None:
    """Return the picture if the arguments name a single file and its result is not meant for a folder; otherwise None.

    Raises:
        PictureError: there is no such file.
    """
    # A folder whose name ends like a picture's file does not count as a folder for several results.
    into = out is not None and not out.suffix and os.path.isdir(out)
    if len(arguments) > 1 or os.path.isdir(arguments[0]) or _is_glob(arguments[0]) or into:
        return None
    if not os.path.isfile(arguments[0]):
        raise PictureError(f"deblur: there is no picture file {str(arguments[0])!r}. Check its name.")
    return arguments[0]


def named(arguments: Sequence[Path], without: Iterable[Path], quiet: bool) -> list[tuple[Path, Path]]:
    """Return each picture that files, folders and globs name, once, with its name relative to the folder or glob.

    A folder gives the files whose endings are those of pictures, in alphabetical order. The others are reported.

    Args:
        without: files to leave out, and folders whose files to leave out, such as the one for results.

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
            indirect = len(path.parts) > len(argument.parts) or _is_glob(argument)  # a file named itself is never left out
            if not (indirect and any(real == other or real.startswith(other + os.sep) for other in outside)):
                pictures.setdefault(real, (path, name))
    if not pictures:
        raise PictureError(f"deblur: there are no pictures in {_some(arguments)}. Name files, folders or globs with pictures.")
    return list(pictures.values())


def planned(pairs: Sequence[tuple[Path, Path]], target: Callable[[Path, Path], Path]) -> list[Job]:
    """Return a job for each picture, with targets that differ even where file names ignore case."""
    jobs: list[Job] = []
    used: set[str] = set()
    for path, name in pairs:
        first = candidate = target(path, name)
        if str(candidate).casefold() in used:  # photo.jpg beside photo.png
            candidate = first.with_name(f"{path.name}{first.suffix}")
        number = 1
        while str(candidate).casefold() in used:
            number += 1
            candidate = first.with_name(f"{first.stem}-{number}{first.suffix}")
        used.add(str(candidate).casefold())
        weight = path.stat().st_size if os.path.isfile(path) else 0
        jobs.append(Job(path, name, candidate, max(weight, 1)))
    return jobs


def left_to_do(
    jobs: Sequence[Job], sources: Iterable[Path], beside: Callable[[Path], Sequence[Path]], resume: bool, overwrite: bool
) -> list[Job]:
    """Return the jobs that are still to do, after refusing those that would overwrite files.

    Args:
        sources: files that must not be overwritten.
        beside: returns the other files that are written beside a result.

    Raises:
        UnconvError: a result would overwrite a source, or another file without --force.
    """
    real = {os.path.realpath(path) for path in sources}
    left = [job for job in jobs if not (resume and os.path.lexists(job.target))]
    targets = [target for job in left for target in (job.target, *beside(job.target))]
    for target in targets:
        if os.path.realpath(target) in real:
            raise UnconvError(f"deblur: {target} is one of the input files, and would be overwritten. Choose another folder.")
        refuse_unwritable(target)
    existing = [target for target in targets if os.path.lexists(target)]
    if existing and not overwrite:
        raise UnconvError(
            f"deblur: this would overwrite {len(existing)} of {counted(len(targets), 'file')}: {_some(existing)}. Pass "
            "--resume to keep them and restore the other pictures, --force to replace them, or another folder with -o."
        )
    return left


def each(
    jobs: Sequence[Job], work: Callable[[Job, Progress], dict[str, Any]], outcome: Outcome, progress: Progress, quiet: bool
) -> None:
    """Do each job and record its outcome; a picture that is refused does not stop the others.

    Raises:
        WriteError: a result cannot be written, and so the next ones could not be, either.
    """
    total, before = sum(job.weight for job in jobs), 0
    for number, job in enumerate(jobs, 1):
        start = time.monotonic()

        # The defaults bind this picture's values. Progress is weighted by size, because pictures may differ widely.
        def tell(what: str, done: float, most: float, job: Job = job, before: int = before, number: int = number) -> None:
            share = done / most if most else 0.0
            progress(f"{number} of {len(jobs)}, {job.name}: {what}", (before + job.weight * share) / total, 1)

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
    """Return the files that match a glob, with their names relative to its fixed part."""
    fixed = Path(*_fixed(pattern.parts[:-1]))
    files = [Path(path) for path in sorted(glob.glob(str(pattern), recursive=True)) if os.path.isfile(path)]
    if not files:
        raise PictureError(f"deblur: {str(pattern)!r} matches no file. Check its folder and its ending.")
    return [(path, path.relative_to(fixed)) for path in files]


def _fixed(parts: Sequence[str]) -> Iterator[str]:
    for part in parts:
        if glob.has_magic(part):
            return
        yield part


def _within(folder: Path, quiet: bool) -> list[tuple[Path, Path]]:
    """Return the pictures of a folder, without hidden files, its folders, and results of other pictures in it."""
    # Results that an earlier run wrote beside its pictures are not inputs of this one.
    known = picture_endings()
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    folders = [path for path in entries if path.is_dir()]
    files = [path for path in entries if path.is_file() and not _is_result(path)]
    pictures = [path for path in files if path.suffix.lower() in known]
    others = [path.name for path in files if path not in pictures]
    if others:
        many = (
            "1 file whose ending is not a picture's"
            if len(others) == 1
            else f"{len(others)} files whose endings are not a picture's"
        )
        remark(f"{folder}: left out {many}: {_some(others)}.", quiet)
    if folders:
        within = str(folder / "**" / "*.png")
        many, names = counted(len(folders), "folder"), _some(path.name for path in folders)
        remark(f"{folder}: left out {many} in it: {names}; {within!r} reads them.", quiet)
    return [(path, Path(path.name)) for path in pictures]


def _is_result(path: Path) -> bool:
    """Return whether an earlier run wrote this file beside a picture that is still there."""
    origin = path.stem.removesuffix("-before-after").removesuffix("-restored")
    if origin == path.stem:
        return False
    return path.with_name(origin).is_file() or any(True for _ in path.parent.glob(f"{glob.escape(origin)}.*"))


def picture_endings() -> set[str]:
    """Return the endings of all files that can be opened as pictures."""
    from PIL import Image

    from unconv.pictures.formats import FORMATS

    return {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS} | {
        ".npy",
        ".fits",
        ".fit",
        ".fts",
    }


def _names_of_files(files: Sequence[Path]) -> dict[Path, Path]:
    """Return a name for each file: its own, or relative to their common folder if two have the same."""
    own = {file: Path(file.name) for file in files}
    if len({str(name).casefold() for name in own.values()}) == len(own):
        return own
    common = os.path.commonpath([os.path.abspath(file.parent) for file in own])
    return {file: Path(os.path.relpath(os.path.abspath(file), common)) for file in own}


def _some(names: Iterable[Any]) -> str:
    texts = [str(name) for name in names]
    return ", ".join(texts[:_SHOWN]) + (f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else "")
