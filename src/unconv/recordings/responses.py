"""Impulse responses of rooms: from SOFA, from sound files and from arrays."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import RecordingError, UnconvError
from unconv.kinds import checks_kinds
from unconv.recordings.sound import open_sound

Array = np.ndarray[Any, Any]


@checks_kinds
def open_responses(path: str | Path, rate: float, place: int | None = None) -> Array:
    """Return the impulse responses (D, k) of a room, one for each microphone.

    Args:
        path: a sound file with a channel for each microphone (extra `speech`); .npy, (D, k) or (k,); or SOFA (extra `matlab`),
            with its places, as of a source that was moved, and the receivers of each.
        rate: samples a second that they are needed at; .npy does not say.
        place: in a SOFA file, counted from 0; None where there is one.

    Raises:
        RecordingError: the file cannot be read, has another rate or several places, or holds no responses.
        UnconvError: soundfile or h5py is missing.

    Source:
        AES69-2022, "AES standard for file exchange: spatial acoustic data file format".
    """
    path = Path(path)
    if path.suffix.lower() == ".sofa":
        return _from_sofa(path, place, rate)
    if place is not None:
        raise RecordingError(
            f"open_responses: place is {place}, but {path} is no SOFA file, which alone has places. Leave it out."
        )
    if path.suffix.lower() == ".npy":
        return _from_array(path)
    with open_sound(path) as sound:
        _refuse_rate(path, sound.rate, rate)
        return sound.read()


def _from_array(path: Path) -> Array:
    try:
        made = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RecordingError(
            f"open_responses: {path} cannot be read: {error}. Pass a sound file, .npy (D, k) or SOFA."
        ) from error
    if not isinstance(made, np.ndarray) or made.ndim not in (1, 2) or not made.size:
        raise RecordingError(
            f"open_responses: {path} holds {np.shape(made)}, but responses (D, k), one for each microphone, were needed."
        )
    return np.atleast_2d(made)


def _from_sofa(path: Path, place: int | None, rate: float) -> Array:
    try:
        h5py = import_module("h5py")
    except ImportError as error:
        raise UnconvError(
            f'open_responses: h5py cannot be imported ({error}). Install it with pip install "unconv[matlab]".'
        ) from error
    try:
        with h5py.File(path) as file:
            responses, said = file["Data.IR"][()], float(file["Data.SamplingRate"][0])
    except (OSError, KeyError, ValueError) as error:
        raise RecordingError(f"open_responses: {path} cannot be read as SOFA: {error}. Pass a file with Data.IR.") from error
    _refuse_rate(path, said, rate)
    count = len(responses)
    if responses.ndim != 3 or (place is None and count > 1) or not 0 <= (place or 0) < count:
        raise RecordingError(
            f"open_responses: {path} has responses of {count} places, 0 to {count - 1}, but one was needed. Say which: "
            f"place=0, or {path.name}:0 in a command."
        )
    found: Array = responses[place or 0]
    return found


def _refuse_rate(path: Path, said: float, rate: float) -> None:
    if said != rate:
        raise RecordingError(
            f"open_responses: {path} has {said:,.6g} samples a second, but {rate:,.6g} were needed. Resample it."
        )
