"""Find the network in a checkpoint: under which keys its weights lie, behind which prefix, and what lies beside them.

Trainings save more than a network's weights, each in its own way. Here is the one list of their words. Whatever is taken off
makes all keys of the network fit, and is told.

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

from unconv.networks.model_files import shown
from unconv.networks.stored import Stored
from unconv.networks.torch_files import DEEPEST

AVERAGES = (
    *("params_ema", "state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "model_ema_state_dict", "net_g_ema", "g_ema"),
    *("ema", "module_ema", "network_ema", "swa_model", "averaged_model", "teacher", "teacher_model", "target_encoder"),
)
"""Keys of weights that were averaged over a training, which are the better ones; in the order in which they are taken."""

TRAINED = (
    *("state_dict", "model_state_dict", "model_state", "model_weights", "net_state_dict", "weights", "params", "best_model"),
    *("model", "module", "net", "network", "_model", "base_model", "student", "student_model", "online_encoder", "encoder_q"),
    *("backbone", "encoder", "image_encoder", "visual", "trunk", "body", "cnn", "net_g", "generator", "classifier", "model_q"),
    *("encoder_k", "momentum_encoder", "netG", "netD", "net_d", "discriminator"),
)
"""Keys of other weights, and names of modules that a network stands in; in the order in which they are taken."""

_MOST_DICTIONARIES, _MOST_PREFIXES = 2_000, 32  # that are looked at; an optimizer has a dictionary for each weight

_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # torch's own, anywhere in a name
_COUNTER = "num_batches_tracked"  # of a batch norm; torch has it since 0.4.1
_OF_TRAINING = ("total_ops", "total_params", "n_averaged", "queue", "queue_ptr")  # tensors that no forward pass reads
# `weight_norm` and `spectral_norm` have two forms, of which torch 2 has both.
_NORMALISED = re.compile(r"\bparametrizations\.(\w+)\.(original0|original1|original|0\._u|0\._v)$")
_OLDER = {"original0": "_g", "original1": "_v", "original": "_orig", "0._u": "_u", "0._v": "_v"}


@dataclass(frozen=True)
class Fit:
    """How a network's weights lie in a file.

    Args:
        names: of each of the network's keys, that in the state dict; counters of batches may all be absent.
        state: the state dict.
        path: the keys that lead to it.
        prefix: what stands before every name.
        missing, misshapen: keys of the network that the state dict lacks, or has in another shape.
        widths: layers whose outputs are as many as the file says, with that number: the classifiers.
        unexpected: keys in the state dict that the network should have and does not.
        others: keys of modules beside the network.
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
    def whole(self) -> bool:
        """Whether every weight of the network is there, and nothing that it should have more."""
        return bool(self.names) and not (self.missing or self.misshapen or self.unexpected)

    @property
    def rank(self) -> tuple[Any, ...]:
        """Where it stands among several that are whole: the smallest is taken."""
        words = (*self.path, *self.prefix.split(".")[:-1])
        order = (*AVERAGES, *TRAINED)
        ranks = tuple(order.index(word) if word in order else len(order) for word in words)
        return bool(self.widths), not any(word in AVERAGES for word in words), ranks

    @property
    def differing(self) -> tuple[str, ...]:
        """The modules, of the network's outermost, that do not fit."""
        keys = [*self.missing, *self.misshapen, *(key.removeprefix(self.prefix) for key in self.unexpected)]
        return tuple(dict.fromkeys(_plain(key).partition(".")[0] for key in keys))

    @property
    def label(self) -> str:
        """What it is called in a message; "" if it is the whole file."""
        path = ".".join(map(shown, self.path))
        return " behind ".join(part for part in (path, shown(self.prefix[:-1]) if self.prefix else "") if part)


def fits(found: Any, wanted: Mapping[str, Tensor], module: nn.Module) -> list[Fit]:
    """Return the ways in which a file's state dicts fit a network, best first; if none does, the nearest.

    Args:
        found: what the file holds; dictionaries in dictionaries.
        wanted: the network's own tensors.
    """
    held = list(state_dicts(found))
    large = [(path, state) for path, state in held if 2 * len(state) >= len(wanted)]  # an optimizer's are many, and small
    tried = [
        _fit(path, prefix, state, wanted, module)
        for path, state in large or held
        for prefix in _prefixes({_plain(key): key for key in state}, wanted)
    ]
    whole = [fit for fit in tried if fit.whole]
    plain = [fit for fit in whole if not fit.path and not fit.prefix and not fit.widths]
    return plain or sorted(whole, key=lambda fit: fit.rank) or sorted(tried, key=_faults)[:1]


def _faults(fit: Fit) -> tuple[int, int]:
    return len(fit.missing) + len(fit.misshapen), len(fit.unexpected) + len(fit.others)


def state_dicts(found: Any) -> Iterator[tuple[tuple[str, ...], dict[str, Stored]]]:
    """Yield the dictionaries of tensors in what a file holds, with the keys that lead to each."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), found)]
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
    """Return a name without the wrappers that torch puts into it; of a normalised weight, the older of torch's two."""
    if "parametrizations." in key:
        key = _NORMALISED.sub(lambda match: match[1] + _OLDER[match[2]], key)
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS) if "_" in key else key


def _prefixes(names: Mapping[str, str], wanted: Mapping[str, Tensor]) -> list[str]:
    """Return what may stand before all of the network's names: words of the list, or what most of the file's names have."""
    anchor = next((_plain(key) for key in wanted if not key.endswith(_COUNTER)), None)
    if anchor is None:
        return [""]
    found = [name.removesuffix(anchor) for name in names if name.endswith(f".{anchor}")]
    known, ordered = {*AVERAGES, *TRAINED}, sorted(names)
    taken = [p for p in found if known.issuperset(p.split(".")[:-1]) or _share(p, ordered) > 0.5]
    return ["", *taken[:_MOST_PREFIXES]]


