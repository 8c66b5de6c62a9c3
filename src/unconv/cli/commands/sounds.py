"""Commands on recordings: dereverberation, and cepstra with the echoes and the pitch of a recording."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unconv.cli.groups import Group
from unconv.cli.options import AsJson, Quiet, one_of
from unconv.cli.progress import print_table, remark, show_progress
from unconv.cli.sound_options import Excerpt, in_blocks, output_paths, read_clean, read_rooms, rooms_file
from unconv.cli.trace_options import array_bytes, json_text, refuse_outputs
from unconv.errors import UnconvError, counted, nearest, printable
from unconv.files import write
from unconv.inverse.fields.speech.method_table import BLIND, KNOWN, method_help
from unconv.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from unconv.recordings import Sound

    Array = np.ndarray[Any, Any]

GROUP = Group("Measured signals", 5)

Force = Annotated[bool, typer.Option("--force", "--overwrite", help="Replace existing files.")]
_NOTED_TWICE = ((": clipped (", " is clipped ("), (": silent (", ": silent"))  # words in dereverb's notes; in those of levels
_MAX_GAIN = 200  # dB
_Kinds = "WAV, FLAC, AIFF, OGG or another kind that libsndfile reads (extra speech)"


@GROUP.command
def dereverb(
    sounds: Annotated[
        list[Path],
        typer.Argument(metavar="IN...", help=f"A recording: {_Kinds}. Several files are the microphones of one array."),
    ],
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A sound file, such as .wav or .flac; or a folder, for files of the same names."),
    ],
    method: Annotated[str | None, typer.Option(help=method_help(), autocompletion=one_of([*BLIND, *KNOWN]))] = None,
    taps: Annotated[
        str,
        typer.Option(
            help="Past frames of each channel in the prediction, 8 ms apart; auto: by the numbers of channels and frames."
        ),
    ] = "auto",
    rooms: Annotated[
        str | None,
        typer.Option(
            help="Impulse responses of the room, if known, one for each microphone: a sound file, .npy (D, k), or SOFA "
            "(ROOM.sofa:3 is its fourth measurement). OUT then has one channel, the dry source."
        ),
    ] = None,
    gain: Annotated[float, typer.Option(help="Gain of the result in dB: -12 for a result that would be clipped.")] = 0.0,
    each: Annotated[
        bool, typer.Option("--each", help="Process each file by itself, not as the microphones of one array.")
    ] = False,
    reference: Annotated[
        Path | None, typer.Option(help="A clean recording that begins at the same time; prints the distances to it.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Also write spectrograms of the first channel, as PNG; needs the extra plot.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Remove reverberation from speech, blindly or with known room responses. Rate, bits and texts of the file are kept."""
    chosen = _chosen(method, taps, rooms, reference or picture, each and len(sounds) > 1)
    if not abs(gain) <= _MAX_GAIN:
        raise typer.BadParameter(f"--gain {gain}: write dB, from -{_MAX_GAIN} to {_MAX_GAIN}.")
    outputs = output_paths(sounds, out)
    if rooms is not None and len(outputs) > 1 and not each:
        raise UnconvError(f"dereverb: with --rooms the result is one signal, but {out} is a folder. Pass the name of a file.")
    if each and len(outputs) < len(sounds):
        raise UnconvError(f"dereverb: with --each there are {len(sounds)} results, but {out} is one file. Pass a folder.")
    # The reference and the room responses may not be overwritten either.
    sources = [*sounds, *([reference] if reference else []), *([rooms_file(rooms)[0]] if rooms else [])]
    refuse_outputs("dereverb", [*outputs, *([picture] if picture else [])], sources, force)
    jobs = [([path], [output]) for path, output in zip(sounds, outputs, strict=True)] if each else [(sounds, outputs)]
    records = []
    with show_progress(as_json or quiet, "reading") as progress:
        for paths, outs in jobs:
            settings = _Settings(chosen, taps, rooms, 10 ** (gain / 20), reference, picture)
            records.append(_dereverbed(paths, outs, settings, progress))
            if not as_json:
                _print_dereverbed(records[-1], quiet)
    if as_json:
        print(json_text(records[0] if not each else {"recordings": records}))


