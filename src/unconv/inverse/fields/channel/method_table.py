"""The methods of `equalize` and what each does; imports no torch, so that the command's help is quick."""

from __future__ import annotations

from typing import Literal

Method = Literal[
    "auto",
    "mlse",
    "bcjr",
    "decision-feedback",
    "mmse",
    "zero-forcing",
    "rls",
    "nlms",
    "lms",
    "cma",
    "multimodulus",
]

KNOWN = {
    "mlse": "maximum-likelihood sequence estimation (Viterbi algorithm), best for short channels",
    "bcjr": "maximum a posteriori symbol decisions (BCJR algorithm), with exact log-likelihood ratios",
    "decision-feedback": "decision-feedback equaliser of least mean squared error, for long channels and deep fades",
    "mmse": "linear equaliser of least mean squared error",
    "zero-forcing": "linear equaliser that removes intersymbol interference, however much that raises the noise",
}
ADAPTIVE = {
    "rls": "recursive least squares on the training sequence, then decision-directed, tracks channels that change",
    "nlms": "normalised least mean squares, otherwise as rls",
    "lms": "least mean squares, otherwise as rls",
}
BLIND = {
    "cma": "constant modulus algorithm, without a training sequence, for PSK",
    "multimodulus": "multimodulus algorithm, without a training sequence, for square QAM",
}
METHODS = {"auto": "chosen by what is known and by the number of trellis states"} | KNOWN | ADAPTIVE | BLIND


def method_help() -> str:
    """Return all methods with their descriptions, as the command's help shows them."""
    return "; ".join(f"{name}: {what}" for name, what in METHODS.items()) + "."
