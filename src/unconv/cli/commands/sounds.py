"""Commands on recordings: rooms taken out of speech, and cepstra with the echoes and the pitch that they show."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unconv.cli.groups import Group
from unconv.cli.options import AsJson, Quiet, one_of
from unconv.cli.progress import print_table, remark, show_progress
from unconv.cli.sound_options import Kept, in_blocks, read_clean, read_rooms, result_places
from unconv.cli.trace_options import array_bytes, refuse_places, told_as_json
from unconv.errors import UnconvError, printable
from unconv.files import write
from unconv.inverse.fields.speech.method_table import BLIND, KNOWN, method_help
from unconv.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from unconv.recordings import Sound

    Array = np.ndarray[Any, Any]

GROUP = Group("Measured signals", 5)

Force = Annotated[bool, typer.Option("--force", "--overwrite", help="Replace files that are there already.")]
_TOLD_TWICE = (("clipped:", "is clipped"), ("silent, all samples", "silent:"))  # how dereverb's notes begin; what levels say
_LOUDEST = 200  # dB
_Kinds = "WAV, FLAC, AIFF, OGG and what else libsndfile reads (extra speech)"


@GROUP.command
def dereverb(
    sounds: Annotated[
        list[Path],
        typer.Argument(metavar="IN...", help=f"A recording: {_Kinds}. Several are the microphones of one array."),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A sound file, .wav, .flac and others; or a folder, for the same names.")
    ],
    method: Annotated[str | None, typer.Option(help=method_help(), autocompletion=one_of([*BLIND, *KNOWN]))] = None,
    taps: Annotated[
        str, typer.Option(help="Frames of each channel that predict, 8 ms apart; auto, by how many there are.")
    ] = "auto",
    rooms: Annotated[
        str | None,
        typer.Option(
            help="Impulse responses of the room, if known, one for each microphone: a sound file, .npy (D, k), or SOFA "
            "(ROOM.sofa:3 is its fourth place). OUT gets one channel, the dry source."
        ),
    ] = None,
    gain: Annotated[float, typer.Option(help="dB by which the result is made louder, where it would be clipped: -12.")] = 0.0,
    each: Annotated[bool, typer.Option("--each", help="Take each file by itself, not as microphones of one array.")] = False,
    reference: Annotated[
        Path | None, typer.Option(help="A clean recording that begins at the same time: distances to it are told.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Also draw the first channel's spectrograms, as PNG; needs the extra plot.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Take the room out of recorded speech: blindly, or by its responses where they are known; rate, bits and texts stay."""
    chosen = _chosen(method, taps, rooms, reference or picture, each and len(sounds) > 1)
    if not abs(gain) <= _LOUDEST:
        raise typer.BadParameter(f"--gain {gain}: write dB, from -{_LOUDEST} to {_LOUDEST}.")
    places = result_places(sounds, out)
    if rooms is not None and len(places) > 1 and not each:
        raise UnconvError(f"dereverb: with --rooms the result is one signal, but {out} is a folder. Name a file.")
    if each and len(places) < len(sounds):
        raise UnconvError(f"dereverb: {len(sounds)} results cannot go to one file, {out}. Name a folder.")
    sources = [*sounds, *([reference] if reference else []), *([Path(rooms)] if rooms else [])]
    refuse_places("dereverb", [*places, *([picture] if picture else [])], sources, force)
    jobs = [([path], [place]) for path, place in zip(sounds, places, strict=True)] if each else [(sounds, places)]
    told = []
    with show_progress(as_json or quiet, "reading") as progress:
        for paths, outs in jobs:
            asked = _Asked(chosen, taps, rooms, 10 ** (gain / 20), reference, picture)
            told.append(_dereverbed(paths, outs, asked, progress))
            if not as_json:
                _tell_dereverbed(told[-1], quiet)
    if as_json:
        print(told_as_json(told[0] if not each else {"recordings": told}))


