"""Keras' files: looked through as data first, then read by Keras in its safe mode, within the memory that they account for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from unconv.errors import ModelError, WeightsError
from unconv.networks.keras.archive import check_keras
from unconv.networks.keras.graph import graph_of
from unconv.networks.keras.hdf5 import Numbers, check_hdf5
from unconv.networks.keras.memory import Allowance
from unconv.networks.model_files import Unfit, open_regular, reason, shown, size_of

_SIDE = 224  # samples along an axis whose length the model leaves open
_MOST_TIMES, _MOST_MORE = 8, 1 << 26  # an optimizer's state lies beside the weights
_MOST_SAMPLES = 1 << 28  # of one value within a model

_ENDINGS = (".keras", ".weights.h5", ".h5")


def read_model(keras: Any, path: Path) -> Any:
    """Read the model in a `.keras` file; no code in it runs.

    Raises:
        WeightsError: there is no such file, or it is damaged, or names what is not Keras' own.
        ModelError: it asks for more memory than any network of pictures.
    """
    with open_regular(path, "file", "Pass FILE.keras.") as file, _damage(path):
        numbers = check_keras(file)
        with Allowance(sum(entry.size for entry in numbers)):
            model = _read(keras, path)
    _refuse_large(path, model)
    _refuse_values(path, model, numbers)
    return model


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Tell what was found wrong with a file."""
    try:
        yield
    except (Unfit, OSError) as error:
        raise WeightsError(
            f"load: {shown(path)} cannot be read as a Keras model; it is damaged, cut off, or holds code, which is not run: "
            f"{error}. Save the model again, or make it in your program and pass it live."
        ) from error


def _read(keras: Any, path: Path) -> Any:
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Unfit:
        raise
    except Exception as error:  # of a damaged file Keras raises whatever came up
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, Unfit):  # Keras wraps some of what is raised in a layer
            cause = cause.__cause__ or cause.__context__
        raise cause or Unfit(reason(error)) from error


def fill(keras: Any, model: Any, path: Path) -> str:
    """Load the weights of a file into the model, and say where they came from; a model that they do not fit keeps its own.

    Raises:
        WeightsError: there is no such file, or it is damaged, or fits another model.
    """
    remedy = "Pass DEFAULT, FILE.keras or FILE.weights.h5."
    with open_regular(path, "weights file", remedy) as file:
        if not path.name.endswith(_ENDINGS):
            raise WeightsError(f"load: {shown(path)} is not named as weights of Keras are, but that was needed. {remedy}")
        _refuse_size(path, size_of(file), model)
        if path.name.endswith(".keras"):
            values: list[Any] | None = read_model(keras, path).get_weights()
            numbers: list[Numbers] = []
        else:
            values = None
            with _misfit(path, model):
                numbers = check_hdf5(file)
    # Keras may have filled half of the variables when it finds that a file does not fit: put them all back.
    before = [(variable, variable.value.detach().clone()) for variable in model.variables]
    try:
        with _misfit(path, model):
            model.load_weights(path) if values is None else model.set_weights(values)
        _refuse_values(path, model, numbers)
    except BaseException:
        for variable, value in before:
            variable.assign(value)
        raise
    return path.name


@contextmanager
def _misfit(path: Path, model: Any) -> Iterator[None]:
    """Tell why weights do not fit."""
    try:
        yield
    except Exception as error:  # of a misfit Keras raises whatever came up
        raise WeightsError(
            f"load: {shown(path)} does not fit {shown(model.name)}, or is damaged: {reason(error)}. "
            "Name the network it was saved from."
        ) from error


def _refuse_size(path: Path, size: int, model: Any) -> None:
    needed = sum(variable.value.numel() * variable.value.element_size() for variable in model.variables)
    if size > _MOST_TIMES * needed + _MOST_MORE:
        raise WeightsError(
            f"load: {shown(path)} has {size:,} bytes, but {shown(model.name)} has weights of {needed:,}. "
            "Name the network it was saved from."
        )


def _refuse_large(path: Path, model: Any) -> None:
    """Refuse a model that has a value larger than any that is needed for pictures, before it runs."""
    left, seen = [model], set()
    while left:
        function = graph_of(left.pop())
        if function is None or id(function) in seen:
            continue
        seen.add(id(function))
        nodes = [node for nodes in function._nodes_by_depth.values() for node in nodes]
        left.extend(node.operation for node in nodes if not node.is_input)
        for tensor in (tensor for node in nodes for tensor in tree_leaves(node.output_tensors)):
            samples = 1
            for length in tensor.shape[1:]:
                samples *= length or _SIDE
            if samples > _MOST_SAMPLES:
                raise ModelError(
                    f"load: {shown(path)} has a value of {samples:,} samples ({shown(tensor.name)}), but at most "
                    f"{_MOST_SAMPLES:,} were needed for any picture. Make the model for a smaller input."
                )


def _refuse_values(path: Path, model: Any, numbers: list[Numbers]) -> None:
    """Refuse numbers of one kind where the model has another, and values that are no numbers."""
    own: Mapping[tuple[Any, ...], int] = Counter(
        tuple(variable.shape) for variable in model.variables if not variable.value.is_floating_point()
    )
    came = Counter(entry.shape for entry in numbers if not entry.floating and "optimizer" not in entry.name)
    odd = next((shape for shape, count in came.items() if count > own.get(shape, 0)), None)
    if odd is not None:
        name = next(entry.name for entry in numbers if entry.shape == odd and not entry.floating)
        raise WeightsError(
            f"load: {shown(path)}: {shown(name)} holds whole numbers or truth values, but floating-point numbers were needed. "
            "Save the weights of the network itself, not of a quantised copy."
        )
    for variable in model.variables:
        if variable.value.is_floating_point() and not torch.isfinite(variable.value).all():
            raise WeightsError(
                f"load: {shown(path)}: {shown(variable.path)} holds NaN or infinite values. Save the weights again."
            )
