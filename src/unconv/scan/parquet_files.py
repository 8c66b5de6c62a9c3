"""List the pictures in Parquet files, as Hugging Face writes them: a column of bytes, read row by row."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unconv.errors import PictureError
from unconv.scan.arrow import pyarrow
from unconv.scan.listed import Entry, Pictures

_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo", "bytes", "image_bytes")
_LABELS = ("label", "labels", "cls", "class", "fine_label")


def parquet_files(files: Sequence[Path], where: str) -> Pictures:
    """List the rows of Parquet files that have a column of pictures: `struct<bytes, path>`, or bytes alone.

    Raises:
        PictureError: a file has no such column, or cannot be read.
        ScanError: pyarrow is not installed.
    """
    entries = list[Entry]()
    reader = _Reader()
    for file in files:
        table = reader.opened(str(file))
        labels = _labels(table, str(file))
        rows = table.metadata.num_rows
        keys = [f"{file.name}:{row}" for row in range(rows)]
        entries += [Entry(key, str(file), row, -1, None if labels is None else labels[row]) for row, key in enumerate(keys)]
    return Pictures("parquet", where, entries, reader.read, one_at_a_time=True)


class _Reader:
    """Read rows by their entries. The last row group stays in memory, since neighbouring rows are read one after another."""

    def __init__(self) -> None:
        self._files: dict[str, Any] = {}
        self._group: tuple[str, int, Any] | None = None
        self._lock = threading.Lock()

    def opened(self, file: str) -> Any:
        if file not in self._files:
            try:
                self._files[file] = pyarrow().parquet.ParquetFile(file)
            except (pyarrow().ArrowException, OSError) as error:
                raise PictureError(f"pictures: {file} is no Parquet file, or is damaged: {error}.") from error
            _column(self._files[file], file)
        return self._files[file]

    def read(self, entry: Entry) -> bytes:
        with self._lock:
            table = self.opened(entry.source)
            first = 0
            for group in range(table.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                if entry.offset < first + rows:
                    break
                first += rows
            column = self._column_of(table, entry.source, group)
            if entry.offset - first >= len(column):
                raise PictureError(f"pictures: {entry.key}: {entry.source} has no row {entry.offset} any more.")
            content: bytes = _content(column[entry.offset - first].as_py(), entry)
            return content

    def _column_of(self, table: Any, file: str, group: int) -> Any:
        if self._group is None or self._group[:2] != (file, group):
            name = _column(table, file)
            try:
                self._group = (file, group, table.read_row_group(group, columns=[name]).column(0))
            except (pyarrow().ArrowException, OSError) as error:
                raise PictureError(f"pictures: row group {group} of {file} cannot be read: {error}.") from error
        return self._group[2]


def _content(value: Any, entry: Entry) -> bytes:
    """Return the bytes of a cell; where only a path is in it, of that file."""
    if isinstance(value, dict):
        path = value.get("path")
        if value.get("bytes") is None and path:
            if Path(path).is_absolute() or ".." in Path(path).parts:  # a table from elsewhere names no file of this machine
                raise PictureError(f"pictures: {entry.key} names {path}, which does not lie beside {entry.source}.")
            try:
                beside: bytes = (Path(entry.source).parent / path).read_bytes()
                return beside
            except OSError as error:
                raise PictureError(f"pictures: {entry.key} names {path}, which cannot be read: {error.strerror}.") from error
        value = value.get("bytes")
    if isinstance(value, bytes):
        return bytes(value)
    raise PictureError(f"pictures: {entry.key} holds no picture, but {type(value).__name__}.")


def _column(table: Any, file: str) -> str:
    """Return the name of the column that holds pictures."""
    pa = pyarrow()
    kinds = {field.name: field.type for field in table.schema_arrow}
    fitting = [name for name, kind in kinds.items() if _holds_bytes(kind, pa)]
    candidates = [name for name in _COLUMNS if name in fitting] or fitting
    if not candidates:
        raise PictureError(
            f"pictures: {file} has the columns {', '.join(kinds)[:200]}, but one of bytes, or of struct<bytes, path>, was "
            "needed. Write the files' content into a column `image`."
        )
    return candidates[0]


def _holds_bytes(kind: Any, pa: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type, pa) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _labels(table: Any, file: str) -> list[str | None] | None:
    """Return the classes of all rows, by the names in Hugging Face's metadata if there are any; None without a label column."""
    names = [field.name for field in table.schema_arrow]
    column_name = next((name for name in _LABELS if name in names), None)
    if column_name is None:
        return None
    try:
        values = table.read(columns=[column_name]).column(0).to_pylist()
    except (pyarrow().ArrowException, OSError) as error:
        raise PictureError(f"pictures: the column {column_name} of {file} cannot be read: {error}.") from error
    class_names: Any = None
    try:
        metadata = json.loads((table.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
        class_names = metadata["info"]["features"][column_name]["names"]
    except (ValueError, LookupError, TypeError):
        class_names = None
    class_list = class_names if isinstance(class_names, list) else []
    return [None if v is None else class_list[v] if isinstance(v, int) and 0 <= v < len(class_list) else str(v) for v in values]


def parquet_reader() -> Any:
    """Return a function that reads rows of Parquet files by their entries."""
    return _Reader().read
