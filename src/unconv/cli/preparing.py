"""Open a network with the weights and preprocessing of a command's options, and report the preparation of pictures."""

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
    """Open a network, with its preprocessing changed by the options.

    Raises:
        UnconvError: as for `unconv.load`, or an option does not fit the network.
    """
    from unconv import load

    options = {"mean": read_floats("--mean", mean), "std": read_floats("--std", std), "scale": scale, "bgr": bgr or None}
    values: dict[str, Any] = {option: value for option, value in options.items() if value is not None}
    for option, text in (("--size", size), ("--resize", resize)):
        if text is not None:
            read_size(text, None, option)  # refuse it before the network is loaded
    with hushed(quiet):
        network = load(model, weights)
    for note in network.notes:
        remark(note, quiet)
    if len(network.input_size) == 3:
        _frame(network, size, resize)
    elif resize is not None:
        axes = len(network.input_size) - 1
        raise ShapeError(
            f"--resize: {network.name} takes {axes} {'axis' if axes == 1 else 'axes'}, but only pictures are resized. Omit it."
        )
    elif size is not None:
        network.input_size = (network.input_size[0], *read_size(size, len(network.input_size) - 1))
    if values:
        _normalise(network, values, of_any_channels=".py:" in model)
    return network


def saying(preparation: Preparation, quiet: bool, progress: Progress) -> Progress:
    """Return `progress` that first reports the preparation of a picture, once the picture is read and not refused."""
    pending = [preparation]

    def reported(what: str, done: float, total: int) -> None:
        if pending:
            _say(pending.pop(), quiet)
        progress(what, done, total)

    return reported


def _say(preparation: Preparation, quiet: bool) -> None:
    """Print the preparation of pictures on standard error, as a warning if it is only assumed."""
    if not preparation.assumed:
        remark(f"picture: {preparation}.", quiet)
        return
    remark(
        f"warning: the preparation of pictures is ASSUMED: {preparation.done} ({preparation.source}). "
        "If the network was trained with something else, pass --size, --resize, --mean, --std, --scale or --bgr.",
        quiet,
    )


def _frame(network: Network, size: str | None, resize: str | None) -> None:
    """Change the resizing and cropping of pictures by the options; their normalisation stays."""
    if size is None and resize is None:
        return
    changed = _known(network)
    if size is not None:
        changed = replace(changed, size=_pair(size), resize=None)
    if resize is not None:
        sides = _pair(resize)
        # HEIGHTxWIDTH is the final size, so a crop is dropped unless --size asks for one; a single number is the shorter side.
        both = "x" in resize.lower()
        changed = replace(changed, resize=sides if both else sides[0], size=None if both and size is None else changed.size)
    preparation = network.preparation
    network.prepare_by(changed, f"{preparation.source}; with the size of the options", preparation.assumed)
    network.input_size = (network.input_size[0], *_sides(changed, network.input_size[1:]))


def _pair(text: str) -> tuple[int, int]:
    height, width = read_size(text)
    return height, width


def _sides(preprocess: Preprocess, usual: tuple[int, ...]) -> tuple[int, ...]:
    """Return the size of a prepared picture, or the usual one if it depends on the picture."""
    resized = preprocess.resize if isinstance(preprocess.resize, tuple) else None
    return preprocess.size or resized or usual


def _normalise(network: Network, values: dict[str, Any], of_any_channels: bool) -> None:
    """Change the scaling and normalisation of pictures by the options.

    Args:
        of_any_channels: if no convolution shows the number of channels, take it from the number of means.
    """
    from unconv.networks.image_size import channels_and_axes

    channels = network.input_size[0]
    counts = {len(values[name]) for name in ("mean", "std") if name in values}
    if of_any_channels and channels_and_axes(network.module) is None and counts:
        # One number may stand for all channels, or mean a network for grey pictures. It is the latter if the network does not
        # run on its usual number of channels.
        channels = max(counts) if max(counts) > 1 or not _takes(network) else channels
        network.input_size = (channels, *network.input_size[1:])
    for name in ("mean", "std"):
        if name in values and len(values[name]) not in (1, channels):
            raise ShapeError(
                f"--{name}: got {counted(len(values[name]), 'value')}, but {network.name} takes "
                f"{counted(channels, 'channel')}. Write {counted(channels, 'value')} separated by commas, or one for all."
            )
        if name in values and len(values[name]) == 1:
            values[name] *= channels
    known = _known(network)
    if len(known.mean) != channels:
        known = replace(known, mean=(0.0,) * channels, std=(1.0,) * channels)
    network.prepare_by(replace(known, **values), "set by the options", False)


def _takes(network: Network) -> bool:
    """Return whether the network runs on an input of its assumed size."""
    import torch

    try:
        with torch.no_grad():
            network.module(torch.zeros(1, *network.input_size))
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    return True


def _known(network: Network) -> Preprocess:
    """Return the network's preprocessing in a form that the options can change."""
    from unconv import Preprocess

    channels, *sides = network.input_size
    if network.preprocess is None:
        return Preprocess(mean=(0.0,) * channels, std=(1.0,) * channels)
    return network.preparation.like((sides[0], sides[1]), channels)
