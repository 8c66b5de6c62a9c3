"""pyarrow, which reads and writes Parquet: an extra, asked for where it is used."""

from __future__ import annotations

from typing import Any

from unconv.errors import ScanError


def pyarrow() -> Any:
    """Return pyarrow, with its Parquet.

    Raises:
        ScanError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ScanError('scan: Parquet files, and so indexes, need pyarrow: pip install "unconv[scan]".') from error
    return pyarrow