def _chosen(method: str | None, taps: str, rooms: str | None, alone: object, several: bool) -> str:
    table = BLIND if rooms is None else KNOWN
    chosen = next(iter(table)) if method is None else method
    if chosen not in table:
        hint = "" if chosen not in BLIND | KNOWN else f" {chosen} goes {'with' if rooms is None else 'without'} --rooms."
        raise typer.BadParameter(f"--method {chosen!r}: write one of {', '.join(table)}.{hint}")
    if taps != "auto" and (rooms is not None or not taps.isdecimal() or int(taps) < 1):
        raise typer.BadParameter(f"--taps {taps!r}: write auto or a whole number of 1 or more; it does not go with --rooms.")
    if several and alone:
        raise typer.BadParameter(
            "--reference and --picture are of one recording: they do not go with --each and several files."
        )
    return chosen


@dataclass(frozen=True)
class _Asked:
    """What is to be done with a recording; `scale` multiplies the result."""

    method: str
    taps: str
    rooms: str | None
    scale: float
    reference: Path | None
    picture: Path | None


def _dereverbed(paths: list[Path], outs: list[Path], asked: _Asked, progress: Progress) -> dict[str, Any]:
    """Work on one recording, write its results, and return what is told of it."""
    from unconv.recordings import open_sound, open_sounds

    begun = time.monotonic()
    with open_sound(paths[0]) if len(paths) == 1 else open_sounds(paths) as sound:
        kept = Kept(bool(asked.reference or asked.picture))
        clean = None if asked.reference is None else read_clean(asked.reference, sound.rate, sound.frames)
        responses = None if asked.rooms is None else read_rooms(asked.rooms, sound.rate)
        told: dict[str, Any] = {"method": asked.method, "rate": sound.rate, "channels": sound.channels, "samples": sound.frames}
        with sound.rewritten(outs if len(outs) > 1 else outs[0], None if responses is None else 1) as writer:
            if responses is None:
                told |= _blindly(sound, asked, writer, kept, progress)
            else:
                told |= _knowingly(sound, asked, responses, writer, kept, progress)
        told["notes"] = [*dict.fromkeys([*sound.notes, *told["notes"], *writer.notes])]
        told["clipped"] = writer.clipped
        if clean is not None:
            told |= _distances(kept, clean, sound.rate)
        if asked.picture is not None:
            write(asked.picture, _drawn(kept, clean, sound.rate, asked.method))
    files = [str(path) for path in [*outs, *([asked.picture] if asked.picture else [])]]
    return told | {"files": files, "seconds": round(time.monotonic() - begun, 2)}


def _blindly(sound: Sound, asked: _Asked, writer: Any, kept: Kept, progress: Progress) -> dict[str, Any]:
    import numpy as np

    from unconv.inverse.fields import speech
    from unconv.recordings import levels

    notes = dict[str, None]()
    taps: Any = asked.taps if asked.taps == "auto" else int(asked.taps)

    def work(block: Array, onward: Progress) -> Array:
        made = speech.dereverb(block, sound.rate, asked.method, taps=taps, progress=onward)  # type: ignore[arg-type]
        notes.update(dict.fromkeys(made.notes))
        return np.asarray(made.signal)

    level = None
    for before, after in in_blocks(sound, work, progress):
        here = levels(before)
        level = here if level is None else level + here
        kept.take(before, after)
        writer.put(asked.scale * after)
    said = level.notes if level is not None else ()
    # Each block tells of its own samples what the levels tell of all; and of fewer samples than channels that they were turned.
    left_out = ("taken as", *(begin for begin, word in _TOLD_TWICE if any(word in note for note in said)))
    return {"notes": [*said, *(note for note in notes if not note.startswith(left_out))]}


