"""Three-component records of distant earthquakes, read, rotated to radial and vertical, and cut around the P wave."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import ShapeError, TraceError, UnconvError

_SAME_START = 5.0  # seconds within which all components of one event begin
_EARLY = 30.0  # seconds by which a P wave may precede the record that it belongs to


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Radial and vertical components, one row for each event and station.

    Attributes:
        radial, vertical: (m, n), float64.
        rate: samples a second.
        start: seconds from the P wave to the first sample; None if the arrival of the P wave is not known for all rows.
        names: of the rows: channel and start time.
        notes: the records that were left out, and why.
    """

    radial: np.ndarray[Any, np.dtype[np.float64]]
    vertical: np.ndarray[Any, np.dtype[np.float64]]
    rate: float
    start: float | None
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def open_arrivals(
    paths: Sequence[Path],
    events: Path | None = None,
    stations: Path | None = None,
    back_azimuth: float | None = None,
    window: tuple[float, float] = (-25.0, 75.0),
    band: tuple[float, float] | None = None,
) -> Arrivals:
    """Return the radial and vertical components of records that ObsPy reads, such as miniSEED and SAC.

    North and east components are rotated to radial by the back azimuth. Records with R and Z components need no rotation.

    Args:
        paths: the records.
        events, stations: event catalogue (QuakeML) and station inventory (StationXML). They give the back azimuth and, by the
            model iasp91, the arrival of the P wave. If one is missing, both come from SAC headers (`baz`, `a`).
        back_azimuth: direction to the event in degrees from north, if no file gives it.
        window: seconds around the P wave that are cut out, if its arrival is known.
        band: corner frequencies in Hz of a band-pass that is applied first.

    Raises:
        UnconvError: ObsPy is not installed.
        TraceError: no complete record, or more than one sampling rate.
        ShapeError: a window that is not ascending.
    """
    obspy = _obspy()
    if not window[0] < window[1]:
        raise ShapeError(
            f"receiver function: the window is {window[0]:g} to {window[1]:g} s, but two ascending times were needed. Pass "
            "seconds relative to the P wave."
        )
    stream = obspy.Stream()
    for path in paths:
        stream += _read(lambda path=path: obspy.read(str(path)), path)
    sources = _Sources(
        None if events is None else _read(lambda: obspy.read_events(str(events)), events),
        None if stations is None else _read(lambda: obspy.read_inventory(str(stations)), stations),
        back_azimuth,
    )
    rates = sorted({float(trace.stats.sampling_rate) for trace in stream})
    if len(rates) != 1:
        raise TraceError(
            f"receiver function: the records have sampling rates of {rates} Hz, but one rate was needed. Resample some of them."
        )
    rows, left_out = list[tuple[str, Any, Any, float | None]](), list[str]()
    # One bad event of many is left out with a note; only if none is left, its reason becomes the error.
    for name, group in _groups(stream):
        try:
            rows.append((name, *_rotated(group, sources, window, band)))
        except TraceError as reason:
            left_out.append(f"{name}: {reason}")
    if not rows:
        raise TraceError(f"receiver function: no record is complete. {' '.join(left_out[:3])}")
    n = min(len(radial) for _, radial, _, _ in rows)
    starts = {start for _, _, _, start in rows}
    radial, vertical = np.stack([row[1][:n] for row in rows]), np.stack([row[2][:n] for row in rows])
    notes = tuple(f"left out: {text}" for text in left_out)
    start = starts.pop() if len(starts) == 1 else None
    return Arrivals(radial, vertical, rates[0], start, tuple(name for name, *_ in rows), notes)


@dataclass(frozen=True)
class _Sources:
    """Where back azimuths and arrivals come from."""

    events: Any
    stations: Any
    back_azimuth: float | None


def _obspy() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import obspy
            import obspy.taup
    except ImportError as error:
        raise UnconvError(
            f'receiver function: obspy cannot be imported ({error}). Install it with pip install "unconv[seismic]".'
        ) from error
    return obspy


