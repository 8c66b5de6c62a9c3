"""Keras files: checked as data first, then read by Keras in safe mode, with the memory limited by the size of their weights."""

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
from unconv.networks.keras.hdf5 import Dataset, check_hdf5
from unconv.networks.keras.memory import Allowance
from unconv.networks.model_files import Unfit, open_regular, reason, shown, size_of

_SIDE = 224  # samples along an axis whose length is not fixed by the model
_MOST_TIMES, _MOST_MORE = 8, 1 << 26  # the file may also hold an optimizer's state
_MOST_SAMPLES = 1 << 28  # in one value within a model

_ENDINGS = (".keras", ".weights.h5", ".h5")


def read_model(keras: Any, path: Path) -> Any:
    """Return the model in a `.keras` file; no code in it runs.

    Raises:
        WeightsError: there is no such file, or it is damaged, or names something that is not Keras' own.
        ModelError: it has a value larger than any network for pictures needs.
    """
    with open_regular(path, "file", "Pass FILE.keras.") as file, _damage(path):
        datasets = check_keras(file)
        with Allowance(sum(entry.size for entry in datasets)):
            model = _read(keras, path)
    _refuse_large(path, model)
    _refuse_values(path, model, datasets)
    return model


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn a fault in the file into a message with the file's name and a remedy."""
    try:
        yield
    except (Unfit, OSError) as error:
        raise WeightsError(
            f"load: {shown(path)} cannot be read as a Keras model; it is damaged, cut off, or holds code, which is not run: "
            f"{error}. Save the model again, or build it in your program and pass it live."
        ) from error


def _read(keras: Any, path: Path) -> Any:
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Unfit:
        raise
    except Exception as error:  # Keras raises anything for a damaged file
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, Unfit):  # Keras wraps some errors raised in a layer
            cause = cause.__cause__ or cause.__context__
        raise cause or Unfit(reason(error)) from error


def fill(keras: Any, model: Any, path: Path) -> str:
    """Load weights from a file into a model and return where they came from; if they do not fit, the model is unchanged.

    Raises:
        WeightsError: there is no such file, or it is damaged, or fits another model.
    """
    remedy = "Pass DEFAULT, FILE.keras or FILE.weights.h5."
    with open_regular(path, "weights file", remedy) as file:
        if not path.name.endswith(_ENDINGS):
            raise WeightsError(f"load: {shown(path)} has the wrong ending, but Keras weights were needed. {remedy}")
        _refuse_size(path, size_of(file), model)
        if path.name.endswith(".keras"):
            values: list[Any] | None = read_model(keras, path).get_weights()
            datasets: list[Dataset] = []
        else:
            values = None
            with _misfit(path, model):
                datasets = check_hdf5(file)
    # Keras may have filled half of the variables before it notices that a file does not fit: restore them all.
    originals = [(variable, variable.value.detach().clone()) for variable in model.variables]
    try:
        with _misfit(path, model):
            model.load_weights(path) if values is None else model.set_weights(values)
        _refuse_values(path, model, datasets)
    except BaseException:
        for variable, value in originals:
            variable.assign(value)
        raise
    return path.name


@contextmanager
def _misfit(path: Path, model: Any) -> Iterator[None]:
    """Turn Keras' complaint about weights into a message with the file's name and a remedy."""
    try:
        yield
    except Exception as error:  # Keras raises anything for weights that do not fit
        raise WeightsError(
            f"load: {shown(path)} does not fit {shown(model.name)}, or is damaged: {reason(error)}. "
            "Name the network it was saved from."
        ) from error


def _refuse_size(path: Path, size: int, model: Any) -> None:
    needed = sum(variable.value.numel() * variable.value.element_size() for variable in model.variables)
    if size > _MOST_TIMES * needed + _MOST_MORE:
        raise WeightsError(
            f"load: {shown(path)} has {size:,} bytes, but {shown(model.name)} has weights of {needed:,} bytes. "
            "Name the network it was saved from."
        )


def _refuse_large(path: Path, model: Any) -> None:
    """Refuse a model with a value larger than pictures need, before it runs; its graph announces all shapes."""
    stack, seen = [model], set()
    while stack:
        function = graph_of(stack.pop())
        if function is None or id(function) in seen:
            continue
        seen.add(id(function))
        nodes = [node for nodes in function._nodes_by_depth.values() for node in nodes]
        stack.extend(node.operation for node in nodes if not node.is_input)
        for tensor in (tensor for node in nodes for tensor in tree_leaves(node.output_tensors)):
            samples = 1
            for length in tensor.shape[1:]:
                samples *= length or _SIDE
            if samples > _MOST_SAMPLES:
                raise ModelError(
                    f"load: {shown(path)} has a value of {samples:,} samples ({shown(tensor.name)}), but at most "
                    f"{_MOST_SAMPLES:,} are allowed. Build the model for a smaller input."
                )


def _refuse_values(path: Path, model: Any, datasets: list[Dataset]) -> None:
    """Refuse integers or booleans where the model has floating point, and values that are NaN or infinite."""
    # Keras casts in silence, and does not say which dataset went to which variable: compare by shape.
    expected: Mapping[tuple[Any, ...], int] = Counter(
        tuple(variable.shape) for variable in model.variables if not variable.value.is_floating_point()
    )
    stored = Counter(entry.shape for entry in datasets if not entry.floating and "optimizer" not in entry.name)
    surplus = next((shape for shape, count in stored.items() if count > expected.get(shape, 0)), None)
    if surplus is not None:
        name = next(entry.name for entry in datasets if entry.shape == surplus and not entry.floating)
        raise WeightsError(
            f"load: {shown(path)}: {shown(name)} holds integers or booleans, but floating-point numbers were needed. "
            "Save the weights of the network itself, not of a quantised copy."
        )
    for variable in model.variables:
        if variable.value.is_floating_point() and not torch.isfinite(variable.value).all():
            raise WeightsError(
                f"load: {shown(path)}: {shown(variable.path)} holds NaN or infinite values. Save the weights again."
            )
