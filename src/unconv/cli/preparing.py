"""Open a network with the weights and the preprocessing that a command's options ask for, and say what is done to a picture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unconv.cli.parsing import read_floats, read_size
from unconv.cli.progress import hushed, remark
from unconv.errors import ShapeError, counted
from unconv.progress import Progress

if TYPE_CHECKING:
    from unconv.pictures.preparation import Preparation
    from unconv.pictures.preprocess import Preprocess
    from unconv.reverse.network import Network


def open_network(
    model: str,
    quiet: bool,
    weights: str | None = None,
    size: str | None = None,
    resize: str | None = None,
    mean: str | None = None,
    std: str | None = None,
    scale: float | None = None,
    bgr: bool = False,
) -> Network:
    """Open a network, with the preprocessing that the options change.

    Raises:
        UnconvError: as `unconv.load`, or an option that fits no such network.
    """
    from unconv import load

    given = {"mean": read_floats("--mean", mean), "std": read_floats("--std", std), "scale": scale, "bgr": bgr or None}
    values: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
    for option, text in (("--size", size), ("--resize", resize)):
        if text is not None:
            read_size(text, None, option)  # now, and not after the network is loaded
    with hushed(quiet):
        network = load(model, weights)
    for note in network.notes:
        remark(note, quiet)
    if len(network.input_size) == 3:
        _frame(network, size, resize)
    elif resize is not None:
        axes = len(network.input_size) - 1
        raise ShapeError(f"--resize: only pictures are resized, but {network.name} takes {axes} axes. Leave it out.")
    elif size is not None:
        network.input_size = (network.input_size[0], *read_size(size, len(network.input_size) - 1))
    if values:
        _normalise(network, values, of_any_channels=".py:" in model)
    return network


def saying(preparation: Preparation, quiet: bool, progress: Progress) -> Progress:
    """Return `progress` that first says what is done to a picture; it is told when that was read, and not of one refused."""
    unsaid = [preparation]

    def told(what: str, done: float, total: int) -> None:
        if unsaid:
            _say(unsaid.pop(), quiet)
        progress(what, done, total)

    return told


def _say(preparation: Preparation, quiet: bool) -> None:
    """Say on standard error what is done to a picture; warn where that is assumed."""
    if not preparation.assumed:
        remark(f"picture: {preparation}.", quiet)
        return
    remark(
        f"warning: how pictures are prepared is ASSUMED: {preparation.done} ({preparation.source}). "
        "If the network was trained with something else, pass --size, --resize, --mean, --std, --scale or --bgr.",
        quiet,
    )


def _frame(network: Network, size: str | None, resize: str | None) -> None:
    """Resize and crop pictures as the options say; what becomes of their values stays as it was."""
    if size is None and resize is None:
        return
    changed = _known(network)
    if size is not None:
        changed = replace(changed, size=_pair(size), resize=None)
    if resize is not None:
        sides = _pair(resize)
        whole = "x" in resize.lower()
        changed = replace(changed, resize=sides if whole else sides[0], size=None if whole and size is None else changed.size)
    made = network.preparation
    network.prepare_by(changed, f"{made.source}; the size is as asked for", made.assumed)
    network.input_size = (network.input_size[0], *_sides(changed, network.input_size[1:]))


def _pair(text: str) -> tuple[int, int]:
    height, width = read_size(text)
    return height, width


def _sides(preprocess: Preprocess, usual: tuple[int, ...]) -> tuple[int, ...]:
    """Return the size of what comes out, or the usual one where that depends on the picture."""
    whole = preprocess.resize if isinstance(preprocess.resize, tuple) else None
    return preprocess.size or whole or usual


def _normalise(network: Network, values: dict[str, Any], of_any_channels: bool) -> None:
    """Scale and normalise pictures as the options say.

    Args:
        of_any_channels: where no convolution tells how many channels there are, the number of means does.
    """
    from unconv.networks.image_size import told

    channels = network.input_size[0]
    counts = {len(values[name]) for name in ("mean", "std") if name in values}
    if of_any_channels and told(network.module) is None and counts:
        # One number may stand for every channel, or tell of a network for grey pictures: one that takes no others.
        channels = max(counts) if max(counts) > 1 or not _takes(network) else channels
        network.input_size = (channels, *network.input_size[1:])
    for name in ("mean", "std"):
        if name in values and len(values[name]) not in (1, channels):
            raise ShapeError(
                f"--{name}: {counted(len(values[name]), 'value')} came, but {network.name} takes "
                f"{counted(channels, 'channel')}. Write {channels} with commas between, or one for all."
            )
        if name in values and len(values[name]) == 1:
            values[name] *= channels
    known = _known(network)
    if len(known.mean) != channels:
        known = replace(known, mean=(0.0,) * channels, std=(1.0,) * channels)
    network.prepare_by(replace(known, **values), "as the options say", False)


def _takes(network: Network) -> bool:
    """Whether a network runs on an input of the size that is thought to be its own."""
    import torch

    try:
        with torch.no_grad():
            network.module(torch.zeros(1, *network.input_size))
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    return True


def _known(network: Network) -> Preprocess:
    """Return the network's preprocessing in the form that options can change."""
    from unconv import Preprocess

    channels, *sides = network.input_size
    if network.preprocess is None:
        return Preprocess(mean=(0.0,) * channels, std=(1.0,) * channels)
    return network.preparation.like((sides[0], sides[1]), channels)
