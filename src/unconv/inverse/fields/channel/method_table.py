"""The methods of `equalize`, in words; light, so that the command's help needs no torch."""

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
    "mlse": "the most likely sequence (Viterbi); best where the channel is short",
    "bcjr": "the most likely symbols one by one, with exact log-likelihood ratios",
    "decision-feedback": "decided symbols are fed back; for long channels, and those with deep fades",
    "mmse": "the linear filter of least mean squared error",
    "zero-forcing": "the linear filter without interference, whatever becomes of the noise",
}
ADAPTIVE = {
    "rls": "recursive least squares on the training, then on decisions; follows channels that change",
    "nlms": "normalised least mean squares, likewise",
    "lms": "least mean squares, likewise",
}
BLIND = {
    "cma": "constant modulus, without training; for PSK",
    "multimodulus": "real and imaginary parts each of constant modulus; for QAM",
}
METHODS = {"auto": "chosen from what is known, and the states of the channel"} | KNOWN | ADAPTIVE | BLIND


def method_help() -> str:
    """Return the methods as a command's help shows them."""
    return "; ".join(f"{name}: {what}" for name, what in METHODS.items()) + "."