def _read(read: Any, path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except Exception as error:  # obspy's plug-ins may raise any exception
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TraceError(f"receiver function: {path} cannot be read: {text}. Pass a file that ObsPy reads.") from error


def _groups(stream: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each record, and its components by their letters: those of one station that begin together."""
    by_station = defaultdict(list)
    for trace in stream:
        stats = trace.stats
        by_station[f"{stats.network}.{stats.station}.{stats.location}.{stats.channel[:-1]}"].append(trace)
    for station, traces in sorted(by_station.items()):
        traces.sort(key=lambda trace: trace.stats.starttime)
        while traces:
            first = traces[0].stats.starttime
            group = [trace for trace in traces if trace.stats.starttime - first <= _SAME_START]
            traces = traces[len(group) :]
            yield f"{station} {first.strftime('%Y-%m-%dT%H:%M:%S')}", {trace.stats.channel[-1:]: trace for trace in group}


def _rotated(
    group: dict[str, Any], sources: _Sources, window: tuple[float, float], band: tuple[float, float] | None
) -> tuple[Any, Any, float | None]:
    """Return the radial and the vertical component, cut, and the seconds from the P wave to their first sample."""
    letters = "RZ" if "R" in group else "NEZ"
    if missing := [letter for letter in letters if letter not in group]:
        words = "component is" if len(missing) == 1 else "components are"
        raise TraceError(f"only components {', '.join(sorted(group))} came; the {words} missing: {', '.join(missing)}.")
    azimuth, onset = _event(group["Z"], sources)
    group = _common_span({letter: group[letter].copy() for letter in letters})
    pieces = {letter: _cut(group[letter], onset, window, band) for letter in letters}
    n = min(len(piece) for piece in pieces.values())
    vertical = pieces["Z"][:n]
    start = None if onset is None else window[0]
    if letters == "RZ":
        return pieces["R"][:n], vertical, start
    if azimuth is None:
        raise TraceError(
            "north and east components need a back azimuth. Pass it, or an event catalogue and a station inventory."
        )
    # The back azimuth points to the event and radial points away from it: hence the minus signs.
    angle = np.deg2rad(azimuth)
    return -np.cos(angle) * pieces["N"][:n] - np.sin(angle) * pieces["E"][:n], vertical, start


def _common_span(group: dict[str, Any]) -> dict[str, Any]:
    """Cut components to the time span that they share."""
    begin = max(trace.stats.starttime for trace in group.values())
    end = min(trace.stats.endtime for trace in group.values())
    if end - begin < 2 / next(iter(group.values())).stats.sampling_rate:
        raise TraceError("its components do not overlap in time.")
    for trace in group.values():
        trace.trim(begin, end, nearest_sample=True)
    return group


def _cut(trace: Any, onset: Any, window: tuple[float, float], band: tuple[float, float] | None) -> Any:
    trace.detrend("linear")
    if band is not None:
        trace.filter("bandpass", freqmin=band[0], freqmax=band[1])
    if onset is not None:
        begin, end = onset + window[0], onset + window[1]
        if trace.stats.starttime > begin + trace.stats.delta or trace.stats.endtime < end - trace.stats.delta:
            raise TraceError(f"the record does not cover {window[0]:g} to {window[1]:g} s around the P wave.")
        trace.trim(begin, end, nearest_sample=True)
    return np.asarray(trace.data, dtype=np.float64)


def _event(trace: Any, sources: _Sources) -> tuple[float | None, Any]:
    """Return the back azimuth of a record's event and the arrival of its P wave; None if unknown."""
    header = trace.stats.get("sac", {})
    azimuth = sources.back_azimuth if sources.back_azimuth is not None else header.get("baz")
    onset = None
    if "a" in header and "b" in header:
        onset = trace.stats.starttime + float(header["a"]) - float(header["b"])
    if sources.events is None or sources.stations is None:
        return azimuth, onset
    for event in sources.events:
        origin = event.preferred_origin() or event.origins[0]
        # Travel times are computed only for events within an hour: P waves take a quarter of an hour at most.
        if not -_EARLY < trace.stats.endtime - origin.time < 3600 + trace.stats.npts * trace.stats.delta:
            continue
        arrival = _arrival(trace, origin, sources.stations)
        if arrival is not None and trace.stats.starttime - _EARLY < arrival[1] < trace.stats.endtime:
            return arrival
    raise TraceError("the P wave of no event in the catalogue arrives during it.")


def _arrival(trace: Any, origin: Any, stations: Any) -> tuple[float, Any] | None:
    """Return the back azimuth of an event and the arrival of its P wave; None if no P wave reaches the station."""
    from obspy.geodetics import gps2dist_azimuth, locations2degrees

    coordinates = stations.get_coordinates(trace.id, trace.stats.starttime)
    event = (origin.latitude, origin.longitude)
    station = (coordinates["latitude"], coordinates["longitude"])
    back_azimuth = gps2dist_azimuth(*event, *station)[2]
    arrivals = _model().get_travel_times((origin.depth or 0) / 1e3, locations2degrees(*event, *station), ["P"])
    return (back_azimuth, origin.time + arrivals[0].time) if arrivals else None


def _model() -> Any:
    from obspy.taup import TauPyModel

    return TauPyModel("iasp91")
