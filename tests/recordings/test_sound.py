"""Sound files: every kind comes back to the last bit, nothing is lost or added, and what is damaged is said."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest

from unconv.errors import DtypeError, NonFinite, RecordingError, ShapeError, UnconvError, WriteError
from unconv.recordings import levels, open_sound, open_sounds

soundfile = pytest.importorskip("soundfile", reason='soundfile is absent: pip install "unconv[speech]"')

# (ending, format, subtype, channels, rate): what people record with.
KINDS = [
    *[(".wav", "WAV", subtype, 2, 48000) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")],
    *[(".wav", "WAV", subtype, 1, 8000) for subtype in ("ULAW", "ALAW", "PCM_16")],
    *[(".flac", "FLAC", subtype, 2, 44100) for subtype in ("PCM_S8", "PCM_16", "PCM_24")],
    *[(".aiff", "AIFF", subtype, 1, 44100) for subtype in ("PCM_16", "PCM_24", "PCM_32", "FLOAT")],
    *[(".wav", "WAVEX", "PCM_24", 8, 16000), (".w64", "W64", "PCM_16", 2, 16000), (".rf64", "RF64", "PCM_24", 1, 16000)],
    *[(".caf", "CAF", "PCM_16", 2, 16000), (".au", "AU", "PCM_16", 1, 8000), (".wav", "RF64", "FLOAT", 1, 16000)],
]
NAMES = [f"{form}-{subtype}-{channels}" for _, form, subtype, channels, _ in KINDS]
FRAMES = 5003


def recording(path, form="WAV", subtype="PCM_16", channels=1, rate=16000, frames=FRAMES, **texts):
    """A file that uses every bit of its kind, and its samples (channels, frames) as libsndfile reads them."""
    draw = np.random.default_rng(0)
    whole = draw.integers(-(2**31), 2**31, (frames, channels), dtype=np.int64).astype(np.int32)
    whole[:2] = [[-(2**31)] * channels, [2**31 - 1] * channels]
    data = whole if subtype not in ("FLOAT", "DOUBLE") else 0.2 * draw.standard_normal((frames, channels))
    with soundfile.SoundFile(path, "w", rate, channels, subtype, None, form) as file:
        for name, text in texts.items():
            setattr(file, name, text)
        file.write(data)
    return soundfile.read(path, dtype="float64", always_2d=True)[0].T


@pytest.mark.parametrize("ending, form, subtype, channels, rate", KINDS, ids=NAMES)
def test_a_file_rewritten_with_its_own_samples_holds_the_same_samples(tmp_path, ending, form, subtype, channels, rate):
    wanted = recording(tmp_path / f"in{ending}", form, subtype, channels, rate)
    with open_sound(tmp_path / f"in{ending}") as sound, sound.rewritten(tmp_path / f"out{ending}") as writer:
        assert (sound.rate, sound.channels, sound.frames) == (rate, channels, FRAMES)
        assert (sound.subtype, sound.format) == (subtype, form)
        blocks = list(sound.blocks(700))
        for block in blocks:
            assert block.dtype == sound.dtype
            writer.put(block)
    np.testing.assert_array_equal(np.concatenate(blocks, 1), wanted)
    assert writer.clipped == 0 and writer.notes == ()
    made = soundfile.info(tmp_path / f"out{ending}")
    assert (made.format, made.subtype, made.channels, made.samplerate) == (form, subtype, channels, rate)
    np.testing.assert_array_equal(soundfile.read(tmp_path / f"out{ending}", dtype="float64", always_2d=True)[0].T, wanted)


def test_what_float32_holds_comes_as_float32(tmp_path):
    for subtype, wanted in (("PCM_16", np.float32), ("PCM_24", np.float32), ("PCM_32", np.float64), ("DOUBLE", np.float64)):
        recording(tmp_path / "in.wav", subtype=subtype)
        with open_sound(tmp_path / "in.wav") as sound:
            assert sound.read(0, 10).dtype == wanted


@pytest.mark.parametrize("samples, overlap", [(700, 0), (700, 650), (5003, 0), (9999, 100), (1, 0), (2, 1)])
def test_blocks_overlap_as_told_and_end_with_the_last_sample(tmp_path, samples, overlap):
    wanted = recording(tmp_path / "in.wav", channels=2, frames=5003 if samples > 9 else 40)
    with open_sound(tmp_path / "in.wav") as sound:
        blocks = list(sound.blocks(samples, overlap))
        assert all(block.shape[1] == samples for block in blocks[:-1])
        joined = np.concatenate([blocks[0], *(block[:, overlap:] for block in blocks[1:])], 1)
        np.testing.assert_array_equal(joined, wanted)
        np.testing.assert_array_equal(sound.read(), wanted)


def test_texts_are_carried_over(tmp_path):
    texts = {"title": "Talk", "artist": "Zoë", "comment": "first take", "date": "2024", "software": "recorder"}
    for ending, form in ((".wav", "WAV"), (".flac", "FLAC"), (".aiff", "AIFF")):
        known = texts if form != "AIFF" else {name: texts[name] for name in ("title", "artist", "comment")}
        recording(tmp_path / f"in{ending}", form, **known)
        with open_sound(tmp_path / f"in{ending}") as sound, sound.rewritten(tmp_path / f"out{ending}") as writer:
            writer.put(sound.read())
        with open_sound(tmp_path / f"out{ending}") as made:
            assert made.metadata == sound.metadata and made.metadata["artist"] == "Zoë"


def test_the_loudspeakers_of_an_extensible_file_are_carried_over(tmp_path):
    recording(tmp_path / "in.wav", "WAVEX", "PCM_24", 4)
    content = bytearray((tmp_path / "in.wav").read_bytes())
    content[40:44] = struct.pack("<I", 0x107)
    (tmp_path / "in.wav").write_bytes(content)
    with open_sound(tmp_path / "in.wav") as sound, sound.rewritten(tmp_path / "out.wav") as writer:
        writer.put(sound.read())
    made = (tmp_path / "out.wav").read_bytes()
    assert made[40:44] == struct.pack("<I", 0x107) and made[:4] == b"RIFF"
    np.testing.assert_array_equal(soundfile.read(tmp_path / "in.wav")[0], soundfile.read(tmp_path / "out.wav")[0])


def test_results_are_rounded_to_the_nearest_step_and_clipped_without_wrapping(tmp_path):
    recording(tmp_path / "in.wav", frames=6)
    values = np.array([0.6, -0.6, 0.5, 40000, -40000, 32767]) / 32768
    with open_sound(tmp_path / "in.wav") as sound, sound.rewritten(tmp_path / "out.wav") as writer:
        writer.put(values[None])
    made, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    np.testing.assert_array_equal(made, [1, -1, 0, 32767, -32768, 32767])
    assert writer.clipped == 2 and "clipped 2 samples beyond full scale" in writer.notes[0]


@pytest.mark.parametrize("subtype, bits", [("PCM_U8", 8), ("PCM_16", 16), ("PCM_24", 24), ("PCM_32", 32)])
def test_a_result_is_off_by_half_a_step_at_most_and_by_none_on_the_average(tmp_path, subtype, bits):
    recording(tmp_path / "in.wav", subtype=subtype)
    values = np.random.default_rng(1).uniform(-0.9, 0.9, (1, FRAMES))
    with open_sound(tmp_path / "in.wav") as sound, sound.rewritten(tmp_path / "out.wav") as writer:
        writer.put(values)
    steps = (soundfile.read(tmp_path / "out.wav")[0] - values[0]) * 2 ** (bits - 1)
    assert np.abs(steps).max() <= 0.5 + 1e-6 and abs(steps.mean()) < 0.02


@pytest.mark.parametrize(
    "subtype, name, form, made, said",
    [
        ("PCM_16", "out.flac", "FLAC", "PCM_16", ()),
        ("FLOAT", "out.flac", "FLAC", "PCM_24", ("keeps 24 bits of each sample of FLOAT",)),
        ("PCM_32", "out.aiff", "AIFF", "PCM_32", ()),
        ("PCM_U8", "out.flac", "FLAC", "PCM_24", ()),
        ("PCM_16", "out.ogg", "OGG", "VORBIS", ("lossy",)),
        ("PCM_16", "out.w64", "W64", "PCM_16", ("W64 cannot store the title",)),
    ],
)
def test_the_name_of_a_result_chooses_its_kind_and_losses_are_said(tmp_path, subtype, name, form, made, said):
    wanted = recording(tmp_path / "in.wav", subtype=subtype, channels=2, title="Talk")
    with open_sound(tmp_path / "in.wav") as sound, sound.rewritten(tmp_path / name) as writer:
        writer.put(0.5 * sound.read())
    info = soundfile.info(tmp_path / name)
    assert (info.format, info.subtype, info.frames) == (form, made, FRAMES)
    assert len(writer.notes) == len(said) and all(each in note for each, note in zip(said, writer.notes, strict=True))
    if form != "OGG":
        np.testing.assert_allclose(soundfile.read(tmp_path / name)[0].T, 0.5 * wanted, rtol=0, atol=2**-15)


@pytest.mark.parametrize(
    "ending, form, subtype", [(".wav", "WAV", "IMA_ADPCM"), (".wav", "WAV", "GSM610"), (".mp3", "MP3", None)]
)
def test_kinds_that_would_add_samples_are_read_and_written_as_pcm(tmp_path, ending, form, subtype):
    soundfile.write(tmp_path / f"in{ending}", 0.3 * np.sin(np.arange(FRAMES) / 9), 8000, subtype, format=form)
    with open_sound(tmp_path / f"in{ending}") as sound, sound.rewritten(tmp_path / "out.wav") as writer:
        for block in sound.blocks(700):
            writer.put(block)
    assert soundfile.info(tmp_path / "out.wav").frames == sound.frames >= FRAMES
    assert soundfile.info(tmp_path / "out.wav").subtype == "PCM_16" and "would add samples" in writer.notes[0]
    with open_sound(tmp_path / f"in{ending}") as sound:
        whole = np.concatenate([block[:, 100 * bool(number) :] for number, block in enumerate(sound.blocks(700, 100))], 1)
    np.testing.assert_allclose(whole, soundfile.read(tmp_path / f"in{ending}")[0][None], atol=1e-6)


@pytest.mark.parametrize(
    "ending, form, subtype", [(".ogg", "OGG", "VORBIS"), (".opus", "OGG", "OPUS"), (".flac", "FLAC", None)]
)
def test_blocks_of_a_compressed_file_are_those_of_the_whole(tmp_path, ending, form, subtype):
    path = tmp_path / f"in{ending}"
    soundfile.write(path, 0.3 * np.sin(np.arange(50000) / 9), 48000, subtype, format=form)
    with open_sound(path) as sound, sound.rewritten(tmp_path / f"out{ending}") as writer:
        blocks = list(sound.blocks(7000, 1000))
        writer.put(sound.read())
    joined = np.concatenate([blocks[0], *(block[:, 1000:] for block in blocks[1:])], 1)
    np.testing.assert_allclose(joined, soundfile.read(path)[0][None], atol=1e-4)
    assert soundfile.info(tmp_path / f"out{ending}").frames == 50000


def test_the_files_of_an_array_are_channels_of_one_sound_and_results_go_to_one_file_each(tmp_path):
    paths = [tmp_path / f"mic{number}.wav" for number in range(3)]
    for number, path in enumerate(paths):
        recording(path, subtype="PCM_16", channels=1 + (number == 2))
    outs = [tmp_path / "out" / path.name for path in paths]
    with open_sounds(paths) as sound, sound.rewritten(outs) as writer:
        assert sound.channels == 4
        for block in sound.blocks(999):
            writer.put(block * np.array([[0.5], [0.25], [0.5], [0.125]], np.float32))
    for path, out, gains in zip(paths, outs, ([0.5], [0.25], [0.5, 0.125]), strict=True):
        before, after = (soundfile.read(each, always_2d=True)[0] for each in (path, out))
        np.testing.assert_allclose(after, before * gains, atol=2**-16)
    with open_sounds(paths) as sound, sound.rewritten(tmp_path / "all.wav") as writer:
        writer.put(sound.read())
    assert soundfile.info(tmp_path / "all.wav").channels == 4
    recording(tmp_path / "fine.wav", subtype="PCM_24")
    with open_sounds([paths[0], tmp_path / "fine.wav"]) as sound, sound.rewritten(tmp_path / "two.wav") as writer:
        writer.put(sound.read())
    assert soundfile.info(tmp_path / "two.wav").subtype == "PCM_24"
    with open_sounds(paths) as sound, sound.rewritten(tmp_path / "one.wav", channels=1) as writer:
        writer.put(sound.read()[0])
    assert soundfile.info(tmp_path / "one.wav").channels == 1


def test_files_of_an_array_that_do_not_agree_are_named(tmp_path):
    recording(tmp_path / "a.wav")
    recording(tmp_path / "b.wav", rate=8000)
    recording(tmp_path / "c.wav", frames=100)
    with pytest.raises(RecordingError, match=r"a.wav has 16,000 samples a second and .*b.wav 8,000"):
        open_sounds([tmp_path / "a.wav", tmp_path / "b.wav"])
    with pytest.raises(RecordingError, match=r"a.wav has 5,003 samples and .*c.wav 100"):
        open_sounds([tmp_path / "a.wav", tmp_path / "c.wav"])
    with pytest.raises(ShapeError, match="paths is empty"):
        open_sounds([])


@pytest.mark.parametrize("ending, form", [(".wav", "WAV"), (".wav", "WAVEX"), (".wav", "RF64"), (".w64", "W64")])
@pytest.mark.parametrize("lost", [1, 400])
def test_a_file_that_is_cut_off_is_refused(tmp_path, ending, form, lost):
    refused_when_cut(tmp_path, ending, form, lost)


@pytest.mark.parametrize("ending, form", [(".aiff", "AIFF"), (".au", "AU"), (".caf", "CAF")])
def test_other_files_that_are_cut_off_are_refused(tmp_path, ending, form):
    refused_when_cut(tmp_path, ending, form, 400)


def refused_when_cut(tmp_path, ending, form, lost):
    path = tmp_path / f"in{ending}"
    recording(path, form)
    os.truncate(path, path.stat().st_size - lost)
    with pytest.raises(RecordingError, match=r"cut off: its header promises [0-9]+ bytes? more"):
        open_sound(path)


@pytest.mark.parametrize("ending, form, subtype", [(".flac", "FLAC", "PCM_16"), (".ogg", "OGG", "VORBIS")])
def test_a_compressed_file_that_is_cut_off_is_refused_or_said_to_be(tmp_path, ending, form, subtype):
    path = tmp_path / f"in{ending}"
    recording(path, form, subtype, frames=200000)
    os.truncate(path, path.stat().st_size // 2)
    try:
        with open_sound(path) as sound:
            sound.read()
            assert "may be cut off" in " ".join(sound.notes)
    except RecordingError as error:
        assert any(words in str(error) for words in ("cut off", "damaged", "ends at", "cannot be read"))


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0])
def test_a_stream_without_a_length_is_read_to_its_end_with_a_note(tmp_path, size):
    wanted = recording(tmp_path / "in.wav")
    content = bytearray((tmp_path / "in.wav").read_bytes())
    at = content.find(b"data")
    content[at + 4 : at + 8] = content[4:8] = struct.pack("<I", size)
    (tmp_path / "in.wav").write_bytes(content)
    with open_sound(tmp_path / "in.wav") as sound:
        assert sound.frames == FRAMES and "has no length" in sound.notes[0]
        np.testing.assert_array_equal(np.concatenate(list(sound.blocks(999)), 1), wanted)


def test_chunks_that_are_not_carried_are_named(tmp_path):
    recording(tmp_path / "in.wav")
    content = (tmp_path / "in.wav").read_bytes() + b"bext" + struct.pack("<I", 3) + b"abc\0" + b"cue " + struct.pack("<I", 0)
    (tmp_path / "in.wav").write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    with open_sound(tmp_path / "in.wav") as sound:
        assert sound.notes == ("in.wav has chunks that are not copied to a result: bext, cue",)


def test_what_is_no_sound_is_refused(tmp_path):
    for content, said in ((b"", "is empty"), (b"no sound at all" * 9, "cannot be read as sound"), (None, "Check the path")):
        path = tmp_path / f"{said[:2]}.wav"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(RecordingError, match=said):
            open_sound(path)
    with pytest.raises(RecordingError, match="is a folder"):
        open_sound(tmp_path)
    recording(tmp_path / "none.wav", frames=4)
    content = bytearray((tmp_path / "none.wav").read_bytes())
    content[24:28] = bytes(4)
    (tmp_path / "none.wav").write_bytes(content)
    with pytest.raises(RecordingError, match=r"cannot be read as sound|rate of 0"):
        open_sound(tmp_path / "none.wav")
    soundfile.write(tmp_path / "nothing.wav", np.zeros((0, 1)), 8000)
    with pytest.raises(RecordingError, match="no samples"):
        open_sound(tmp_path / "nothing.wav")


def test_samples_that_are_no_numbers_are_refused_with_their_place(tmp_path):
    samples = np.zeros((5000, 2), np.float32)
    samples[4321, 1] = np.nan
    soundfile.write(tmp_path / "in.wav", samples, 1000, "FLOAT")
    with open_sound(tmp_path / "in.wav") as sound:
        with pytest.raises(NonFinite, match=r"nan at sample 4,321 \(4.321 s\) of channel 1"):
            list(sound.blocks(1000))
        with pytest.raises(ShapeError, match="a range within 0 to 5000"):
            sound.read(4000, 2000)
        with pytest.raises(ShapeError, match="at least one new sample"):
            next(sound.blocks(10, 10))


def test_a_result_is_whole_or_not_there(tmp_path):
    recording(tmp_path / "in.wav", channels=2)
    with open_sound(tmp_path / "in.wav") as sound:
        with pytest.raises(KeyboardInterrupt), sound.rewritten(tmp_path / "out.wav") as writer:
            writer.put(sound.read(0, 100))
            raise KeyboardInterrupt
        with pytest.raises(WriteError, match="100 samples came, but 5,003"):
            with sound.rewritten(tmp_path / "out.wav") as writer:
                writer.put(sound.read(0, 100))
        for values, error, said in (
            (np.zeros((2, 5004)), ShapeError, "within 5,003"),
            (np.zeros((1, 5)), ShapeError, r"\(2, n\)"),
            (np.zeros((2, 5), np.int16), DtypeError, "full scale ±1"),
            (np.full((2, 5), np.nan), NonFinite, "sample 0 is NaN"),
        ):
            with pytest.raises(error, match=said), sound.rewritten(tmp_path / "out.wav") as writer:
                writer.put(values)
        with pytest.raises(WriteError, match="is an input file"), sound.rewritten(tmp_path / "in.wav"):
            pass
        with pytest.raises(RecordingError, match=r"Use one of \.wav, "), sound.rewritten(tmp_path / "out.xyz"):
            pass
        with pytest.raises(RecordingError, match=r"Use one of \.wav, "), sound.rewritten(tmp_path / "out.mp3"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_a_missing_library_is_said_with_what_to_install(tmp_path, monkeypatch):
    import sys

    recording(tmp_path / "in.wav")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(UnconvError, match=r'pip install "unconv\[speech\]"'):
        open_sound(tmp_path / "in.wav")


def test_levels_tell_peak_clipping_offset_and_silence():
    time = np.arange(8000)
    tone = np.sin(time / 7.3)
    soft = 0.3 * tone
    values = np.stack([np.clip(1.4 * tone, -1, 1), soft, 0 * tone, 0.5 + 0.1 * tone])
    found = levels(values)
    np.testing.assert_allclose(found.peak, [1, np.abs(soft).max(), 0, np.abs(values[3]).max()])
    assert found.clipped[0] == (np.abs(1.4 * tone) >= 1).sum() and not found.clipped[1:].any()
    assert found.silent.tolist() == [False, False, True, False]
    assert found.offset[3] == pytest.approx(0.5, abs=0.01)
    said = " ".join(found.notes)
    assert "channel 0 is clipped (" in said and "channel 2: silent" in said and "channel 3 has an offset" in said
    halves = levels(values[:, :3001]) + levels(values[:, 3001:])
    np.testing.assert_allclose(halves.offset, found.offset, atol=1e-12)
    np.testing.assert_allclose(halves.peak, found.peak)


def test_a_soft_peak_of_coarse_samples_is_not_clipped():
    coarse = np.round(4 * np.sin(np.arange(4000) / 300)) / 128
    assert not levels(coarse).clipped.any()
