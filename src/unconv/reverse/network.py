"""A network to be run backwards: places, recordings, projections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unconv.errors import ModelError, NoSuchLayer, ShapeError, UnconvError
from unconv.networks.keras.opening import input_size as keras_input_size
from unconv.networks.keras.opening import is_keras
from unconv.networks.live import unwrap
from unconv.networks.opened import Opened, Preprocessing
from unconv.networks.openers import lists_openers
from unconv.networks.opening import open_network
from unconv.pictures.decode import Source, open_picture
from unconv.pictures.preprocess import Preprocess, shown
from unconv.reverse.check import Coverage, check
from unconv.reverse.methods import Rules, method_named
from unconv.reverse.places import Place, find, places
from unconv.reverse.receptive_field import Field, fields
from unconv.reverse.reconstruction import Reconstructions
from unconv.reverse.rewriting.channels_first import channels_first
from unconv.reverse.rewriting.freeze import Held, held_words, hold
from unconv.reverse.rules import KEEPERS
from unconv.reverse.seed import Channels, Seeds, Unit, choose
from unconv.reverse.tape.record import Step, Tape, record
from unconv.reverse.trust import Trust, trust
from unconv.reverse.walking.stream import Stream, Units
from unconv.reverse.walking.walk import Route


@lists_openers
def load(
    spec: str | nn.Module,
    weights: str | Path | None = None,
    *,
    preprocess: Preprocessing | None = None,
    input_size: tuple[int, ...] | None = None,
) -> Network:
    """The network that `spec` names, ready to be run backwards.

    Args:
        spec: a name in one of the forms of the list below, such as "torchvision:vgg16" (docs/opening.md explains
            them); or a live module or Keras model.
        weights: "DEFAULT" or another of the library's names, which downloads; or a file .safetensors,
            .pth or .pt, for Keras .keras or .weights.h5. None: random for a library's architecture.
        preprocess: from a PIL picture to a tensor (C, H, W), in place of the network's own.
        input_size: (C, H, W) that `places` runs the network with, in place of the network's own.

    Raises:
        UnconvError: no such network. WeightsError: weights absent, damaged or of another architecture.
    """
    opened = open_network(spec, weights)
    size = input_size or opened.input_size
    return Network(opened.module, preprocess or opened.preprocess, size, opened=opened)


class Network:
    """A trained network and its preprocessing. The module is never changed.

    Args:
        module: any live module; DataParallel and compiled wrappers are taken off.
        preprocess: from a PIL picture to a tensor (C, H, W). None: the picture is cropped to
            `input_size` and scaled to 0..1, nothing else.
        input_size: (C, samples..) that the network is run with to list its places; of a Keras model its own.
        argument: the name of the argument of `forward` that is the image; None: the first.
        others: the module's other arguments, by name; they stay as they are.
    """

    def __init__(
        self,
        module: nn.Module,
        preprocess: Preprocessing | None = None,
        input_size: tuple[int, ...] = (3, 224, 224),
        *,
        argument: str | None = None,
        others: Mapping[str, Any] | None = None,
        opened: Opened | None = None,
    ):
        if input_size == (3, 224, 224) and is_keras(module):
            input_size = keras_input_size(module)
        self.module = unwrap(module)
        self.argument, self.others = argument, dict(others or {})
        self.input_size = tuple(input_size)
        self.name = opened.name if opened else type(self.module).__name__
        self.weights = opened.weights if opened else "as given"
        self.classes = opened.classes if opened else ()
        if preprocess is None and len(self.input_size) == 3 and self.input_size[0] in (1, 3):
            channels, height, width = self.input_size
            preprocess = Preprocess((height, width), mean=(0.0,) * channels, std=(1.0,) * channels)
        self.preprocess = preprocess

    def __repr__(self) -> str:
        return f"Network({self.name}, weights {self.weights}, input {' × '.join(map(str, self.input_size))})"

    def places(self) -> list[Place]:
        """All places of the network, for an image of `input_size`, in the order they are computed."""
        noise = torch.randn(self.input_size, generator=torch.Generator().manual_seed(0))
        return self.record(noise).places()

    def record(self, image: Source, places: Sequence[str | Place] = (), method: str | Rules = "deconvnet") -> Recording:
        """Run the network once on `image` and keep what going back needs, and the outputs of `places`.

        Args:
            image: a file, a PIL picture or an array, which is preprocessed; or a tensor (C, H, W) or
                (1, C, H, W), which is not.
            method: Rules with rules of your own that keep something of the forward pass; any other method
                can be asked of any recording.
        """
        tensor, own = self._tensor(image), method_named(method).keepers
        try:
            tape = record(self.module, tensor, KEEPERS, [_name(place) for place in places], self._call, own)
        except (RuntimeError, IndexError, TypeError, ValueError, AssertionError) as error:
            if isinstance(error, UnconvError):
                raise
            what = (str(error) or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"record: {self.name} failed on an image of {tuple(tensor.shape)}: {what}. "
                f"Is that the size it was made for? (input_size is {self.input_size})"
            ) from error
        return Recording(self, channels_first(tape))

    def _call(self, image: Tensor) -> Any:
        named = {} if self.argument is None else {self.argument: image}
        return self.module(*([] if named else [image]), **named, **self.others)

    def project(
        self,
        image: Source,
        place: str | Place,
        channels: Channels = "all",
        unit: Unit = "strongest",
        method: str | Rules = "deconvnet",
        dtype: str | torch.dtype | None = None,
        trace: bool = False,
        memory: int | None = None,
    ) -> Reconstructions:
        """What of `image` drives the units of one place: each one's activation, run backwards.

        Args:
            image: a file, a PIL picture or an array, which is preprocessed; or a tensor (C, H, W) or
                (1, C, H, W), which is not.
            place: a name from `places`, or a module's name for what it returned.
            channels: "all", one, several in order, or "top:9", the most active, strongest first.
            unit: "strongest" of each map, "map" (the whole map), a position (y, x), or a boolean mask.
            method: "deconvnet", "gradient", "guided", "desalinet", "switch-centre"; or `Rules`, to choose what
                happens at rectifiers other than ReLU, or to add rules.
            dtype: of the way back; the forward pass, and so the switches, stay in the network's own. None: the
                network's, or float32 for one in half precision. "bfloat16" takes two thirds of the time of many
                units, "float16" is for GPUs; `error` of the result then says what it cost.
            trace: also keep the signal at every place on the way down.
            memory: bytes that signals on the way may take, about; what comes back, and weights made ready, are on
                top. None: some 250 MiB on a CPU, which never takes more, and up to 16 GiB on a GPU. Less is slower,
                and gives the same numbers.

        Raises:
            NoSuchLayer, NoSuchUnit: the place, channel or position does not exist.
            NoRule: the way back passes an operation without a rule.
            ShapeError, PictureError: the image does not fit, or cannot be read.
            ModelError: the network cannot be recorded faithfully (training mode, random numbers,
                writes through views).
            NonFinite: NaN or infinite values on the way.

        Source:
            Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks" (2014), sec. 2.1.
        """
        return self.record(image, [place], method).project(place, channels, unit, method, dtype, trace, memory)

    def stream(
        self,
        images: Source | Sequence[Source],
        places: str | Place | Sequence[str | Place] | None = None,
        channels: Channels = "all",
        unit: Unit = "strongest",
        method: str | Rules = "deconvnet",
        dtype: str | torch.dtype | None = None,
        trace: bool = False,
        memory: int | None = None,
    ) -> Stream:
        """As `project`, of many places and pictures: projections one by one, as they are ready.

        Only those you keep stay in memory. Each picture is recorded once for all its places; what one
        gives does not depend on the others.

        Args:
            images: one picture, as for `project`, or a list of them.
            places: one or several; None: every rectified map.

        Raises:
            As `project`, and what is wrong with the first picture or the arguments at once, not on the way.
        """
        listed: list[Any] = list(images) if isinstance(images, list | tuple) else [images]

        def prepare(image: Source) -> list[Units]:
            wanted = self.rectified(image) if places is None else _listed(places)
            recording, prepared = self.record(image, wanted, method), dict[int, Step]()
            return [recording.units(place, channels, unit, method, dtype, trace, memory, prepared) for place in wanted]

        return Stream(listed, prepare)

    def check(self, image: Source | None = None, method: str | Rules = "deconvnet") -> Coverage:
        """Whether this network can be run backwards, and proof: run it, list what occurs, try the laws on a few places.

        Args:
            image: as for `project`; None: noise. The laws run in float64, on a copy, where the network can.
        """
        return check(self, image, method)

    def trust(
        self,
        image: Source,
        place: str | Place,
        channels: Channels = "top:9",
        unit: Unit = "strongest",
        method: str | Rules = "deconvnet",
    ) -> list[Trust]:
        """How far the projections of some units are to be trusted; the arguments are those of `project`.

        Each is compared with what other channels at the same place give, a random seed, and the same network with
        shuffled weights; and a grey square is slid over its receptive field. It runs the network, up to the
        place, some hundred times.

        Raises:
            As `project`; ShapeError: whole maps and regions are no single units.
        """
        recording = self.record(image, [place], method)
        units = recording.units(place, channels, unit, method)
        return list(trust(recording, units, units.all()))

    def rectified(self, image: Source) -> list[str]:
        """The places that are a rectifier's maps, for `image`: what is looked at if nothing is asked for.

        Raises:
            NoSuchLayer: there are none.
        """
        found = [place.name for place in self.record(image).places() if place.rectified]
        if not found:
            raise NoSuchLayer(f"places: {self.name} has no rectified convolution. Name places, from `unconv places`.")
        return found

    def _tensor(self, image: Source) -> Tensor:
        """(1, C, samples..) in the network's type and on its device."""
        if not isinstance(image, Tensor):
            image = self._preprocessed(image)
        channels, axes = self.input_size[0], len(self.input_size) - 1
        batched = image[None] if image.ndim == axes + 1 else image
        if batched.ndim != axes + 2 or batched.shape[0] != 1 or batched.shape[1] != channels or 0 in batched.shape:
            wanted = f"({channels}, {', '.join('DHW'[-axes:])})"
            raise ShapeError(
                f"image: a tensor of {tuple(image.shape)} came, but {wanted} or (1, {wanted[1:]} was needed, one image "
                f"preprocessed for input_size {self.input_size}. Set input_size if the network takes other channels."
            )
        if not batched.is_floating_point():
            raise ShapeError(
                f"image: a tensor of {batched.dtype} came; a tensor is taken as already preprocessed and must be floating. "
                "Pass a file, a PIL picture or a numpy array to have it preprocessed."
            )
        parameter = next((p for p in self.module.parameters() if p.is_floating_point()), None)
        return batched if parameter is None else batched.to(parameter.device, parameter.dtype)

    def _preprocessed(self, image: Any) -> Tensor:
        if self.preprocess is None:
            raise ShapeError(
                f"image: a network with input_size {self.input_size} takes no pictures; pass a preprocessed tensor."
            )
        return self.preprocess(open_picture(image).convert("L" if self.input_size[0] == 1 else "RGB"))


