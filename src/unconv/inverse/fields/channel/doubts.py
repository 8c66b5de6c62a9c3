"""What a result says where decisions, channel and noise do not explain what was received."""

from __future__ import annotations

from torch import Tensor

from unconv.inverse.fields.channel.constellations import Constellation
from unconv.inverse.fields.channel.known import Decided, Link, matched_error, share_wrong
from unconv.inverse.fields.channel.synchronisation import Aligned, Settings

EXPLAINED = 0.5  # of the power: a channel that explains less is probably not this one
APART = 0.02  # of a channel's energy: noise and a few wrong decisions come to less
_CONSTANT = 0.1  # of what is left of the samples: less does not matter
FEW = 0.25  # of the training: so many decisions against it are not noise
_MANY = 0.1  # of all symbols: more wrong ones are said


def doubts(found: Decided, settings: Settings, aligned: Aligned) -> list[str]:
    """Say where decisions, channel and noise do not explain what was received."""
    residual = float(found.residual.square().mean().sqrt())
    # Each signal on its own: a batch may hold one with nothing in it.
    powers = found.link.observed[..., found.link.loud].abs().square().mean((-1, -2))
    shares = 1 - found.residual.square() / powers
    share, worst = float(shares.min()), f" of signal {int(shares.argmin())}" if len(shares) > 1 else ""
    said = _burst_words(found.link)
    if found.begins_amid and aligned.training is None:
        said.append(
            "earlier symbols reach into the first samples: symbols are counted from the first whose answer begins at sample 0. "
            "If the channel's delay was cut off in front, as convolutions of the same length do, prepend as many zeros"
        )
    if found.constant > _CONSTANT and settings.table.is_centred:
        said.append(
            f"the samples have a constant in common, {found.constant:.2g} times as large as what is left of them, as receivers "
            "leave one at their own frequency: subtract their mean"
        )
    if found.apart > APART:
        said.append(
            f"decisions speak for another channel than this one, {100 * found.apart:.0f} % of its energy apart: check its "
            f"taps and where "
            "they begin, or give a training"
        )
    if share < EXPLAINED:
        said.append(
            f"symbols and channel explain only {max(0, 100 * share):.0f} % of the received power{worst}: either there is "
            "that much noise, or channel, constellation or samples_per_symbol are others"
        )
    if found.link.noise is not None and settings.noise is not None and residual > 1.5 * found.link.noise:
        said.append(
            f"symbols and channel leave {residual / found.link.noise:.1f} times the noise that was told; log-likelihood "
            f"ratios are too sure"
        )
    wrong = _likely_wrong(found, settings.table)
    if wrong > _MANY:
        said.append(
            f"at this noise, {'about' if found.soft is not None else 'at least'} {100 * wrong:.0f} % of symbols are wrong"
        )
    return said + _disagreement(found, aligned)


def _burst_words(link: Link) -> list[str]:
    """Say that there is next to nothing before or behind a burst."""
    first, end, _ = link.loud.indices(link.observed.shape[-1])
    words = []
    if first:
        words.append(f"up to about symbol {first} there is next to nothing: cut it off, or give a training")
    if link.loud.stop is not None and end < link.observed.shape[-1]:
        words.append(f"from about symbol {end} on there is next to nothing, and decisions are about noise: give count")
    return words


def _likely_wrong(found: Decided, table: Constellation) -> float:
    """Return the share of wrong decisions behind a filter; of the most likely sequence that of the matched-filter bound."""
    error = found.error if found.soft is not None else matched_error(found.link, found.link.noise or 0.0)
    return share_wrong(table, error)


def on_training(found: Decided, aligned: Aligned) -> tuple[Tensor, Tensor]:
    """Return what was decided where the training stands, and the training, as far as it was received: numbers of points."""
    known = aligned.training
    if known is None:
        return found.indices.new_empty(0), found.indices.new_empty(0)
    decided = found.indices[0, aligned.start : aligned.start + len(known)]
    return decided, known[: len(decided)]


def _disagreement(found: Decided, aligned: Aligned) -> list[str]:
    """Say that the known symbols would have been decided otherwise."""
    decided, known = on_training(found, aligned)
    wrong = int((decided != known).sum())
    if wrong <= max(1, FEW * len(known)):
        return []
    return [
        f"{wrong} of the {len(known)} training symbols come out as others than were sent, and those behind them will not be "
        "better: channel or carrier may change too fast, or the training was not found"
    ]
