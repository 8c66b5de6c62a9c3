"""A module with its preprocessing and its other arguments; and the recording of one image, from which units are projected."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unconv.errors import DtypeError, ModelError, NoSuchLayer, ShapeError, UnconvError, counted, printable
from unconv.kinds import checks_kinds_but, fits_kind
from unconv.kinds import shown as kind_shown
from unconv.networks.image_size import image_size
from unconv.networks.live import SIZE, refuse_other, unwrap
from unconv.networks.opened import Opened, Preprocessing
from unconv.pictures.decode import Source
from unconv.pictures.preparation import Preparation, fixed_size, preparation
from unconv.pictures.prepare import prepare
from unconv.pictures.preprocess import Preprocess, shown
from unconv.reverse.calling import failed, refuse_collection
from unconv.reverse.method_table import Method
from unconv.reverse.methods import Rules, method_named
from unconv.reverse.places import Place, find, is_rectified, looked_at, place_of, places
from unconv.reverse.receptive_field import ReceptiveField, receptive_fields
from unconv.reverse.reconstruction import Picture, Reconstructions
from unconv.reverse.request import Request
from unconv.reverse.rewriting.as_maps import as_maps
from unconv.reverse.rewriting.channels_first import channels_first
from unconv.reverse.rewriting.freeze import Frozen, freeze, frozen_words
from unconv.reverse.rewriting.written_norms import written_norms
from unconv.reverse.rewriting.written_out import as_written, writes_out, written_out
from unconv.reverse.rules import KEEPERS
from unconv.reverse.rules.table import is_rectifier
from unconv.reverse.seed import Channels, Seeds, Unit, choose
from unconv.reverse.tape.precision import own_types
from unconv.reverse.tape.record import Keep, record
from unconv.reverse.tape.step import Step, Tape, Value
from unconv.reverse.tape.untouched import shares, watched
from unconv.reverse.top_classes import TopClasses, top_classes
from unconv.reverse.walking.stream import Units
from unconv.reverse.walking.walk import Route

_LARGEST = 2**28  # samples of an image
_UNKNOWN = "nothing is known of how this network was trained"

Places = str | Place | Sequence[str | Place]
"""One place or several, by name or as `places()` returned them."""


class Model:
    """A module, its preprocessing, and how to call it. The module is never changed."""

    @checks_kinds_but("module")
    def __init__(
        self,
        module: nn.Module,
        preprocess: Preprocessing | None = None,
        input_size: tuple[int, ...] | None = None,
        *,
        argument: str | None = None,
        others: Mapping[str, Any] | None = None,
        opened: Opened | None = None,
    ):
        # The size comes first: without a preprocessing, one that crops to it is made below.
        refuse_other("Network", module)
        size = tuple(input_size or _size(module, preprocess, opened))
        if len(size) < 2 or min(size) < 1 or prod(size) > _LARGEST:
            raise ShapeError(
                f"Network: input_size is {size}, but (channels, samples..) of at least 1 each, at most {_LARGEST} "
                "samples in all, was needed. Pass the size of one image."
            )
        self.module = unwrap(module)
        self.argument, self.others = argument, dict(others or {})
        self.input_size = size
        self.name = opened.name if opened else type(self.module).__name__
        self.weights = opened.weights if opened else "as given"
        self.classes = opened.classes if opened else ()
        self.notes = opened.notes if opened else ()
        if opened and preprocess is opened.preprocess and preprocess is not None:
            source = opened.trained_with or opened.guess
            self.prepare_by(preprocess, source or f"as {opened.name} brings it", source != opened.trained_with)
        else:
            self.preprocess = preprocess
        if preprocess is None and len(self.input_size) == 3 and self.input_size[0] in (1, 3):
            channels, height, width = self.input_size
            usual = Preprocess((height, width), mean=(0.0,) * channels, std=(1.0,) * channels)
            self.prepare_by(usual, _UNKNOWN, assumed=True)

    @property
    def preprocess(self) -> Preprocessing | None:
        """Makes a tensor (C, H, W) of a picture; None if the network takes no pictures. It can be set."""
        return self._preprocess

    @preprocess.setter
    def preprocess(self, preprocess: Preprocessing | None) -> None:
        self.prepare_by(preprocess, *((_UNKNOWN, True) if preprocess is None else ("as given", False)))

    def prepare_by(self, preprocess: Preprocessing | None, source: str, assumed: bool = False) -> None:
        """Set the preprocessing, where it comes from in words, and whether it is only assumed to be the network's."""
        self._preprocess, self._whose, self._assumed = preprocess, source, assumed
        vars(self).pop("_prepared", None)

    @property
    def preparation(self) -> Preparation:
        """What happens to a picture before the network gets it, and whether that is known or assumed; prints as a sentence.

        Raises:
            ModelError: the preprocessing draws random numbers.
        """
        if self._prepared.get("size") != self.input_size:
            result = preparation(self._preprocess, self.input_size, self._whose, self._assumed)
            self._prepared.update(size=self.input_size, result=result)
        cached: Preparation = self._prepared["result"]
        return cached

    @cached_property
    def _prepared(self) -> dict[str, Any]:
        return {}

    @checks_kinds_but("image", "places", "method")
    def record(self, image: Source, places: Places | None = (), method: Method | Rules = "deconvnet") -> Recording:
        """Run the network once on `image`, and return the recording, with the outputs of `places`.

        Args:
            image: a file, a PIL picture or an array, which is preprocessed; or a tensor (C, H, W) or
                (1, C, H, W), which is not.
            places: one or several; None: every rectified map.
            method: needed only for Rules with rules of your own that keep something of the forward pass; all other
                methods can project any recording.
        """
        if "torchvision.ops" in sys.modules:  # the network may use its operations
            import_module("unconv.reverse.rules.regions")
        tensor, came = self.prepared(image)
        own = method_named(method).keepers
        keep: Keep = is_rectifier if places is None else [name_of(place) for place in listed(places)]
        try:
            tape = record(self.module, tensor, KEEPERS, keep, self.call, own, self.others)
        except (RuntimeError, LookupError, TypeError, ValueError, AssertionError, AttributeError, ImportError) as error:
            explained = failed(self.name, self.module, tensor.shape, self.input_size, error)
            if isinstance(error, UnconvError) or explained is None:
                raise
            raise explained from error
        # Reorder the channels first, as a norm is recognised with its channels on axis 1.
        key = str(image) if isinstance(image, str | Path) else str(getattr(image, "filename", "") or "")
        with own_types(tensor.device):
            recording = Recording(self, as_maps(written_norms(written_out(channels_first(tape)))), key, came)
        unkept_places = self._to_keep(recording, keep)
        return self.record(image, unkept_places, method) if unkept_places else recording

    def _to_keep(self, recording: Recording, keep: Keep) -> list[str]:
        """Return the places that a second run has to keep, as only the first shows which activations are written out."""
        tape, requested = recording.tape, [] if callable(keep) else list(keep)
        unkept = [place for pair in tape.unkept.items() for place in pair if place not in requested]
        maps = [(step.place, value) for step, value in recording.rectified_maps()] if callable(keep) else []
        if not unkept and all(value.index in tape.kept for _, value in maps):
            return []
        return list(dict.fromkeys([*requested, *(place for place, _ in maps), *unkept]))

    def call(self, image: Tensor) -> Any:
        """Return the module's output for a preprocessed image (1, C, samples..)."""
        keywords = {} if self.argument is None else {self.argument: image}
        return self.module(*([] if keywords else [image]), **keywords, **self.others)

    def copied(self, where: str, purpose: str) -> Model:
        """Return a model with a deep copy of the module, which shares nothing with it.

        Args:
            where, purpose: for the error message: which function needs the copy, and for what.

        Raises:
            ModelError: the module cannot be copied, or only in part.
        """
        twin = copy.copy(self)
        try:
            with watched(self.module):
                twin.module = copy.deepcopy(self.module)
        except Exception as error:  # copying the user's module may fail in any way
            raise ModelError(f"{where}: {self.name} cannot be copied, {purpose}: {error}.") from error
        if shares(self.module, twin.module):
            raise ModelError(
                f"{where}: a deep copy of {self.name} shares modules or weights with it, so that a change of the copy would "
                "change it, but it is to stay as it is. Give it a __deepcopy__ that copies them."
            )
        return twin

    @property
    def blue_first(self) -> bool:
        """Whether the network's channels are blue, green, red."""
        return self.preparation.bgr

    def noise(self) -> Tensor:
        """Return random noise of `input_size`, always the same."""
        return torch.randn(self.input_size, generator=torch.Generator().manual_seed(0))

    def prepared(self, image: Source) -> tuple[Tensor, str]:
        """Return the image as (1, C, samples..) in the network's type and on its device, and what it came as, in words.

        Args:
            image: as for `record`.
        """
        batched, came = self.prepared_here(image)
        parameter = next((p for p in self.module.parameters() if p.is_floating_point()), None)
        return (batched if parameter is None else batched.to(parameter.device, parameter.dtype)), came

    def prepared_here(self, image: Source) -> tuple[Tensor, str]:
        """Do the same as `prepared`, but leave a tensor's type and device; others become float32 on the CPU."""
        came = "tensor"
        if not isinstance(image, Tensor):
            refuse_collection(image)
            image, came = prepare(image, self._preprocess, self.input_size)
        if not fits_kind(image, Tensor):
            raise DtypeError(f"image: {kind_shown(image)} came, but a dense tensor with values was needed. Pass one.")
        # Take only the values of a subclass (MONAI's, fastai's): its own functions would bypass the recording.
        image = image.as_subclass(Tensor)
        channels, axes = self.input_size[0], len(self.input_size) - 1
        batched = image[None] if image.ndim == axes + 1 else image
        if batched.ndim != axes + 2 or batched.shape[0] != 1 or batched.shape[1] != channels or 0 in batched.shape:
            expected = f"({channels}, {', '.join('DHW'[-axes:])})"
            raise ShapeError(
                f"image: a tensor of {tuple(image.shape)} came, but {expected} or (1, {expected[1:]} was needed, one image "
                f"preprocessed for input_size {self.input_size}. Set input_size if the network takes other channels."
            )
        if not batched.is_floating_point():
            raise ShapeError(
                f"image: a tensor of {batched.dtype} came, but a tensor must be preprocessed and of a floating-point type. "
                "Pass a file, a PIL picture or a numpy array to have it preprocessed."
            )
        return batched, came


