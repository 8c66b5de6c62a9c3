"""`unconv equalize`: files in, symbols, bits, ratios and pictures out, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from unconv import cli
from unconv.inverse.fields import channel


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str):
    return CliRunner().invoke(cli.app, ["equalize", *map(str, arguments)])


@pytest.fixture
def bits(here):
    """Bits that were sent as QPSK through a channel, and the file of what was received."""
    random = np.random.default_rng(0)
    qpsk = channel.constellation("qpsk")
    bits = random.integers(0, 2, 2000)
    received = np.convolve(qpsk.modulate(bits), [1.0, 0.4j, -0.2])
    received = received + 0.05 * (random.standard_normal(1002) + 1j * random.standard_normal(1002))
    received.astype("<c8").tofile("burst.cf32")
    np.save("sent.npy", qpsk.modulate(bits))
    np.save("training.npy", qpsk.modulate(bits)[:60])
    return bits


def test_symbols_bits_and_ratios_are_written(here, bits):
    done = run("burst.cf32", "--channel", "1,0.4j,-0.2", "--constellation", "qpsk", "-o", "symbols.npy", "--bits", "bits.bin",
               "--llr", "llr.npy", "--sent", "sent.npy")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "mlse, 16 states: 1,000 symbols, noise 0.07" in done.output and "symbol errors: 0 of 1,000" in done.output
    assert (np.unpackbits(np.fromfile("bits.bin", np.uint8)) == bits).all()
    assert ((np.load("llr.npy") < 0) == bits).all()
    np.testing.assert_allclose(np.load("symbols.npy"), np.load("sent.npy"), rtol=1e-6)


@pytest.mark.parametrize("taps", ["1,0.4j,-0.2", "1, 0.4i, -0.2", "1; 0+0.4j; -0.2", "1\n0 + 0.4i\n-0.2\n", "1 0.4j -0.2"])
def test_taps_are_read_as_spreadsheets_and_matlab_write_them(here, bits, taps):
    Path("taps.csv").write_text(taps)
    for given in ("taps.csv", taps):
        done = run("burst.cf32", "--channel", given, "--constellation", "qpsk", "--sent", "sent.npy")
        assert "symbol errors: 0 of 1,000" in done.output


def test_a_training_needs_no_channel_and_json_holds_all_numbers(here, bits):
    done = run("burst.cf32", "--training", "training.npy", "--constellation", "qpsk", "--sent", "sent.npy", "--json")
    printed = json.loads(done.stdout)
    assert printed["symbol_errors"]["errors"] == 0 and printed["delay"] == 0 and printed["symbols"] == 1000
    blind = json.loads(run("burst.cf32", "--constellation", "qpsk", "--json").stdout)
    assert (
        blind["converged"]
        and len(blind["ambiguity"]) == 4
        and "blind: the phase is ambiguous (0, 90, 180, 270 degrees" in blind["notes"][-1]
    )


def test_pictures_are_drawn(here, bits):
    pytest.importorskip("matplotlib")
    done = run("burst.cf32", "--channel", "1,0.4j,-0.2", "--constellation", "qpsk", "--picture", "a.png", "--eye", "b.png")
    assert done.exit_code == 0, done.output
    assert all((here / name).read_bytes().startswith(b"\x89PNG") for name in ("a.png", "b.png"))


def test_an_eye_of_few_oversampled_symbols_is_drawn_at_the_rate_of_each_side(here):
    pytest.importorskip("matplotlib")
    sent = channel.constellation("qpsk").modulate(np.random.default_rng(0).integers(0, 2, 24))
    np.repeat(sent, 4).astype("<c8").tofile("pulses.cf32")
    done = run(
        "pulses.cf32",
        "--channel",
        "1,1,1,1",
        "--samples-per-symbol",
        "4",
        "--constellation",
        "qpsk",
        "--noise",
        "0.01",
        "--eye",
        "eye.png",
    )
    assert done.exit_code == 0, done.output
    assert (here / "eye.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--channel", "1,x"), "write a file, .npy or .csv, or numbers"),
        (("--channel", "0,0"), "a channel is all zeros"),
        (
            ("--channel", "1", "--method", "mlsq"),
            "rls, nlms, lms, cma, multimodulus. Nearest: mlse, ",
        ),
        (("--channel", "1", "--noise", "little"), "write estimate or a number"),
        (("--channel", "1", "--bits", "bits.txt"), "its name must end in .npy or .bin"),
        (("--channel", "1", "--picture", "a.txt"), "its name must end in .png"),
        (("--channel", "1", "-o", "burst.cf32"), "is an input file and would be overwritten"),
        (("--training", "absent.npy"), "absent.npy"),
        (("--channel", "1", "--constellation", "17psk"), "the name is '17psk'"),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_written(here, bits, arguments, words):
    before = sorted(here.iterdir())
    done = run("burst.cf32", *arguments)
    printed = " ".join(done.output.replace("│", " ").split()) + str(done.exception)
    assert done.exit_code != 0 and words in printed
    assert sorted(here.iterdir()) == before