def _share(prefix: str, ordered: Sequence[str]) -> float:
    """Return the share of sorted names that begin with a prefix, which ends with a dot."""
    end = f"{prefix[:-1]}/"  # what comes next to a dot
    return (bisect_left(ordered, end) - bisect_left(ordered, prefix)) / len(ordered)


def _fit(
    path: tuple[str, ...], prefix: str, state: Mapping[str, Stored], wanted: Mapping[str, Tensor], module: nn.Module
) -> Fit:
    keys = {_plain(key): key for key in state}
    names = {key: keys[prefix + _plain(key)] for key in wanted if prefix + _plain(key) in keys}
    other = [key for key, name in names.items() if state[name].shape != tuple(wanted[key].shape) and state[name].extent]
    widths = _widths(other, {key: state[names[key]].shape for key in other}, wanted, module)
    # Names left over in the network's own modules mean another architecture; others belong to modules beside it.
    roots = {_plain(key).partition(".")[0] for key in wanted}
    rest = {
        key: name for name, key in keys.items() if key not in names.values() and name.rpartition(".")[2] not in _OF_TRAINING
    }
    counted = any(key.endswith(_COUNTER) for key in state)
    own = [key for key, name in rest.items() if _belongs(name, prefix, roots)]
    return Fit(
        names=names,
        state=state,
        path=path,
        prefix=prefix,
        missing=tuple(key for key in wanted if key not in names and (counted or not key.endswith(_COUNTER))),
        misshapen=() if widths else tuple(other),
        widths=widths,
        unexpected=tuple(own),
        others=tuple(key for key in rest if key not in own),
    )


def _belongs(name: str, prefix: str, roots: set[str]) -> bool:
    """Whether a name that the network lacks is one of its own modules': a deeper network of the kind has such names."""
    if not name.startswith(prefix):
        return False
    root, dot, _ = name.removeprefix(prefix).partition(".")
    return not dot or root in roots or (root.isdigit() and any(known.isdigit() for known in roots))


def _widths(
    keys: list[str], shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, Tensor], module: nn.Module
) -> dict[str, int]:
    """Return the layers that alone make `keys` misfit, with the outputs that the file has for them; {} if it is not so.

    Nothing reads the outputs of such a layer, or a weight after it would not fit either.
    """
    layers = dict.fromkeys(key.rpartition(".")[0] for key in keys)
    changes = {(tuple(wanted[key].shape)[:1], shapes[key][:1]) for key in keys}
    if len(changes) != 1 or any(tuple(wanted[key].shape)[1:] != shapes[key][1:] or not shapes[key][0:1] for key in keys):
        return {}
    for name in layers:
        layer = module.get_submodule(name)
        own = {f"{name}.{key}" if name else key for key, value in layer.named_parameters(recurse=False)}
        classifies = isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) and getattr(layer, "groups", 1) == 1
        if not name or not classifies or own != {key for key in keys if key.rpartition(".")[0] == name}:
            return {}
    return dict.fromkeys(layers, shapes[keys[0]][0])


def widen(module: nn.Module, widths: Mapping[str, int]) -> None:
    """Give layers as many outputs as are said; their weights are to be loaded afterwards."""
    for name, width in widths.items():
        layer: Any = module.get_submodule(name)
        for key, value in list(layer.named_parameters(recurse=False)):
            setattr(layer, key, nn.Parameter(value.new_empty((width, *value.shape[1:])), value.requires_grad))
        setattr(layer, "out_features" if isinstance(layer, nn.Linear) else "out_channels", width)


def told(path: Path, fit: Fit) -> str:
    """Return where weights came from, in a few words: the file, and what of it."""
    parts = [
        *([f"its {'.'.join(map(shown, fit.path))}"] if fit.path else []),
        *([f"without the prefix {shown(fit.prefix)}"] if fit.prefix else []),
        *(f"{shown(name)} with {width:,} outputs" for name, width in fit.widths.items()),
        *([f"{len(fit.others):,} other tensor{'s' * (len(fit.others) > 1)} left out"] if fit.others else []),
    ]
    return f"{path.name} ({', '.join(parts)})" if parts else path.name


def notes(path: Path, found: Sequence[Fit], wanted: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return what was done so that weights fit, in sentences."""
    fit, *rest = found
    file, said = shown(path.name), []
    if rest and (label := fit.label):
        why = "an average over the training" if not fit.rank[1] else "the first in unconv's order"
        said.append(f"of the weights in {file} that fit, {label} was taken, {why}, and not {listed([f.label for f in rest])}.")
    if fit.prefix:
        said.append(f"the prefix {shown(fit.prefix)} was taken off the names in {file}.")
    if fit.widths:
        layers, width = listed(list(map(shown, fit.widths))), next(iter(fit.widths.values()))
        before = len(wanted[next(key for key in wanted if key.rpartition(".")[0] in fit.widths)])
        said.append(
            f"the classifier {layers} has {width:,} outputs, as in {file}, and not {before:,}; their names are unknown."
        )
    if fit.others:
        counts = Counter(key.removeprefix(fit.prefix).partition(".")[0] for key in fit.others)
        modules = listed([f"{shown(name)} ({count:,})" for name, count in counts.items()])
        said.append(f"tensors of modules that the network does not have were left out of {file}: {modules}.")
    return tuple(said)


def listed(words: Sequence[str]) -> str:
    """Return the first three of some words."""
    return f"{', '.join(words[:3])}{f' and {len(words) - 3} more' if len(words) > 3 else ''}"
