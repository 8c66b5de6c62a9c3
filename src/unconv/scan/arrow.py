"""Import pyarrow, an optional extra that reads and writes Parquet, where it is needed."""

from __future__ import annotations

from typing import Any

from unconv.errors import ScanError


def pyarrow() -> Any:
    """Return the module pyarrow, with `pyarrow.parquet` imported.

    Raises:
        ScanError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ScanError('scan: Parquet files, and so indexes, need pyarrow: pip install "unconv[scan]".') from error
    return pyarrow