@dataclass(frozen=True)
class Recording:
    """The recording of one image: units of each place that it kept can be projected from it.

    `came` says in words what the image came as. Places, receptive fields and each method's frozen tape are derived from the
    tape once, when they are first needed.
    """

    model: Model
    tape: Tape
    key: str = ""
    came: str = "tensor"

    def __repr__(self) -> str:
        of = f" of {printable(Path(self.key).name)}" if self.key else ""
        return f"Recording({printable(self.model.name)}{of}: {counted(len(self.tape.steps), 'step')})"

    @property
    def preparation(self) -> Preparation:
        """What was done to this picture; nothing if it came as a tensor."""
        if self.came == "tensor":
            return Preparation("a tensor is taken as it is", False)
        return replace(self.model.preparation, picture=self.came)

    def top_classes(self, n: int = 5) -> TopClasses | None:
        """Return the `n` classes with the largest scores for this picture; None if the network returns no vector of scores."""
        return top_classes(self.tape, self.model.classes, n)

    def places(self) -> list[Place]:
        """Return all places, for this image."""
        return list(self._places)

    def rectified(self) -> list[str]:
        """Return the places that are a rectifier's maps; these are projected if you name no place.

        Raises:
            NoSuchLayer: the network has none.
        """
        names = [step.place for step, _ in self.rectified_maps()]
        if not names:
            raise NoSuchLayer(f"places: {self.model.name} has no rectified convolution. Name places, from `unconv places`.")
        return names

    def rectified_maps(self) -> Iterator[tuple[Step, Value]]:
        """Yield the rectifiers that make maps, each with its value."""
        return ((step, value) for step, value in looked_at(self.tape) if is_rectified(step, value))

    def frozen(self, method: Method | Rules = "deconvnet") -> Frozen:
        """Return the tape with the gates and statistics that a method freezes."""
        rules = method_named(method)
        formulas = rules.name == "gradient" and not rules.freeze
        key = (rules.skip, rules.own, formulas, rules.freeze, rules.gates)
        if key not in self._tapes:
            named = not formulas and not writes_out(self.tape, rules.own)
            self._tapes[key] = self.tape if named and rules.freeze else as_written(self.tape, norms_alone=named)
        if not rules.freeze:
            return Frozen(self._tapes[key])
        if key not in self._frozen:
            with own_types(self.tape.image.device):
                self._frozen[key] = freeze(self._tapes[key], rules.skip, rules.own, rules.gates)
        return self._frozen[key]

    def receptive_fields(self, method: Method | Rules = "deconvnet") -> dict[int, ReceptiveField]:
        """Return the receptive field of each value's units by a method's rules, by the value's index."""
        rules = method_named(method)
        key = (rules.name, rules.freeze, rules.skip, rules.own_reaches, rules.gates)
        if key not in self._receptive_fields:
            # Use the activations and norms, not their formulas: the parts of a formula may seem to see more.
            formulas = rules.name == "gradient" and not rules.freeze and not writes_out(self.tape, rules.own)
            tape = as_written(self.tape, norms_alone=True) if formulas else self.frozen(rules).tape
            self._receptive_fields[key] = receptive_fields(tape, rules)
        return self._receptive_fields[key]

    @checks_kinds_but("place")
    def activation(self, place: str) -> Tensor:
        """Return the output (C, samples..) of a place that the recording kept."""
        _, value = find(self.tape, name_of(place))
        if value.index not in self.tape.kept:
            raise ShapeError(f"place: the recording did not keep {place}. Name it in record(image, places).")
        return self.tape.kept[value.index][0]

    @checks_kinds_but("place", "channels", "unit", "method", "dtype", "memory")
    def project(
        self,
        place: str | Place,
        channels: Channels = "all",
        unit: Unit = "strongest",
        method: Method | Rules = "deconvnet",
        dtype: str | torch.dtype | None = None,
        trace: bool = False,
        memory: int | None = None,
    ) -> Reconstructions:
        """Run units of one place backwards, as `Network.project` does, without running the network again."""
        return self.requested(place, Request((), channels, unit, method, dtype, False, trace, memory)).all()

    def units(
        self,
        place: str | Place,
        channels: Channels = "all",
        unit: Unit = "strongest",
        method: Method | Rules = "deconvnet",
        dtype: str | torch.dtype | None = None,
        trace: bool = False,
        memory: int | None = None,
        prepared: dict[int, Step] | None = None,
    ) -> Units:
        """Return the units that `project` would run backwards.

        Args:
            prepared: a dictionary that the places of one recording share, if method and dtype are the same.
        """
        return self.requested(place, Request((), channels, unit, method, dtype, False, trace, memory), prepared)

    def requested(self, place: str | Place, request: Request, prepared: dict[int, Step] | None = None) -> Units:
        """Return the units of one place that a request asks for, without running them backwards.

        Args:
            request: its `places` and `trust` are not used here.
            prepared: a dictionary that the places of one recording share, if method and dtype are the same.
        """
        name = name_of(place)
        if self.tape.outdated:
            raise ModelError(
                f"project: weights of {self.model.name} were changed after this recording, but its switches belong to the old "
                "ones. Record the image again."
            )
        # The route uses the frozen tape, but places and seeds come from the recorded one: freezing keeps their values.
        step, value = find(self.tape, name)
        activation, rules, memory = self.activation(name), method_named(request.method), request.memory
        frozen = self.frozen(rules)
        route = Route(frozen.tape, value, rules, _walk_dtype(request.dtype, activation), {} if prepared is None else prepared)
        seeds = choose(activation, request.channels, request.unit)
        boxes = boxes_of(seeds, self.receptive_fields(rules)[value.index], self.tape.image.shape[2:])
        if memory is not None and not (isinstance(memory, int) and memory > 0):
            raise ShapeError(
                f"memory: {memory!r} came, but a positive integer was needed. Pass bytes, such as 256 * 2**20, or None."
            )
        notes = (*rules.notes(route.steps), *frozen_words(frozen, {step.place for step in route.steps}))
        listed_place = place_of(self.tape, step, value, self._listed_receptive_fields)
        picture = Picture(self.tape.image[0], self._shown, 0, self.key)
        common = (picture.image, picture.shown, request.trace, memory, notes, self.model.blue_first, self.model.name, picture)
        return Units(listed_place, rules.name, seeds, boxes, route, *common)

    @cached_property
    def _places(self) -> list[Place]:
        return places(self.tape, self._listed_receptive_fields)

    @property
    def _listed_receptive_fields(self) -> dict[int, ReceptiveField]:
        """The receptive fields in the list of places; they do not depend on the method, and gates do not count."""
        return self.receptive_fields("deconvnet")

    @cached_property
    def _tapes(self) -> dict[Any, Tape]:
        # The gradient uses the formulas of activations, as two formulas of one activation may differ where its slope jumps.
        # So do methods with the user's rules for operations of a formula.
        return {}

    @cached_property
    def _frozen(self) -> dict[Any, Frozen]:
        return {}

    @cached_property
    def _receptive_fields(self) -> dict[Any, dict[int, ReceptiveField]]:
        return {}

    @cached_property
    def _shown(self) -> Tensor:
        return shown(self.tape.image[0], self.model.preparation)


