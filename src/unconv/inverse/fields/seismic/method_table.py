"""The methods of seismic deconvolution by name. Imports no torch, since `--help`, docs and errors read it."""

from __future__ import annotations

SPIKES = {
    "sbl": "sparse Bayesian learning, then the most probable choice of its spikes",
    "sbl-only": "sparse Bayesian learning alone, with more and smaller spikes",
    "l1": "l1 regularisation with a strength that follows from the noise",
    "reweighted-l1": "l1 regularisation, reweighted three times",
}
WITH_DEVIATIONS = ("sbl", "sbl-only")
FILTERS = {
    "spiking": "least-squares filter that whitens each trace",
    "predictive": "prediction-error filter that removes what repeats after a gap, such as water-layer reverberations",
}


def method_help() -> str:
    """Return the help text of `--method`."""
    return "; ".join(f"{name}: {words}" for name, words in (SPIKES | FILTERS).items()) + "."
