"""The ways to shorten wavelets and to find spikes, by name: read without torch, for `--help`, docs and errors."""

from __future__ import annotations

SPIKES = {
    "sbl": "sparse Bayesian learning, then the most probable choice among its spikes",
    "sbl-only": "sparse Bayesian learning alone: more and smaller spikes",
    "l1": "the l1 norm, with a strength that follows from the noise",
    "reweighted-l1": "the l1 norm, reweighted three times",
}
WITH_DEVIATIONS = ("sbl", "sbl-only")
FILTERS = {
    "spiking": "least-squares filter of each trace that makes it white",
    "predictive": "filter that takes away what repeats after a gap, such as water-layer reverberations",
}


def method_help() -> str:
    """What `--method` may be, in words."""
    return "; ".join(f"{name}: {words}" for name, words in (SPIKES | FILTERS).items()) + "."
