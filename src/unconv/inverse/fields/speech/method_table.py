"""The methods of dereverberation by name. Imports no torch, since `--help`, docs and errors read it."""

from __future__ import annotations

BLIND = {
    "wpe": "weighted prediction error with one filter for the entire recording",
    "wpe-wiener": "wpe with smoothed power and, for several channels, a multichannel Wiener filter after it; removes most",
    "wpe-mvdr": "as wpe-wiener, with an MVDR beamformer that leaves the voice as each microphone hears it",
    "wpe-block": "wpe with a new filter for each block of 20 s, for speakers who move",
    "wpe-online": "wpe that uses earlier frames only, as a live call needs",
}
KNOWN = {
    "wiener": "regularised at each frequency by the noise over the voice's spectrum, then a Wiener filter on short frames",
    "tikhonov": "regularised equally at all frequencies",
    "mint": "exact inverse filters, for short responses and almost no noise",
}


def method_help() -> str:
    """Return the help text of `--method`."""
    blind = "; ".join(f"{name}: {words}" for name, words in BLIND.items())
    known = "; ".join(f"{name}: {words}" for name, words in KNOWN.items())
    return f"{blind}. With --rooms {known}. By default {next(iter(BLIND))}, with --rooms {next(iter(KNOWN))}."
