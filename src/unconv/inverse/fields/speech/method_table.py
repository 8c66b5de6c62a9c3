"""The ways to take a room out of speech, by name: read without torch, for `--help`, docs and errors."""

from __future__ import annotations

BLIND = {
    "wpe": "weighted prediction error, one filter for the whole recording",
    "wpe-wiener": "the same with smoothed power and, for several channels, a Wiener filter after it: takes out most",
    "wpe-mvdr": "the same with a beamformer that leaves the voice as each microphone hears it",
    "wpe-block": "wpe for each block of 20 s, for speakers who move",
    "wpe-online": "each frame from those before it alone, as in a live call",
}
KNOWN = {
    "wiener": "regularised by the noise over the voice's own spectrum, then frame by frame",
    "tikhonov": "regularised alike at all frequencies",
    "mint": "exact filters, for short responses and next to no noise",
}


def method_help() -> str:
    """What `--method` may be, in words."""
    blind = "; ".join(f"{name}: {words}" for name, words in BLIND.items())
    known = "; ".join(f"{name}: {words}" for name, words in KNOWN.items())
    return f"{blind}. With --rooms {known}. By default {next(iter(BLIND))}, with --rooms {next(iter(KNOWN))}."
