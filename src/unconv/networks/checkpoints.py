"""Find a network's weights in a checkpoint: the keys that lead to them, a prefix of their names, and what else is there.

Training programs save more than a network's weights, each in its own way. This is the one list of the keys they use. A prefix
is removed only if all keys of the network then fit, and the result says so.

Source:
    timm 1.0 (`clean_state_dict`, `state_dict_ema`), Lightning 2.6, MMEngine 0.10, DINO, MoCo, BasicSR 1.4 (`params_ema`),
    YOLOX, `torch.compile`, DataParallel and `torch.optim.swa_utils.AveragedModel` of torch 2.6 to 2.14.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from unconv.errors import counted
from unconv.networks.model_files import shown
from unconv.networks.stored import Stored
from unconv.networks.torch_files import DEEPEST

AVERAGES = (
    *("params_ema", "state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "model_ema_state_dict", "net_g_ema", "g_ema"),
    *("ema", "module_ema", "network_ema", "swa_model", "averaged_model", "teacher", "teacher_model", "target_encoder"),
)
"""Keys of weights averaged over a training, which are preferred; in order of preference."""

TRAINED = (
    *("state_dict", "model_state_dict", "model_state", "model_weights", "net_state_dict", "weights", "params", "best_model"),
    *("model", "module", "net", "network", "_model", "base_model", "student", "student_model", "online_encoder", "encoder_q"),
    *("backbone", "encoder", "image_encoder", "visual", "trunk", "body", "cnn", "net_g", "generator", "classifier", "model_q"),
    *("encoder_k", "momentum_encoder", "netG", "netD", "net_d", "discriminator"),
)
"""Keys of other weights, and names of modules that contain a network; in order of preference."""

_MOST_DICTIONARIES, _MOST_PREFIXES = 2_000, 32  # searched at most; an optimizer has a dictionary for each weight

_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # torch's own, anywhere in a name
_COUNTER = "num_batches_tracked"  # of a batch norm; torch has it since 0.4.1
_OF_TRAINING = ("total_ops", "total_params", "n_averaged", "queue", "queue_ptr")  # tensors that no forward pass reads
# `weight_norm` and `spectral_norm` name their tensors in two ways; torch 2 still has both.
_NORMALISED = re.compile(r"\bparametrizations\.(\w+)\.(original0|original1|original|0\._u|0\._v)$")
_OLDER = {"original0": "_g", "original1": "_v", "original": "_orig", "0._u": "_u", "0._v": "_v"}


@dataclass(frozen=True)
class Fit:
    """How a state dict in a file fits a network.

    Args:
        names: the state dict's key for each of the network's keys; the counters of batches may all be missing.
        state: the state dict.
        path: the keys that lead to it.
        prefix: the beginning that all its names share.
        missing, misshapen: keys of the network that the state dict lacks, or has in another shape.
        widths: classifiers that differ only in their number of outputs, with the file's number.
        unexpected: keys in the state dict that would belong to the network's own modules, but that it does not have.
        others: keys of modules outside the network.
    """

    names: Mapping[str, str]
    state: Mapping[str, Stored]
    path: tuple[str, ...]
    prefix: str
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    widths: Mapping[str, int]
    unexpected: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every weight of the network is there, and nothing unexpected."""
        return bool(self.names) and not (self.missing or self.misshapen or self.unexpected)

    @property
    def rank(self) -> tuple[Any, ...]:
        """The order of preference among complete fits: the smallest is used."""
        words = (*self.path, *self.prefix.split(".")[:-1])
        order = (*AVERAGES, *TRAINED)
        ranks = tuple(order.index(word) if word in order else len(order) for word in words)
        return bool(self.widths), not any(word in AVERAGES for word in words), ranks

    @property
    def differing(self) -> tuple[str, ...]:
        """The outermost modules of the network that do not fit."""
        keys = [*self.missing, *self.misshapen, *(key.removeprefix(self.prefix) for key in self.unexpected)]
        return tuple(dict.fromkeys(_plain(key).partition(".")[0] for key in keys))

    @property
    def label(self) -> str:
        """Its name in a message; "" if it is the entire file."""
        path = ".".join(map(shown, self.path))
        return " behind ".join(part for part in (path, shown(self.prefix[:-1]) if self.prefix else "") if part)


