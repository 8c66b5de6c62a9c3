"""Room impulse responses from SOFA files, sound files and arrays."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import RecordingError, UnconvError, counted
from unconv.kinds import checks_kinds
from unconv.recordings.sound import open_sound

Array = np.ndarray[Any, Any]


@checks_kinds
def open_responses(path: str | Path, rate: float, place: int | None = None) -> Array:
    """Return the impulse responses (D, k) of a room, one for each microphone.

    Args:
        path: a sound file with one channel for each microphone (extra `speech`); .npy, (D, k) or (k,); or SOFA (extra
            `matlab`), with one or several measurements, such as for several positions of the source.
        rate: samples a second that the file must have; an .npy file is not checked.
        place: index of the measurement in a SOFA file, from 0; only needed if it has several.

    Raises:
        RecordingError: the file cannot be read, has another rate or several measurements, or holds no responses.
        UnconvError: soundfile or h5py is not installed.

    Source:
        AES69-2022, "AES standard for file exchange: spatial acoustic data file format".
    """
    path = Path(path)
    if path.suffix.lower() == ".sofa":
        return _from_sofa(path, place, rate)
    if place is not None:
        raise RecordingError(
            f"open_responses: place is {place}, but {path} is not a SOFA file, the only kind with several measurements. Leave "
            "it out."
        )
    if path.suffix.lower() == ".npy":
        return _from_array(path)
    with open_sound(path) as sound:
        _refuse_rate(path, sound.rate, rate)
        return sound.read()


def _from_array(path: Path) -> Array:
    try:
        responses = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RecordingError(
            f"open_responses: {path} cannot be read: {error}. Pass a sound file, .npy (D, k) or SOFA."
        ) from error
    if not isinstance(responses, np.ndarray) or responses.ndim not in (1, 2) or not responses.size:
        raise RecordingError(
            f"open_responses: {path} has shape {np.shape(responses)}, but (D, k), one response for each microphone, was needed."
        )
    return np.atleast_2d(responses)


def _from_sofa(path: Path, index: int | None, rate: float) -> Array:
    try:
        h5py = import_module("h5py")
    except ImportError as error:
        raise UnconvError(
            f'open_responses: h5py cannot be imported ({error}). Install it with pip install "unconv[matlab]".'
        ) from error
    try:
        with h5py.File(path) as file:
            responses, file_rate = file["Data.IR"][()], float(file["Data.SamplingRate"][0])
    except (OSError, KeyError, ValueError) as error:
        raise RecordingError(f"open_responses: {path} cannot be read as SOFA: {error}. Pass a file with Data.IR.") from error
    _refuse_rate(path, file_rate, rate)
    # Data.IR is (measurements, receivers, samples).
    count = len(responses)
    if responses.ndim != 3 or (index is None and count > 1) or not 0 <= (index or 0) < count:
        raise RecordingError(
            f"open_responses: {path} has {counted(count, 'measurement')}, 0 to {count - 1}, but one was needed. Choose it with "
            f"index=0, or with {path.name}:0 in a command."
        )
    measurement: Array = responses[index or 0]
    return measurement


def _refuse_rate(path: Path, file_rate: float, rate: float) -> None:
    if file_rate != rate:
        raise RecordingError(
            f"open_responses: {path} has {file_rate:,.6g} samples a second, but {rate:,.6g} were needed. Resample it."
        )