def _knowingly(sound: Sound, asked: _Asked, responses: Array, writer: Any, kept: Kept, progress: Progress) -> dict[str, Any]:
    from unconv.inverse.fields import speech
    from unconv.recordings import levels

    progress("undoing the room", 0, 0)
    before = sound.read()
    made = speech.invert_room(before, responses, sound.rate, method=asked.method)  # type: ignore[arg-type]
    kept.take(before, made.signal[None])
    writer.put(asked.scale * made.signal)
    said = {"error": made.error, "noise": made.noise, "condition": made.condition}
    return said | {"notes": [*levels(before).notes, *made.notes]}


def _distances(kept: Kept, clean: Array, rate: int) -> dict[str, Any]:
    from unconv.inverse.fields.speech import feature_distance

    before, after = kept.both()
    n = min(len(before), len(clean))
    found = feature_distance(before[:n], after[:n], clean[:n], rate)
    return {
        "cepstral_distance": {"before": found.cepstral_before, "after": found.cepstral_after},
        "log_mel_distance": {"before": found.log_mel_before, "after": found.log_mel_after},
    }


def _drawn(kept: Kept, clean: Array | None, rate: int, method: str) -> bytes:
    from unconv.render.spectrograms import spectrogram_picture

    before, after = kept.both()
    n = len(before) if clean is None else min(len(before), len(clean))
    shown = None if clean is None else clean[:n]
    return spectrogram_picture(before[:n], after[:n], rate, shown, names=("recording", method, "reference"))


def _tell_dereverbed(told: dict[str, Any], quiet: bool) -> None:
    for note in told["notes"]:
        remark(note, quiet)
    channels = "1 channel" if told["channels"] == 1 else f"{told['channels']} channels"
    lasts = told["samples"] / told["rate"]
    print(f"{told['method']}: {channels}, {lasts:.1f} s at {told['rate']:,} Hz, done in {told['seconds']:.1f} s")
    if "noise" in told and told["noise"] == told["noise"]:
        print(f"noise of a microphone {told['noise']:.3g}, expected error of the result {told['error']:.3g}, full scale 1")
    for name in ("cepstral", "log_mel"):
        if found := told.get(f"{name}_distance"):
            words = name.replace("_", "-")
            print(f"{words} distance to the reference: {found['before']:.2f} dB before, {found['after']:.2f} dB after")
    print(printable(f"wrote {', '.join(told['files'])}"))