def _chosen(method: str | None, taps: str, rooms: str | None, alone: object, several: bool) -> str:
    """Return the method, and refuse options that do not go together; `alone`: an option for a single recording."""
    table = BLIND if rooms is None else KNOWN
    chosen = next(iter(table)) if method is None else method
    if chosen not in table:
        if chosen in BLIND | KNOWN:
            hint = f"{chosen} goes {'with' if rooms is None else 'without'} --rooms."
        else:
            hint = f"Nearest: {nearest(chosen, table)}."
        raise typer.BadParameter(f"--method {chosen!r}: write one of {', '.join(table)}. {hint}")
    if taps != "auto" and (rooms is not None or not taps.isdecimal() or int(taps) < 1):
        raise typer.BadParameter(
            f"--taps {taps!r}: write auto or a whole number of 1 or more. --taps does not go with --rooms."
        )
    if several and alone:
        raise typer.BadParameter(
            "--reference and --picture are for a single recording: they do not go with --each and several files. "
            "Leave them out."
        )
    return chosen


@dataclass(frozen=True)
class _Settings:
    """The settings for a recording; the result is multiplied by `scale`."""

    method: str
    taps: str
    rooms: str | None
    scale: float
    reference: Path | None
    picture: Path | None


def _dereverbed(paths: list[Path], outs: list[Path], settings: _Settings, progress: Progress) -> dict[str, Any]:
    """Process one recording, write its results, and return the record for --json."""
    from unconv.recordings import open_sound, open_sounds

    begun = time.monotonic()
    with open_sound(paths[0]) if len(paths) == 1 else open_sounds(paths) as sound:
        # Both files are read before an output is opened, so that a wrong rate is refused at once.
        excerpt = Excerpt(bool(settings.reference or settings.picture))
        clean = None if settings.reference is None else read_clean(settings.reference, sound.rate, sound.frames)
        responses = None if settings.rooms is None else read_rooms(settings.rooms, sound.rate)
        record: dict[str, Any] = {"method": settings.method, "rate": sound.rate, "channels": sound.channels}
        record["samples"] = sound.frames
        with sound.rewritten(outs if len(outs) > 1 else outs[0], None if responses is None else 1) as writer:
            if responses is None:
                record |= _blindly(sound, settings, writer, excerpt, progress)
            else:
                record |= _with_rooms(sound, settings, responses, writer, excerpt, progress)
        record["notes"] = [*dict.fromkeys([*sound.notes, *record["notes"], *writer.notes])]
        record["clipped"] = writer.clipped
        if clean is not None:
            record |= _distances(excerpt, clean, sound.rate)
        if settings.picture is not None:
            write(settings.picture, _drawn(excerpt, clean, sound.rate, settings.method))
    files = [str(path) for path in [*outs, *([settings.picture] if settings.picture else [])]]
    return record | {"files": files, "seconds": round(time.monotonic() - begun, 2)}


def _blindly(sound: Sound, settings: _Settings, writer: Any, excerpt: Excerpt, progress: Progress) -> dict[str, Any]:
    """Dereverberate a recording of an unknown room block by block, and return the notes."""
    import numpy as np

    from unconv.inverse.fields import speech
    from unconv.recordings import levels

    notes = dict[str, None]()
    taps: Any = settings.taps if settings.taps == "auto" else int(settings.taps)

    def work(block: Array, onward: Progress) -> Array:
        result = speech.dereverb(block, sound.rate, settings.method, taps=taps, progress=onward)  # type: ignore[arg-type]
        notes.update(dict.fromkeys(result.notes))
        return np.asarray(result.signal)

    total = None
    for before, after in in_blocks(sound, work, progress):
        block_levels = levels(before)
        total = block_levels if total is None else total + block_levels
        excerpt.take(before, after)
        writer.put(settings.scale * after)
    level_notes = total.notes if total is not None else ()
    # Left out are notes of single blocks that the levels of the entire recording cover. So is the note on layout: a block with
    # fewer samples than channels looks like (n, channels), but samples of a file always come as (channels, n).
    covered = ["read as (n, channels)"]
    covered += [words for words, in_levels in _NOTED_TWICE if any(in_levels in note for note in level_notes)]
    return {"notes": [*level_notes, *(note for note in notes if not any(words in note for words in covered))]}


