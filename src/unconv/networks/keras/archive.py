"""A `.keras` file as an archive: its three members, checked before Keras reads them."""

from __future__ import annotations

import io
from typing import BinaryIO

from unconv.networks.keras.config import MOST_BYTES, check_config
from unconv.networks.keras.hdf5 import Dataset, check_hdf5
from unconv.networks.model_files import Unfit
from unconv.networks.zips import open_zip, verify

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {_CONFIG, _WEIGHTS, "metadata.json"}


def check_keras(file: BinaryIO) -> list[Dataset]:
    """Check a `.keras` file and return the datasets of its weights.

    Raises:
        Unfit: it is no such file, is damaged, differs from its checksums, or names something that is not Keras' own.
    """
    archive, members = open_zip(file)
    foreign = sorted({name for name in members if not name.endswith("/")} - _MEMBERS)
    if foreign:
        raise Unfit(f"it contains {foreign[0]!r}, but only {', '.join(sorted(_MEMBERS))} were expected")
    if missing := sorted({_CONFIG, _WEIGHTS} - set(members)):
        raise Unfit(f"it contains no {missing[0]}")
    small = [member for name, member in members.items() if name != _WEIGHTS]
    if any(member.size > MOST_BYTES for member in small):
        raise Unfit("its configuration is too large")
    # The configuration comes first, so that a bad one is refused before a gigabyte of weights is expanded.
    verify(file, archive, {name: member for name, member in members.items() if name != _WEIGHTS})
    check_config(archive.read(_CONFIG))
    verify(file, archive, {_WEIGHTS: members[_WEIGHTS]})
    return check_hdf5(io.BytesIO(archive.read(_WEIGHTS)), members[_WEIGHTS].size)
