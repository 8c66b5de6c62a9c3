"""The tape: what happened to one image on its way through a network.

`record` runs the unchanged model once under a dispatch mode and writes a step for each aten operation that the image flows
through. Functional, in-place and reused layers all pass the dispatcher; module hooks would miss the functional ones and
confuse the others. Only the files of this folder rely on the internals of torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_flatten_with_path, tree_leaves

from unconv.errors import ModelError, NonFinite
from unconv.reverse.tape.custom_operations import ReplacedFunctions
from unconv.reverse.tape.functions import watched_functions
from unconv.reverse.tape.precision import full_precision
from unconv.reverse.tape.recorder import Keep, Recorder
from unconv.reverse.tape.step import Keepers, Tape
from unconv.reverse.tape.untouched import untouched

__all__ = ["Keep", "record", "refuse_unready"]


def record(
    model: nn.Module,
    image: Tensor,
    keepers: Keepers,
    keep: Keep = (),
    call: Callable[[Tensor], Any] | None = None,
    own: Keepers | None = None,
    others: Any = (),
) -> Tape:
    """Run `model` once on `image` and return the tape of its operations.

    The model stays as it is: none of its hooks, flags, weights, buffers or attributes changes, even when it fails.

    Args:
        image: (1, C, samples..), floating; the model gets a copy of it.
        keepers: for each operation, how to keep what its rules need.
        keep: places, or names of modules, whose outputs the tape keeps. Or a function that says of which operations it keeps
            the outputs, as places are not known before the model has run.
        call: runs the model on the image, if it has other arguments too; None: `model(image)`.
        own: keepers of the user's own rules.
        others: those other arguments, which also stay as they are.

    Raises:
        ModelError: the model is in training mode with batch norm or dropout active, draws random
            numbers, is compiled to TorchScript, or has weights without values.
        NonFinite: the image, or an output on the way, holds NaN or infinity; the first is named.
    """
    refuse_unready(model)
    if not torch.isfinite(image).all():
        raise NonFinite("record: the image holds NaN or infinite values. Check how it was read and normalised.")
    with torch.inference_mode(False), untouched(model, others) as guard:
        recorder = Recorder(model, keepers, keep, own or {}, guard)
        copy = image.detach().clone()  # which the model may overwrite
        value = recorder.begin(copy)
        # Gradients are on, so that blocks of the model that turn them off can be recognised. We run below autograd, so that
        # no graph is built.
        with (
            recorder.following(),
            full_precision(copy.device),
            watched_functions(recorder.run_function),
            torch.enable_grad(),
            torch._C._AutoDispatchBelowAutograd(),
            recorder,
            ReplacedFunctions(),
        ):
            returned = (call or model)(copy)
        with torch.no_grad():
            recorder.doubt_stale(tree_leaves(returned), "the model's result")
            returns = outputs(returned)
            recorder.name_outputs(returns)
            tape = recorder.finish(image.detach().clone(), value)
            return replace(
                tape, vectors={name: tensor.detach().clone() for name, tensor in returns.items() if _is_vector(tensor)}
            )


def _is_vector(tensor: Tensor) -> bool:
    """Whether a tensor is a row of numbers, (1, K) or with more axes of one sample."""
    return tensor.is_floating_point() and tensor.ndim > 1 and tensor.shape[1] > 1 and tensor.numel() == tensor.shape[1]


def outputs(returned: Any) -> dict[str, Tensor]:
    """Return the tensors that a model returned, by the names of their places."""
    tensors = {}
    for path, tensor in tree_flatten_with_path(returned)[0]:
        if isinstance(tensor, Tensor):
            tensors[".".join(["output", *(str(_key(key)) for key in path)])] = tensor
    return tensors


def _key(key: Any) -> Any:
    return next((getattr(key, kind) for kind in ("key", "idx", "name") if hasattr(key, kind)), key)


_KINDS = {
    "torch.jit._script.ScriptModule": (
        "is compiled to TorchScript, whose interpreter bypasses the modules and may fuse operations: nothing has a name",
        "Pass the nn.Module that it was compiled from.",
    ),
    "torch.distributed.fsdp": (
        "is sharded over processes (FSDP), so that no process has all weights",
        "Gather them with torch.distributed.checkpoint.state_dict.get_model_state_dict(model, "
        "options=StateDictOptions(full_state_dict=True)), load them into a new module, and pass that.",
    ),
    **{
        f"torch.ao.nn.{kind}.modules": (
            "is quantised: it computes in integers, which have no gradient",
            "Pass the network of floating-point numbers that it was converted from.",
        )
        for kind in ("quantized", "intrinsic.quantized")
    },
}
"""Kinds of modules that cannot be recorded, by the start of their class's full name: why, and what to do."""


def _refuse_weight(name: str, tensor: Tensor) -> None:
    """Refuse a weight that has no values, or only some of them."""
    if is_lazy(tensor):
        raise ModelError(
            f"record: {name} has no values yet, as its lazy module has not run on an input, but weights are needed. "
            "Run the model once on an image, or load its weights, before you pass it to unconv."
        )
    if tensor.device.type == "meta":
        raise ModelError(
            f"record: {name} is on the meta device and has no values, but weights are needed. "
            'Move the model with model.to_empty(device="cpu"), and load its weights.'
        )
    if type(tensor).__name__ == "DTensor" or hasattr(tensor, "placements"):
        words, remedy = _KINDS["torch.distributed.fsdp"]
        raise ModelError(f"record: {name} {words}. {remedy}")


def _refuse_kind(name: str, module: nn.Module) -> None:
    """Refuse a module whose operations cannot be recorded, or have no gradient.

    Dynamically quantised layers pass: they are usually the head, and places before them can be projected.
    """
    names = [f"{base.__module__}.{base.__name__}" for base in type(module).__mro__]
    for kind, (words, remedy) in _KINDS.items():
        if any(base.startswith(kind) for base in names) and not names[0].startswith("torch.ao.nn.quantized.dynamic"):
            raise ModelError(f"record: {name or 'the model'} {words}. {remedy}")


def refuse_unready(model: nn.Module) -> None:
    """Refuse a model that cannot be recorded faithfully, before it runs.

    Raises:
        ModelError: see `record`.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        _refuse_weight(name, tensor)
    for name, module in model.named_modules():
        _refuse_kind(name, module)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            why = "in training mode" if module.training else "without running statistics"
            raise ModelError(
                f"record: the batch norm {name} is {why}, so that one picture changes the maps of another. "
                + ("Call model.eval() first." if module.training else "Train it with track_running_stats=True.")
            )
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p > 0:
            raise ModelError(f"record: the dropout {name} is in training mode. Call model.eval() first.")
