"""What a result tells its user where decisions, channel and noise do not explain the received samples."""

from __future__ import annotations

from torch import Tensor

from unconv.inverse.fields.channel.constellations import Constellation
from unconv.inverse.fields.channel.known import Decisions, Link, matched_error, share_wrong
from unconv.inverse.fields.channel.synchronisation import AlignedSignals, Settings

MIN_EXPLAINED = 0.5  # of the received power: a channel that explains less is probably the wrong one
MAX_MISMATCH = 0.02  # of the channel's energy: noise and a few wrong decisions cause less
MAX_DISAGREEMENT = 0.25  # of the training symbols: noise causes fewer wrong decisions than that
_DC = 0.1  # of the residual's root mean square: a smaller DC offset does no harm
_HIGH_ERROR_RATE = 0.1  # symbol error rate above which a note says so
_EXCESS = 1.5  # times the noise that was passed: a larger residual is worth a note


def doubts(decisions: Decisions, settings: Settings, aligned: AlignedSignals) -> list[str]:
    """Return notes on everything in the received samples that decisions, channel and noise leave unexplained."""
    residual = float(decisions.residual.square().mean().sqrt())
    # Signal by signal, not over the batch: one of them may hold nothing but noise.
    powers = decisions.link.observed[..., decisions.link.loud].abs().square().mean((-1, -2))
    shares = 1 - decisions.residual.square() / powers
    share, worst = float(shares.min()), f" of signal {int(shares.argmin())}" if len(shares) > 1 else ""
    notes = _burst_notes(decisions.link)
    if decisions.starts_midway and aligned.training is None:
        notes.append(
            "the first samples hold intersymbol interference from earlier symbols: symbol 0 is the one whose channel response "
            'begins at sample 0. If leading samples were cut off, as a convolution of mode "same" does, prepend as many zeros'
        )
    if decisions.dc_offset > _DC and settings.table.is_centred:
        notes.append(
            f"the samples have a DC offset, {decisions.dc_offset:.2g} times the RMS of the residual, as local-oscillator "
            "leakage in a receiver causes it: subtract the mean of the samples"
        )
    if decisions.mismatch > MAX_MISMATCH:
        notes.append(
            "channel mismatch: the channel that fits the decisions differs from the one in use by "
            f"{100 * decisions.mismatch:.0f} % of its energy. Check the taps and their delay, or pass a training sequence"
        )
    if share < MIN_EXPLAINED:
        notes.append(
            f"the decided symbols and the channel explain only {max(0, 100 * share):.0f} % of the received power{worst}: "
            "either the noise is that strong, or channel, constellation or samples_per_symbol is wrong"
        )
    if decisions.link.noise is not None and settings.noise is not None and residual > _EXCESS * decisions.link.noise:
        notes.append(
            f"the residual is {residual / decisions.link.noise:.1f} times the noise that was passed: log-likelihood ratios are "
            "overconfident"
        )
    rate = _expected_error_rate(decisions, settings.table)
    if rate > _HIGH_ERROR_RATE:
        notes.append(
            f"at this noise, expect a symbol error rate of {'about' if decisions.soft is not None else 'at least'} "
            f"{100 * rate:.0f} %{'' if decisions.soft is not None else ' (the matched-filter bound)'}"
        )
    return notes + _disagreement(decisions, aligned)


def _burst_notes(link: Link) -> list[str]:
    """Say that the samples before or after a burst hold little but noise."""
    first, end, _ = link.loud.indices(link.observed.shape[-1])
    notes = []
    if first:
        notes.append(
            f"before about symbol {first}, the samples hold little but noise: cut them off, or pass a training sequence"
        )
    if link.loud.stop is not None and end < link.observed.shape[-1]:
        notes.append(
            f"from about symbol {end} on, the samples hold little but noise, and decisions there are meaningless: pass count"
        )
    return notes


def _expected_error_rate(decisions: Decisions, table: Constellation) -> float:
    """Return the symbol error rate that a filter's design predicts; for the most likely sequence, the matched-filter bound."""
    link = decisions.link
    error = decisions.error if decisions.soft is not None else matched_error(link, link.noise or 0.0)
    return share_wrong(table, error)


def on_training(decisions: Decisions, aligned: AlignedSignals) -> tuple[Tensor, Tensor]:
    """Return the indices decided at the training symbols and those of the training sequence, as far as it was received."""
    known = aligned.training
    if known is None:
        return decisions.indices.new_empty(0), decisions.indices.new_empty(0)
    decided = decisions.indices[0, aligned.start : aligned.start + len(known)]
    return decided, known[: len(decided)]


def _disagreement(decisions: Decisions, aligned: AlignedSignals) -> list[str]:
    """Say that the training symbols themselves would have been decided wrongly."""
    decided, known = on_training(decisions, aligned)
    wrong = int((decided != known).sum())
    if wrong <= max(1, MAX_DISAGREEMENT * len(known)):
        return []
    return [
        f"{wrong} of the {len(known)} training symbols are decided wrongly, and later symbols will fare no better: the channel "
        "or the carrier may change too fast, or the training sequence was not found at the right place"
    ]
