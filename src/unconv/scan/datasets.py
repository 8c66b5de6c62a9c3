"""List the pictures of a data set in Python: torch's, torchvision's, Hugging Face's, or any with a length and an index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from unconv.errors import DtypeError, PictureError
from unconv.scan.listed import Entry, Pictures

_IMAGES = ("image", "img", "pixel_values", "jpg", "png", "picture")
_LABELS = ("label", "labels", "cls", "fine_label", "target")


def dataset(rows: Any) -> Pictures:
    """List the pictures of a data set; a row is a picture, (picture, label), or a dictionary of both.

    Raises:
        DtypeError: the data set has no length, or its rows cannot be read by number, such as a stream.
        PictureError: a row holds no picture, or another one each time.
    """
    count = _length(rows)
    rows = _undecoded(rows)
    names, classes = _names(rows, count), getattr(rows, "classes", None)
    if count:
        _refuse_random(rows)
    labels = _labels(rows, count, classes)
    entries = [Entry(names[number], "", number, -1, labels[number]) for number in range(count)]
    return Pictures("dataset", "", entries, lambda entry: picture_of(rows[entry.offset]), one_at_a_time=True)


def _length(rows: Any) -> int:
    """Return the number of rows.

    Raises:
        DtypeError: it is not known, or rows cannot be read by number.
    """
    try:
        count = len(rows)
    except TypeError:  # torch's IterableDataset has a length that raises
        count = -1
    if count < 0 or not hasattr(rows, "__getitem__"):
        raise DtypeError(
            f"pictures: a {type(rows).__name__} came, a stream without a length or without rows by number, but the strongest "
            "pictures are read again. Save it as .tar files, or as a folder, and pass that."
        )
    return count


def picture_of(row: Any) -> Any:
    """Return the picture in a row.

    Raises:
        PictureError: the row holds none.
    """
    if isinstance(row, Mapping):
        name = next((name for name in _IMAGES if name in row), None)
        row = row[name] if name else next((v for v in row.values() if _is_picture(v)), row)
    elif isinstance(row, tuple | list) and row:
        row = row[0]
    if isinstance(row, Mapping) and isinstance(row.get("bytes"), bytes):
        return row["bytes"]
    if not _is_picture(row):
        raise PictureError(
            f"pictures: a row of the data set holds {type(row).__name__}, but a picture, an array, a tensor, or a tuple that "
            "begins with one was needed."
        )
    return row


def _is_picture(value: Any) -> bool:
    return isinstance(value, Image.Image | np.ndarray | Tensor | bytes) or (
        isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes)
    )


def _undecoded(rows: Any) -> Any:
    """Return a Hugging Face data set with its pictures as bytes. We decode them, so that a damaged one costs only its row."""
    features = getattr(rows, "features", None)
    if not isinstance(features, Mapping) or not hasattr(rows, "cast_column"):
        return rows
    for name, feature in features.items():
        if type(feature).__name__ == "Image":
            rows = rows.cast_column(name, type(feature)(decode=False))
    return rows


def _names(rows: Any, count: int) -> list[str]:
    samples = getattr(rows, "samples", None)
    if isinstance(samples, list) and len(samples) == count and all(isinstance(s, tuple) and s for s in samples):
        names = [str(sample[0]) for sample in samples]
        if len(set(names)) == count:
            return names
    return [str(number) for number in range(count)]


def _labels(rows: Any, count: int, classes: Any) -> list[str | None]:
    targets = getattr(rows, "targets", None)
    if targets is None and isinstance(getattr(rows, "features", None), Mapping):
        column = next((name for name in _LABELS if name in rows.features), None)
        targets = None if column is None else rows[column]
        classes = getattr(rows.features.get(column), "names", None) if column else None
    if targets is None or len(targets) != count:
        return [None] * count
    numbers = targets.tolist() if hasattr(targets, "tolist") else list(targets)
    class_names = classes if isinstance(classes, list | tuple) else []
    return [class_names[n] if isinstance(n, int) and 0 <= n < len(class_names) else str(n) for n in numbers]


def _refuse_random(rows: Any) -> None:
    """Refuse rows with random augmentation, whose strongest pictures could not be shown again."""
    try:
        first, second = (picture_of(rows[0]) for _ in range(2))
    except (OSError, ValueError, RuntimeError):  # a damaged first picture is reported in its own row
        return
    if isinstance(first, bytes) or type(first) is not type(second):
        return
    if not np.array_equal(np.asarray(first), np.asarray(second)):
        raise PictureError(
            "pictures: row 0 of the data set gave two different pictures: its transform draws random numbers, but the "
            "strongest pictures are shown again. Pass the data set without augmentation."
        )