def _size(module: Any, preprocess: Preprocessing | None, opened: Opened | None) -> tuple[int, ...]:
    """Return the default size of a module's images: that of its preprocessing, or the one its opener knows."""
    # The opener of a live module, or of a file's own function, knows no size and returns the usual one: do not trust it.
    if opened and (opened.preprocess is not None or opened.input_size != SIZE):
        size = opened.input_size
    else:
        size = image_size(module)
    if preprocess is None or (opened and preprocess is opened.preprocess):
        return size
    return fixed_size(preprocess, size[0]) or size


def listed(places: Places) -> list[str | Place]:
    """Return one place or several as a list."""
    if isinstance(places, Sequence) and not isinstance(places, str):
        return list(places)
    return [places]


def name_of(place: str | Place) -> str:
    """Return a place's name.

    Raises:
        NoSuchLayer: neither a name nor a place.
    """
    name = place.name if isinstance(place, Place) else place
    if not isinstance(name, str):
        raise NoSuchLayer(
            f"place: {name!r} came, but a name or a Place was needed. Pass one from places(), such as features.3."
        )
    return name


def _walk_dtype(dtype: str | torch.dtype | None, activation: Tensor) -> torch.dtype:
    if dtype is None:
        return torch.float64 if activation.dtype == torch.float64 else torch.float32
    walk_dtype = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(walk_dtype, torch.dtype) or not walk_dtype.is_floating_point or walk_dtype.itemsize < 2:
        raise ShapeError(f'dtype: {dtype!r} is not a floating-point type. Pass "float32", "bfloat16", "float64" or None.')
    return walk_dtype


def boxes_of(seeds: Seeds, receptive_field: ReceptiveField, size: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the box of each seed's projection.

    It is cut to the image along an axis where it is longer than two images, and for maps and regions along every axis.
    """
    axes = len(size)
    boxes = []
    for low, high in seeds.spans():
        # If a map has more axes than the image, its last ones are those of the image.
        low, high = ([0] * max(0, axes - len(position)) + position[-axes:] for position in (low, high))
        box = receptive_field.box(low, high)
        spans = list(zip(box[:axes], box[axes:], size, strict=True))
        if seeds.positions is None or not any(receptive_field.stride):
            spans = [(max(start, 0), min(end, n), n) for start, end, n in spans]
        edges = [(max(start, 0), min(end, n)) if end - start > 2 * n else (start, end) for start, end, n in spans]
        boxes.append((*(start for start, _ in edges), *(max(start, end) for start, end in edges)))
    return boxes