@GROUP.command
def cepstrum(
    sound: Annotated[Path, typer.Argument(metavar="IN", help=f"A recording: {_Kinds}.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The cepstra, .npy (channels, m), quefrency 0 on, one a sample.")
    ] = None,
    remove_echo: Annotated[
        Path | None, typer.Option(help="Write the recording without the echoes that were found, as a sound file.")
    ] = None,
    shortest: Annotated[float, typer.Option(help="Seconds from which echoes are looked for; voices have peaks below.")] = 0.02,
    longest: Annotated[float, typer.Option(help="Seconds up to which echoes are looked for.")] = 0.5,
    most: Annotated[int, typer.Option(help="Echoes of a channel, at most.")] = 4,
    picture: Annotated[
        Path | None, typer.Option(help="Also draw the first channel's cepstrum, as PNG; needs the extra plot.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find the echoes and the pitch of a recording in its cepstrum, and take single echoes out."""
    from unconv.recordings import levels, open_sound

    if out is not None and out.suffix.lower() != ".npy":
        raise typer.BadParameter(f"-o {out}: cepstra are written as .npy. End its name with that.")
    places = [path for path in (out, remove_echo, picture) if path is not None]
    refuse_places("cepstrum", places, [sound], force)
    with open_sound(sound) as recording, show_progress(as_json or quiet, "reading"):
        samples = recording.read()
        channels = [_channel(each, recording.rate, shortest, longest, most) for each in samples]
        told: dict[str, Any] = {"rate": recording.rate, "samples": recording.frames, "channels": [each[0] for each in channels]}
        notes = [*recording.notes, *levels(samples).notes]
        if out is not None:
            write(out, _stacked([found for _, found in channels]))
        if remove_echo is not None:
            notes += _without_echoes(recording, remove_echo, samples, [found for _, found in channels])
        if picture is not None:
            write(picture, _cepstrum_drawn(channels[0][1], recording.rate, shortest))
    _tell_cepstrum(told | {"notes": notes, "files": [str(path) for path in places]}, as_json, quiet)


def _channel(samples: Array, rate: int, shortest: float, longest: float, most: int) -> tuple[dict[str, Any], Any]:
    """Return what is told of a channel, and its echoes; nothing of a silent one."""
    import numpy as np

    from unconv.inverse.fields import speech

    if not samples.any():
        return {"echoes": [], "deviation": None, "pitch": None}, None
    found = speech.find_echoes(samples, rate, shortest, longest, most)
    rows = zip(found.delays.tolist(), found.gains.tolist(), found.strength.tolist(), strict=True)
    echoes = [{"delay_s": delay, "gain": gain, "strength": strength} for delay, gain, strength in rows]
    voice = None
    if len(samples) / rate > 0.1 and rate > 1000:
        frequency = speech.pitch(samples, rate).frequency
        spoken = frequency[np.isfinite(frequency)]
        low, middle, high = np.percentile(spoken, [10, 50, 90]).tolist() if len(spoken) else [None] * 3
        voice = {"median_hz": middle, "low_hz": low, "high_hz": high, "voiced": len(spoken) / len(frequency)}
    return {"echoes": echoes, "deviation": found.deviation, "pitch": voice}, found


def _stacked(found: list[Any]) -> bytes:
    import numpy as np

    length = max((len(each.cepstrum) for each in found if each is not None), default=0)
    silence = np.full(length, np.nan)
    return array_bytes(np.stack([silence if each is None else each.cepstrum for each in found]))


def _without_echoes(recording: Sound, out: Path, samples: Array, found: list[Any]) -> list[str]:
    from unconv.inverse.fields import speech

    if not any(each is not None and len(each.delays) for each in found):
        raise UnconvError(f"cepstrum: no echo stands out, so {out} would be the recording. Leave --remove-echo out.")
    made = samples.copy()
    for channel, each in enumerate(found):
        if each is not None and len(each.delays):
            made[channel] = speech.remove_echo(samples[channel], recording.rate, each.delays.tolist(), each.gains.tolist())
    with recording.rewritten(out) as writer:
        writer.put(made)
    return list(writer.notes)


def _cepstrum_drawn(found: Any, rate: int, shortest: float) -> bytes:
    from unconv.render.spectrograms import cepstrum_picture

    if found is None:
        raise UnconvError("cepstrum: the first channel is silent, and has no cepstrum to be drawn. Leave --picture out.")
    return cepstrum_picture(found.cepstrum, rate, found.delays, found.gains, shortest)


def _tell_cepstrum(told: dict[str, Any], as_json: bool, quiet: bool) -> None:
    if as_json:
        print(told_as_json(told))
        return
    for note in told["notes"]:
        remark(note, quiet)
    rows = [
        (str(channel), f"{1000 * echo['delay_s']:.6g}", f"{echo['gain']:.3f}", f"{echo['strength']:.0f}")
        for channel, each in enumerate(told["channels"])
        for echo in each["echoes"]
    ]
    if rows:
        print_table(("channel", "delay, ms", "gain", "deviations"), rows, right=True)
    else:
        print("no echo stands out")
    for channel, each in enumerate(told["channels"]):
        if (voice := each["pitch"]) and voice["median_hz"] is not None:
            print(
                f"channel {channel}: pitch {voice['median_hz']:.0f} Hz, from {voice['low_hz']:.0f} to {voice['high_hz']:.0f} "
                f"(10 to 90 %), {100 * voice['voiced']:.0f} % voiced"
            )
    if told["files"]:
        print(printable(f"wrote {', '.join(told['files'])}"))