@dataclass(frozen=True)
class Recording:
    """One image that went through a network: units of any place kept can be projected from it."""

    network: Network
    tape: Tape

    def places(self) -> list[Place]:
        """All places, for this image."""
        return places(self.tape)

    @cached_property
    def _held(self) -> dict[tuple[bool, frozenset[Any]], Held]:
        return {}

    def held(self, method: str | Rules = "deconvnet") -> Held:
        """The tape with what a method holds fixed."""
        rules = method_named(method)
        key = (rules.skip, rules.own)
        if not rules.hold:
            return Held(self.tape, (), (), ())
        if key not in self._held:
            self._held[key] = hold(self.tape, *key)
        return self._held[key]

    def activation(self, place: str) -> Tensor:
        """(C, samples..): the output of a place that was asked for."""
        find(self.tape, place, self.held().tape)
        if place not in self.tape.kept:
            raise ShapeError(f"place: the recording did not keep {place}; name it in record(image, places).")
        return self.tape.kept[place][0]

    def project(
        self,
        place: str | Place,
        channels: Channels = "all",
        unit: Unit = "strongest",
        method: str | Rules = "deconvnet",
        dtype: str | torch.dtype | None = None,
        trace: bool = False,
        memory: int | None = None,
    ) -> Reconstructions:
        """As `Network.project`, without running the network again."""
        return self.units(place, channels, unit, method, dtype, trace, memory).all()

    def units(
        self,
        place: str | Place,
        channels: Channels = "all",
        unit: Unit = "strongest",
        method: str | Rules = "deconvnet",
        dtype: str | torch.dtype | None = None,
        trace: bool = False,
        memory: int | None = None,
        prepared: dict[int, Step] | None = None,
    ) -> Units:
        """The units that `project` would run backwards, before they are.

        Args:
            prepared: shared between the places of one recording, if method and dtype are the same.
        """
        where, value, _ = find(self.tape, _name(place), self.held().tape)
        activation = self.activation(_name(place))
        rules = method_named(method)
        tape = self.held(rules).tape
        field = fields(tape, rules)[value.index]
        route = Route(tape, value, rules, _walk_dtype(dtype, activation), {} if prepared is None else prepared)
        seeds = choose(activation, channels, unit)
        boxes = _boxes(seeds, field, self.tape.image.shape[2:])
        if memory is not None and not (isinstance(memory, int) and memory > 0):
            raise ShapeError(f"memory: {memory!r} came; pass bytes, a whole number such as 256 * 2**20, or None.")
        image = self.tape.image[0]
        shown_image = shown(image, self.network.preprocess)
        places = {step.place for step in route.steps}
        notes = (*rules.notes(route.steps), *held_words(self.held(rules), places))
        return Units(where, rules.name, seeds, boxes, route, image, shown_image, trace, memory, notes)