def _with_rooms(
    sound: Sound, settings: _Settings, responses: Array, writer: Any, excerpt: Excerpt, progress: Progress
) -> dict[str, Any]:
    from unconv.inverse.fields import speech
    from unconv.recordings import levels

    progress("inverting the room", 0, 0)
    before = sound.read()
    result = speech.invert_room(before, responses, sound.rate, method=settings.method)  # type: ignore[arg-type]
    excerpt.take(before, result.signal[None])
    writer.put(settings.scale * result.signal)
    numbers = {"error": result.error, "noise": result.noise, "condition": result.condition}
    return numbers | {"notes": [*levels(before).notes, *result.notes]}


def _distances(excerpt: Excerpt, clean: Array, rate: int) -> dict[str, Any]:
    from unconv.inverse.fields.speech import feature_distance

    before, after = excerpt.both()
    n = min(len(before), len(clean))
    distance = feature_distance(before[:n], after[:n], clean[:n], rate)
    return {
        "cepstral_distance": {"before": distance.cepstral_before, "after": distance.cepstral_after},
        "log_mel_distance": {"before": distance.log_mel_before, "after": distance.log_mel_after},
    }


def _drawn(excerpt: Excerpt, clean: Array | None, rate: int, method: str) -> bytes:
    from unconv.render.spectrograms import spectrogram_picture

    before, after = excerpt.both()
    n = len(before) if clean is None else min(len(before), len(clean))
    shown = None if clean is None else clean[:n]
    return spectrogram_picture(before[:n], after[:n], rate, shown, names=("recording", method, "reference"))


def _print_dereverbed(record: dict[str, Any], quiet: bool) -> None:
    for note in record["notes"]:
        remark(note, quiet)
    channels, duration = counted(record["channels"], "channel"), record["samples"] / record["rate"]
    print(f"{record['method']}: {channels}, {duration:.1f} s at {record['rate']:,} Hz, done in {record['seconds']:.1f} s")
    if "noise" in record and record["noise"] == record["noise"]:
        print(f"noise of a microphone {record['noise']:.3g}, expected error of the result {record['error']:.3g}, full scale 1")
    for name in ("cepstral", "log_mel"):
        if distance := record.get(f"{name}_distance"):
            words = name.replace("_", "-")
            print(f"{words} distance to the reference: {distance['before']:.2f} dB before, {distance['after']:.2f} dB after")
    print(printable(f"wrote {', '.join(record['files'])}"))