def fits(content: Any, target: Mapping[str, Tensor], module: nn.Module) -> list[Fit]:
    """Return the ways in which a file's state dicts fit a network, best first; if none fits, the closest.

    Args:
        content: the file's content, nested dictionaries.
        target: the network's own tensors.
    """
    dictionaries = list(state_dicts(content))
    # An optimizer has many small dictionaries, and none of them can be the network.
    large = [(path, state) for path, state in dictionaries if 2 * len(state) >= len(target)]
    candidates = [
        _fit(path, prefix, state, target, module)
        for path, state in large or dictionaries
        for prefix in _prefixes({_plain(key): key for key in state}, target)
    ]
    complete = [fit for fit in candidates if fit.complete]
    direct = [fit for fit in complete if not fit.path and not fit.prefix and not fit.widths]
    return direct or sorted(complete, key=lambda fit: fit.rank) or sorted(candidates, key=_faults)[:1]


def _faults(fit: Fit) -> tuple[int, int]:
    return len(fit.missing) + len(fit.misshapen), len(fit.unexpected) + len(fit.others)


def state_dicts(content: Any) -> Iterator[tuple[tuple[str, ...], dict[str, Stored]]]:
    """Yield the dictionaries of tensors in a file's content, each with the keys that lead to it."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), content)]
    seen = set[int]()
    for path, part in waiting:
        if not isinstance(part, dict) or id(part) in seen or len(seen) >= _MOST_DICTIONARIES:
            continue
        seen.add(id(part))
        tensors = {key: value for key, value in part.items() if isinstance(value, Stored)}
        if tensors and all(isinstance(key, str | int) for key in tensors):
            yield path, {str(key): value for key, value in tensors.items()}
        if len(path) < DEEPEST:
            waiting += [((*path, str(key)), value) for key, value in part.items() if isinstance(value, dict)]


def _plain(key: str) -> str:
    """Return a name without torch's wrappers; a normalised weight gets the older of its two names."""
    if "parametrizations." in key:
        key = _NORMALISED.sub(lambda match: match[1] + _OLDER[match[2]], key)
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS) if "_" in key else key


def _prefixes(names: Mapping[str, str], target: Mapping[str, Tensor]) -> list[str]:
    """Return the prefixes that may precede all names: words from the lists, or one that most of the file's names have."""
    # One weight of the network suffices to find all prefixes: in every state dict that fits, its name ends one key.
    anchor = next((_plain(key) for key in target if not key.endswith(_COUNTER)), None)
    if anchor is None:
        return [""]
    prefixes = [name.removesuffix(anchor) for name in names if name.endswith(f".{anchor}")]
    words, ordered = {*AVERAGES, *TRAINED}, sorted(names)
    plausible = [p for p in prefixes if words.issuperset(p.split(".")[:-1]) or _share(p, ordered) > 0.5]
    return ["", *plausible[:_MOST_PREFIXES]]


def _share(prefix: str, ordered: Sequence[str]) -> float:
    """Return the share of sorted names that begin with a prefix, which ends with a dot."""
    end = f"{prefix[:-1]}/"  # "/" is the character after "."
    return (bisect_left(ordered, end) - bisect_left(ordered, prefix)) / len(ordered)


def _fit(
    path: tuple[str, ...], prefix: str, state: Mapping[str, Stored], target: Mapping[str, Tensor], module: nn.Module
) -> Fit:
    keys = {_plain(key): key for key in state}
    names = {key: keys[prefix + _plain(key)] for key in target if prefix + _plain(key) in keys}
    misshapen = [key for key, name in names.items() if state[name].shape != tuple(target[key].shape) and state[name].extent]
    widths = _widths(misshapen, {key: state[names[key]].shape for key in misshapen}, target, module)
    # Names left over in the network's own modules mean another architecture; the others belong to modules outside it.
    roots = {_plain(key).partition(".")[0] for key in target}
    rest = {
        key: name for name, key in keys.items() if key not in names.values() and name.rpartition(".")[2] not in _OF_TRAINING
    }
    # Files of torch before 0.4.1 have no counters of batches at all; a file that has some must have all.
    has_counters = any(key.endswith(_COUNTER) for key in state)
    unexpected = [key for key, name in rest.items() if _belongs(name, prefix, roots)]
    return Fit(
        names=names,
        state=state,
        path=path,
        prefix=prefix,
        missing=tuple(key for key in target if key not in names and (has_counters or not key.endswith(_COUNTER))),
        misshapen=() if widths else tuple(misshapen),
        widths=widths,
        unexpected=tuple(unexpected),
        others=tuple(key for key in rest if key not in unexpected),
    )