def _listed(places: str | Place | Sequence[str | Place]) -> list[str | Place]:
    return [places] if isinstance(places, str | Place) else list(places)


def _name(place: str | Place) -> str:
    name = place.name if isinstance(place, Place) else place
    if not isinstance(name, str):
        raise NoSuchLayer(f"place: {name!r} came; a place is a name from places(), such as features.3, or a Place.")
    return name


def _walk_dtype(dtype: str | torch.dtype | None, activation: Tensor) -> torch.dtype:
    if dtype is None:
        return torch.float64 if activation.dtype == torch.float64 else torch.float32
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point or found.itemsize < 2:
        raise ShapeError(f'dtype: {dtype!r} is no floating type; pass "float32", "bfloat16", "float64" or None.')
    return found


def _boxes(seeds: Seeds, field: Field, size: Sequence[int]) -> list[tuple[int, ...]]:
    """Where each seed's projection stands; cut to the image where it is longer than two images, or no single unit's."""
    axes = len(size)
    boxes = []
    for low, high in seeds.spans():
        box = field.box(low or [0] * axes, high or [0] * axes)
        spans = list(zip(box[:axes], box[axes:], size, strict=True))
        if seeds.positions is None or not any(field.stride):
            spans = [(max(start, 0), min(end, n), n) for start, end, n in spans]
        cut = [(max(start, 0), min(end, n)) if end - start > 2 * n else (start, end) for start, end, n in spans]
        boxes.append((*(start for start, _ in cut), *(max(start, end) for start, end in cut)))
    return boxes
