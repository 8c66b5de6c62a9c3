"""Load a network and run it backwards: the functions that a user calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unconv.errors import ModelError, printable
from unconv.kinds import checks_kinds_but
from unconv.networks.opened import Preprocessing
from unconv.networks.openers import lists_openers
from unconv.networks.opening import open_network
from unconv.pictures.decode import Source
from unconv.reverse.coverage import Coverage, check
from unconv.reverse.method_table import Method
from unconv.reverse.methods import Rules
from unconv.reverse.model import Model, Places, Recording, listed
from unconv.reverse.places import Place
from unconv.reverse.reconstruction import Reconstructions
from unconv.reverse.request import Request
from unconv.reverse.seed import Channels, Unit
from unconv.reverse.tape.step import Step
from unconv.reverse.top_classes import TopClasses
from unconv.reverse.trust import Trust, trust
from unconv.reverse.walking.stream import Stream, Units

__all__ = ["Network", "Recording", "load"]


@lists_openers
def load(
    spec: str | nn.Module,
    weights: str | Path | None = None,
    *,
    preprocess: Preprocessing | None = None,
    input_size: tuple[int, ...] | None = None,
) -> Network:
    """Open the network that `spec` names, ready to be run backwards.

    Args:
        spec: a name in one of the forms of the list below, such as "torchvision:vgg16" (docs/opening.md explains
            them); or a live module, Keras model or exported program.
        weights: "DEFAULT" or another of the library's names, which downloads; or a file .safetensors,
            .pth or .pt, for Keras .keras or .weights.h5. In a checkpoint, `load` searches for the weights that fit; the
            network's `weights` and `notes` say which it took. None: random for a library's architecture.
        preprocess: from a PIL picture to a tensor (C, H, W), instead of the network's own: a function, a transform of
            torchvision, timm or albumentations, or an image processor of Hugging Face's, as for evaluation.
        input_size: (C, H, W) that `places` runs the network with, instead of the network's own.

    Raises:
        UnconvError: there is no such network. WeightsError: the weights are missing, damaged or of another architecture.
    """
    # `opened_with` is kept for a spec only: another process can open it again, but not a live module.
    opened = open_network(spec, weights)
    network = Network(opened.module, opened.preprocess if preprocess is None else preprocess, input_size, opened=opened)
    network.opened_with = (spec, None if weights is None else str(weights)) if isinstance(spec, str) else None
    return network


class Network(Model):
    """A trained network and its preprocessing. The module is never changed.

    Args:
        module: any live module, or a program of `torch.export`; DataParallel and compiled wrappers are removed.
        preprocess: from a PIL picture to a tensor (C, H, W): a function, a transform of torchvision, timm or
            albumentations, or an image processor of Hugging Face's, as for evaluation. None: the picture is cropped to
            `input_size` and scaled to 0..1, nothing else. `preparation` says what happens.
        input_size: (C, samples..) that the network runs with to list its places. None: the size that `preprocess` gives
            every picture, or a Keras model's own, or else the channels of the first convolution and usual lengths.
        argument: the name of the image among the arguments of `forward`; None: the first argument.
        others: the module's other arguments, by name; they stay as they are.
    """

    opened_with: tuple[str, str | None] | None = None
    """The spec and the weights that `load` was called with; None for a live module."""

    def __repr__(self) -> str:
        size = " × ".join(map(str, self.input_size))
        try:
            picture = str(self.preparation)
        except ModelError:  # it draws random numbers: recording says so
            picture = "prepared by chance"
        return f"Network({printable(self.name)}, weights {self.weights}, input {size}, picture: {printable(picture)})"

    def places(self) -> list[Place]:
        """Return all places of the network, for an image of `input_size`, in the order they are computed."""
        return self.record(self.noise()).places()

    def rectified(self, image: Source) -> list[str]:
        """Return the places that are a rectifier's maps, for `image`; these are projected if you name no place.

        Raises:
            NoSuchLayer: the network has none.
        """
        return self.record(image).rectified()

    @checks_kinds_but("image", "place", "channels", "unit", "method", "dtype", "memory")
    def project(
        self,
        image: Source,
        place: str | Place,
        channels: Channels = "all",
        unit: Unit = "strongest",
        method: Method | Rules = "deconvnet",
        dtype: str | torch.dtype | None = None,
        trace: bool = False,
        memory: int | None = None,
    ) -> Reconstructions:
        """Run units of one place backwards: each projection shows what in `image` drives its unit.

        Args:
            image: a file, a PIL picture or an array, which is preprocessed; or a tensor (C, H, W) or
                (1, C, H, W), which is not.
            place: a name from `places`, or a module's name for its output.
            channels: "all", one, several in order, or "top:9", the most active, strongest first; or "together": one
                projection of the entire layer, all its maps at once (with a position or mask, of that part of them).
            unit: "strongest" of each map, "map" (all of it), a position (y, x), or a boolean mask.
            method: a name from `Method`; or `Rules`, to choose what happens at rectifiers other than ReLU, or to add
                rules.
            dtype: the number type of the way back; the forward pass, and so the switches, keep the network's own.
                None: the network's, or float32 if that is half precision. "bfloat16" takes two thirds of the time for many
                units, "float16" is for GPUs; `error` of the result then says how much accuracy it cost.
            trace: also keep the signal at every place on the way.
            memory: roughly how many bytes the signals on the way may take, besides the projections themselves and prepared
                weights. None: about 250 MiB on a CPU, and up to 16 GiB on a GPU. Less is slower and gives the same numbers.

        Raises:
            NoSuchLayer, NoSuchUnit: the place, channel or position does not exist.
            NoRule: the way back passes an operation without a rule.
            ShapeError, PictureError: the image does not fit, or cannot be read.
            ModelError: the network cannot be recorded faithfully (training mode, random numbers,
                writes into memory that overlaps itself).
            NonFinite: NaN or infinite values on the way.

        Source:
            Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks" (2014), sec. 2.1.
        """
        # The recording first: the way back needs its switches, and only an activation of this image can be a seed.
        return self.record(image, [place], method).project(place, channels, unit, method, dtype, trace, memory)

    @checks_kinds_but("images", "places", "channels", "unit", "method", "dtype", "memory")
    def stream(
        self,
        images: Source | Sequence[Source],
        places: Places | None = None,
        channels: Channels = "all",
        unit: Unit = "strongest",
        method: Method | Rules = "deconvnet",
        dtype: str | torch.dtype | None = None,
        trace: bool = False,
        memory: int | None = None,
        skip_damaged: bool = False,
    ) -> Stream:
        """Project units of many places and pictures, and yield the projections one by one.

        Only those that you keep stay in memory. Each picture is recorded once for all its places, and its projections do not
        depend on the other pictures.

        Args:
            images: one picture, as for `project`, or a list of them.
            places: one or several; None: every rectified map.
            skip_damaged: skip pictures that cannot be read, and list them in the stream's `damaged`.

        Raises:
            As `project`. Errors in the arguments or the first picture are raised at once, the others in the iteration.
        """
        pictures: list[Any] = list(images) if isinstance(images, list | tuple) else [images]
        request = Request((), channels, unit, method, dtype, False, trace, memory)

        def prepare(image: Source) -> list[Units]:
            # The places share what rules compute once per step.
            recording, prepared = self.record(image, places, method), dict[int, Step]()
            names = recording.rectified() if places is None else listed(places)
            return [recording.requested(name, request, prepared) for name in names]

        return Stream(pictures, prepare, skip_damaged)

    @checks_kinds_but("image")
    def top_classes(self, image: Source, n: int = 5) -> TopClasses | None:
        """Return the `n` classes with the largest scores for `image`; None if the network returns no vector of scores."""
        return self.record(image).top_classes(n)

    @checks_kinds_but("image", "method")
    def check(self, image: Source | None = None, method: Method | Rules = "deconvnet") -> Coverage:
        """Check whether this network can be run backwards: run it, list its operations, and test the laws on a few places.

        Args:
            image: as for `project`; None: noise. The laws run in float64, on a copy, where the network can.
        """
        return check(self, image, method)

    @checks_kinds_but("image", "place", "channels", "unit", "method")
    def trust(
        self,
        image: Source,
        place: str | Place,
        channels: Channels = "top:9",
        unit: Unit = "strongest",
        method: Method | Rules = "deconvnet",
    ) -> list[Trust]:
        """Measure how far to trust the projections of some units; the arguments are those of `project`.

        Each projection is compared with those of other channels at the same place, of a random seed, and of the same network
        with shuffled weights; and a grey square is moved over its receptive field. This runs the network about a hundred
        times, up to the place.

        Raises:
            As `project`. ShapeError: a map or a region came, which is not a single unit.
        """
        # The units are needed beside their projections: each comparison starts another walk from the same position.
        recording = self.record(image, [place], method)
        units = recording.units(place, channels, unit, method)
        return list(trust(recording, units, units.all()))