@GROUP.command
def cepstrum(
    sound: Annotated[Path, typer.Argument(metavar="IN", help=f"A recording: {_Kinds}.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Write the cepstra, .npy (channels, m), for quefrencies of 0, 1, ... samples."),
    ] = None,
    remove_echo: Annotated[Path | None, typer.Option(help="Write the recording without these echoes, as a sound file.")] = None,
    shortest: Annotated[
        float, typer.Option(help="Shortest delay of an echo in seconds; voices have peaks below the default.")
    ] = 0.02,
    longest: Annotated[float, typer.Option(help="Longest delay of an echo in seconds.")] = 0.5,
    most: Annotated[int, typer.Option(help="Largest number of echoes in a channel.")] = 4,
    picture: Annotated[
        Path | None, typer.Option(help="Also write a picture of the first channel's cepstrum, as PNG; needs the extra plot.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find the echoes and the pitch of a recording by its cepstrum, and remove single echoes."""
    from unconv.recordings import levels, open_sound

    if out is not None and out.suffix.lower() != ".npy":
        raise typer.BadParameter(f"-o {out}: cepstra are written as .npy. Use the ending .npy.")
    outputs = [path for path in (out, remove_echo, picture) if path is not None]
    refuse_outputs("cepstrum", outputs, [sound], force)
    with open_sound(sound) as recording, show_progress(as_json or quiet, "reading"):
        samples = recording.read()
        channels = [_channel(each, recording.rate, shortest, longest, most) for each in samples]
        record: dict[str, Any] = {"rate": recording.rate, "samples": recording.frames}
        record["channels"] = [each[0] for each in channels]
        notes = [*recording.notes, *levels(samples).notes]
        if out is not None:
            write(out, _stacked([echoes for _, echoes in channels]))
        if remove_echo is not None:
            notes += _without_echoes(recording, remove_echo, samples, [echoes for _, echoes in channels])
        if picture is not None:
            write(picture, _cepstrum_drawn(channels[0][1], recording.rate, shortest))
    _print_cepstrum(record | {"notes": notes, "files": [str(path) for path in outputs]}, as_json, quiet)


def _channel(samples: Array, rate: int, shortest: float, longest: float, most: int) -> tuple[dict[str, Any], Any]:
    """Return the record of a channel for --json, and its echoes; None for a silent channel."""
    import numpy as np

    from unconv.inverse.fields import speech

    if not samples.any():
        return {"echoes": [], "deviation": None, "pitch": None}, None
    echoes = speech.find_echoes(samples, rate, shortest, longest, most)
    columns = zip(echoes.delays.tolist(), echoes.gains.tolist(), echoes.strength.tolist(), strict=True)
    rows = [{"delay_s": delay, "gain": gain, "strength": strength} for delay, gain, strength in columns]
    voice = None
    # `pitch` refuses recordings below 50 ms and rates up to 800; with a margin, these get no pitch here.
    if len(samples) / rate > 0.1 and rate > 1000:
        frequency = speech.pitch(samples, rate).frequency
        spoken = frequency[np.isfinite(frequency)]
        low, middle, high = np.percentile(spoken, [10, 50, 90]).tolist() if len(spoken) else [None] * 3
        voice = {"median_hz": middle, "low_hz": low, "high_hz": high, "voiced": len(spoken) / len(frequency)}
    return {"echoes": rows, "deviation": echoes.deviation, "pitch": voice}, echoes


def _stacked(channels: list[Any]) -> bytes:
    import numpy as np

    length = max((len(each.cepstrum) for each in channels if each is not None), default=0)
    silence = np.full(length, np.nan)
    return array_bytes(np.stack([silence if each is None else each.cepstrum for each in channels]))


def _without_echoes(recording: Sound, out: Path, samples: Array, channels: list[Any]) -> list[str]:
    from unconv.inverse.fields import speech

    if not any(each is not None and len(each.delays) for each in channels):
        raise UnconvError(f"cepstrum: no echo stands out, so {out} would equal the recording. Leave --remove-echo out.")
    dry = samples.copy()
    for channel, each in enumerate(channels):
        if each is not None and len(each.delays):
            dry[channel] = speech.remove_echo(samples[channel], recording.rate, each.delays.tolist(), each.gains.tolist())
    with recording.rewritten(out) as writer:
        writer.put(dry)
    return list(writer.notes)


def _cepstrum_drawn(echoes: Any, rate: int, shortest: float) -> bytes:
    from unconv.render.spectrograms import cepstrum_picture

    if echoes is None:
        raise UnconvError("cepstrum: the first channel is silent and has no cepstrum to draw. Leave --picture out.")
    return cepstrum_picture(echoes.cepstrum, rate, echoes.delays, echoes.gains, shortest)


def _print_cepstrum(record: dict[str, Any], as_json: bool, quiet: bool) -> None:
    if as_json:
        print(json_text(record))
        return
    for note in record["notes"]:
        remark(note, quiet)
    rows = [
        (str(channel), f"{1000 * echo['delay_s']:.6g}", f"{echo['gain']:.3f}", f"{echo['strength']:.0f}")
        for channel, each in enumerate(record["channels"])
        for echo in each["echoes"]
    ]
    if rows:
        print_table(("channel", "delay, ms", "gain", "deviations"), rows, right=True)
    else:
        print("no echo stands out")
    for channel, each in enumerate(record["channels"]):
        if (voice := each["pitch"]) and voice["median_hz"] is not None:
            print(
                f"channel {channel}: pitch {voice['median_hz']:.0f} Hz, from {voice['low_hz']:.0f} to {voice['high_hz']:.0f} "
                f"(10 to 90 %), {100 * voice['voiced']:.0f} % voiced"
            )
    if record["files"]:
        print(printable(f"wrote {', '.join(record['files'])}"))
