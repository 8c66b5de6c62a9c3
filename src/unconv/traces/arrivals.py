"""Three-component records of distant earthquakes: read, rotated to radial and vertical, and cut around the P wave."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import ShapeError, TraceError, UnconvError

_TOGETHER = 5.0  # seconds within which the components of one event begin
_EARLY = 30.0  # seconds that a P wave may come before its record begins and still belong to it


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Radial and vertical components, a row for each event and station.

    Attributes:
        radial, vertical: (m, n), float64.
        rate: samples a second.
        start: seconds from the P wave to the first sample; None where the P wave is not known.
        names: of the rows.
        notes: what was left out, and why.
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
    """Read records through ObsPy (miniSEED, SAC and what else it knows), and rotate north and east to radial.

    Args:
        events, stations: catalogue and inventory (QuakeML, StationXML), from which the back azimuth and the P wave's arrival
            (model iasp91) follow. Without them both come from SAC headers (`baz`, `a`), or from:
        back_azimuth: degrees from north to the event. Records with R and Z components need none.
        window: seconds around the P wave that are cut out, where it is known.
        band: Hz, of a band-pass before that.

    Raises:
        UnconvError: ObsPy is not installed. TraceError: no record with what is needed; two sampling rates.
    """
    obspy = _obspy()
    if not window[0] < window[1]:
        raise ShapeError(
            f"receiver function: the window is {window[0]:g} to {window[1]:g} s, but two ascending times were needed."
        )
    stream = obspy.Stream()
    for path in paths:
        stream += _read(lambda path=path: obspy.read(str(path)), path)
    where = _Where(
        None if events is None else _read(lambda: obspy.read_events(str(events)), events),
        None if stations is None else _read(lambda: obspy.read_inventory(str(stations)), stations),
        back_azimuth,
    )
    rates = sorted({float(trace.stats.sampling_rate) for trace in stream})
    if len(rates) != 1:
        raise TraceError(
            f"receiver function: the records have sampling rates of {rates} Hz, but one was needed. Resample some."
        )
    rows, left_out = list[tuple[str, Any, Any, float | None]](), list[str]()
    for name, group in _groups(stream):
        try:
            rows.append((name, *_rotated(group, where, window, band)))
        except TraceError as reason:
            left_out.append(f"{name}: {reason}")
    if not rows:
        raise TraceError(f"receiver function: no record has what is needed. {' '.join(left_out[:3])}")
    n = min(len(radial) for _, radial, _, _ in rows)
    starts = {start for _, _, _, start in rows}
    radial, vertical = np.stack([row[1][:n] for row in rows]), np.stack([row[2][:n] for row in rows])
    notes = tuple(f"left out: {text}" for text in left_out)
    start = starts.pop() if len(starts) == 1 else None
    return Arrivals(radial, vertical, rates[0], start, tuple(name for name, *_ in rows), notes)


@dataclass(frozen=True)
class _Where:
    """What tells where an event is."""

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
    except Exception as error:  # obspy raises whatever its plug-ins raise
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TraceError(f"receiver function: {path} cannot be read: {text}. Pass a file that ObsPy reads.") from error


def _groups(stream: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the components that began together at one station, by their letters."""
    by_station = defaultdict(list)
    for trace in stream:
        stats = trace.stats
        by_station[f"{stats.network}.{stats.station}.{stats.location}.{stats.channel[:-1]}"].append(trace)
    for station, traces in sorted(by_station.items()):
        traces.sort(key=lambda trace: trace.stats.starttime)
        while traces:
            first = traces[0].stats.starttime
            group = [trace for trace in traces if trace.stats.starttime - first <= _TOGETHER]
            traces = traces[len(group) :]
            yield f"{station} {first.strftime('%Y-%m-%dT%H:%M:%S')}", {trace.stats.channel[-1:]: trace for trace in group}


def _rotated(
    group: dict[str, Any], where: _Where, window: tuple[float, float], band: tuple[float, float] | None
) -> tuple[Any, Any, float | None]:
    """Return the radial and the vertical component, cut, and the seconds from the P wave to their first sample."""
    wanted = "RZ" if "R" in group else "NEZ"
    if lacking := [letter for letter in wanted if letter not in group]:
        raise TraceError(f"components {', '.join(sorted(group))} came, but {', '.join(lacking)} are lacking.")
    azimuth, onset = _event(group["Z"], where)
    group = _together({letter: group[letter].copy() for letter in wanted})
    pieces = {letter: _cut(group[letter], onset, window, band) for letter in wanted}
    n = min(len(piece) for piece in pieces.values())
    vertical = pieces["Z"][:n]
    start = None if onset is None else window[0]
    if wanted == "RZ":
        return pieces["R"][:n], vertical, start
    if azimuth is None:
        raise TraceError("north and east need a back azimuth: pass it, or an event catalogue and a station inventory.")
    # Radial points away from the event: from north and east by the back azimuth, turned round.
    angle = np.deg2rad(azimuth)
    return -np.cos(angle) * pieces["N"][:n] - np.sin(angle) * pieces["E"][:n], vertical, start


def _together(group: dict[str, Any]) -> dict[str, Any]:
    """Cut components to the time that they share."""
    begin = max(trace.stats.starttime for trace in group.values())
    end = min(trace.stats.endtime for trace in group.values())
    if end - begin < 2 / next(iter(group.values())).stats.sampling_rate:
        raise TraceError("its components do not share any time.")
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
            raise TraceError(f"the record does not reach from {window[0]:g} to {window[1]:g} s around the P wave.")
        trace.trim(begin, end, nearest_sample=True)
    return np.asarray(trace.data, dtype=np.float64)


def _event(trace: Any, where: _Where) -> tuple[float | None, Any]:
    """Return the back azimuth of a record's event, and when its P wave comes; None for what is not known."""
    header = trace.stats.get("sac", {})
    azimuth = where.back_azimuth if where.back_azimuth is not None else header.get("baz")
    onset = None
    if "a" in header and "b" in header:
        onset = trace.stats.starttime + float(header["a"]) - float(header["b"])
    if where.events is None or where.stations is None:
        return azimuth, onset
    for event in where.events:
        origin = event.preferred_origin() or event.origins[0]
        # P waves take a quarter of an hour at most: other events are not looked at.
        if not -_EARLY < trace.stats.endtime - origin.time < 3600 + trace.stats.npts * trace.stats.delta:
            continue
        found = _arrival(trace, origin, where.stations)
        if found is not None and trace.stats.starttime - _EARLY < found[1] < trace.stats.endtime:
            return found
    raise TraceError("no event of the catalogue has its P wave in it.")


def _arrival(trace: Any, origin: Any, stations: Any) -> tuple[float, Any] | None:
    from obspy.geodetics import gps2dist_azimuth, locations2degrees

    place = stations.get_coordinates(trace.id, trace.stats.starttime)
    there = (origin.latitude, origin.longitude)
    here = (place["latitude"], place["longitude"])
    back = gps2dist_azimuth(*there, *here)[2]
    arrivals = _model().get_travel_times((origin.depth or 0) / 1e3, locations2degrees(*there, *here), ["P"])
    return (back, origin.time + arrivals[0].time) if arrivals else None


def _model() -> Any:
    from obspy.taup import TauPyModel

    return TauPyModel("iasp91")