def _belongs(name: str, prefix: str, roots: set[str]) -> bool:
    """Whether a name that the network lacks would be in its own modules, as in a deeper network of its kind."""
    if not name.startswith(prefix):
        return False
    root, dot, _ = name.removeprefix(prefix).partition(".")
    return not dot or root in roots or (root.isdigit() and any(known.isdigit() for known in roots))


def _widths(
    keys: list[str], shapes: Mapping[str, tuple[int, ...]], target: Mapping[str, Tensor], module: nn.Module
) -> dict[str, int]:
    """Return the classifiers that explain all misshapen `keys`, with the file's number of outputs; {} if none do.

    No layer reads the outputs of such a classifier, or that layer's weight would not fit either.
    """
    layers = dict.fromkeys(key.rpartition(".")[0] for key in keys)
    changes = {(tuple(target[key].shape)[:1], shapes[key][:1]) for key in keys}
    if len(changes) != 1 or any(tuple(target[key].shape)[1:] != shapes[key][1:] or not shapes[key][0:1] for key in keys):
        return {}
    for name in layers:
        layer = module.get_submodule(name)
        own = {f"{name}.{key}" if name else key for key, value in layer.named_parameters(recurse=False)}
        classifies = isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) and getattr(layer, "groups", 1) == 1
        if not name or not classifies or own != {key for key in keys if key.rpartition(".")[0] == name}:
            return {}
    return dict.fromkeys(layers, shapes[keys[0]][0])


def widen(module: nn.Module, widths: Mapping[str, int]) -> None:
    """Set the number of outputs of layers; their new weights are uninitialised and must be loaded afterwards."""
    for name, width in widths.items():
        layer: Any = module.get_submodule(name)
        for key, value in list(layer.named_parameters(recurse=False)):
            setattr(layer, key, nn.Parameter(value.new_empty((width, *value.shape[1:])), value.requires_grad))
        setattr(layer, "out_features" if isinstance(layer, nn.Linear) else "out_channels", width)


def origin_words(path: Path, fit: Fit) -> str:
    """Return where weights came from, in a few words: the file, and which part of it."""
    parts = [
        *([f"its {'.'.join(map(shown, fit.path))}"] if fit.path else []),
        *([f"without the prefix {shown(fit.prefix)}"] if fit.prefix else []),
        *(f"{shown(name)} with {counted(width, 'output')}" for name, width in fit.widths.items()),
        *([f"{counted(len(fit.others), 'other tensor')} left out"] if fit.others else []),
    ]
    return f"{path.name} ({', '.join(parts)})" if parts else path.name


def notes(path: Path, candidates: Sequence[Fit], target: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return in sentences what was done so that the weights fit."""
    fit, *rest = candidates
    file, sentences = shown(path.name), []
    # A state dict that is the entire file has no label, and was not chosen among others.
    if rest and (label := fit.label):
        why = "an average over the training" if not fit.rank[1] else "the first in unconv's order"
        others = first_three([other.label for other in rest])
        sentences.append(f"several sets of weights in {file} fit: used {label}, {why}, instead of {others}.")
    if fit.prefix:
        sentences.append(f"the prefix {shown(fit.prefix)} was removed from the names in {file}.")
    if fit.widths:
        layers, width = first_three(list(map(shown, fit.widths))), next(iter(fit.widths.values()))
        before = len(target[next(key for key in target if key.rpartition(".")[0] in fit.widths)])
        sentences.append(
            f"the classifier {layers} has {counted(width, 'output')}, as in {file}, instead of {before:,}; "
            "the names of its classes are unknown."
        )
    if fit.others:
        counts = Counter(key.removeprefix(fit.prefix).partition(".")[0] for key in fit.others)
        modules = first_three([f"{shown(name)} ({count:,})" for name, count in counts.items()])
        sentences.append(f"tensors in {file} that belong to no module of the network were left out: {modules}.")
    return tuple(sentences)


def first_three(words: Sequence[str]) -> str:
    """Return the first three words and the number of the others, for a message."""
    return f"{', '.join(words[:3])}{f' and {len(words) - 3} more' if len(words) > 3 else ''}"
