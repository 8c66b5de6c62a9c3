"""Is the gradient method autograd on any network? Random graphs of modules, in float64, a few units of each.

    python benchmarks/fuzz_networks.py --networks 20000 --seed 0

Every projection must equal autograd to 1e-10 or be refused by an error of ours; nothing may require a gradient, what is
computed under the recording must be what is computed without it, and the network must be as it was. What fails is printed
as a program, with the statements that do not matter taken out.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unconv
from unconv.reverse.laws import make_gradients_contiguous

_LIMIT = 1e-10
_SHAPE = (2, 5, 4)


class Round(torch.autograd.Function):
    """A straight-through estimator."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Reversal(torch.autograd.Function):
    """The gradient's negative; the signal itself, not a copy."""

    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Identity(torch.autograd.Function):
    """Changes nothing on either way."""

    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Swish(torch.autograd.Function):
    """Saves memory; its backward pass is the derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return gradient * s * (1 + x * (1 - s))


class Squash(torch.autograd.Function):
    """The newer form, which saves what it returns."""

    @staticmethod
    def forward(x, scale):
        return torch.tanh(x) * scale

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.scale = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient * (1 - (y / ctx.scale) ** 2) * ctx.scale, None


class Doubled(torch.autograd.Function):
    """Writes in place, and tells so; the backward pass forgets the factor."""

    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Pair(torch.autograd.Function):
    """Two arguments, two results, the right derivative."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y, x + y

    @staticmethod
    def backward(ctx, a, b):
        x, y = ctx.saved_tensors
        return a * y + b, a * x + b


def _channels(m: Statement, make: Callable[[int], nn.Module]) -> Callable[[Tensor], Tensor]:
    """Return a layer made for the channels of what comes first."""

    def run(x: Tensor) -> Tensor:
        if not hasattr(m, "layer"):
            torch.manual_seed(m.seed)
            m.layer = make(x.shape[1]).double().eval()
            for tensor in (*m.layer.parameters(), *m.layer.buffers()):
                if tensor.is_floating_point():
                    tensor.data = torch.rand_like(tensor) + 0.5 if tensor.ndim == 1 else torch.randn_like(tensor) * 0.4
        return m.layer(x)

    return run


def _index(m: Statement, n: int, count: int = 2) -> Tensor:
    return torch.tensor([(m.seed + k * 3) % n for k in range(count)])


def _mask(m: Statement, x: Tensor) -> Tensor:
    return (torch.arange(x.numel()) * (m.seed % 7 + 2) % 3 == 0).view(x.shape)


def _without(kind: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    with kind():
        return function(x)


def _out(x: Tensor, y: Tensor, function: Callable[..., Any]) -> Tensor:
    result = torch.empty_like(x)
    function(x, y, out=result)
    return result


def _wrote(x: Tensor, write: Callable[[Tensor], Any]) -> Tensor:
    write(x)
    return x


def _buffered(m: Statement, x: Tensor, use: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    return use(m.memory, x.mean((0, 2, 3))[:1])


def _remembered(m: Statement, x: Tensor) -> Tensor:
    m.count += 1
    m.past.append(x)
    m.last = x * m.count
    return m.last


def _averaged(memory: Tensor, mean: Tensor) -> None:
    memory.mul_(0.9).add_(mean.detach() * 0.1)


def _moved(m: Statement, x: Tensor) -> Tensor:
    _buffered(m, x, _averaged)
    return x - m.memory.clone()


def _twice(x: Tensor, first: Callable[[Tensor], Any]) -> Tensor:
    result = x * 2
    first(result)
    return result


# Each of a statement and its arguments, (1, C, H, W); a tuple for several results.
Kind = Callable[..., Any]

PLAIN: dict[str, Kind] = {
    "conv": lambda m, x: _channels(m, lambda c: nn.Conv2d(c, 3, 3, padding=1))(x),
    "conv strided": lambda m, x: _channels(m, lambda c: nn.Conv2d(c, 2, 2, 2, 1))(x),
    "conv transposed": lambda m, x: _channels(m, lambda c: nn.ConvTranspose2d(c, 2, 2))(x),
    "weight norm": lambda m, x: _channels(m, lambda c: nn.utils.parametrizations.weight_norm(nn.Conv2d(c, 2, 1)))(x),
    "spectral norm": lambda m, x: _channels(m, lambda c: nn.utils.parametrizations.spectral_norm(nn.Conv2d(c, 2, 1)))(x),
    "old spectral norm": lambda m, x: _channels(m, lambda c: nn.utils.spectral_norm(nn.Conv2d(c, 2, 1)))(x),
    "batch norm": lambda m, x: _channels(m, nn.BatchNorm2d)(x),
    "group norm": lambda m, x: _channels(m, lambda c: nn.GroupNorm(1, c))(x),
    "instance norm": lambda m, x: _channels(m, lambda c: nn.InstanceNorm2d(c, affine=True))(x),
    "channel norm": lambda m, x: _last(m, x),
    "prelu": lambda m, x: _channels(m, nn.PReLU)(x),
    "dropout": lambda m, x: _channels(m, lambda c: nn.Dropout(0.5))(x),
    "relu": lambda m, x: F.relu(x),
    "silu": lambda m, x: F.silu(x),
    "gelu": lambda m, x: F.gelu(x),
    "elu": lambda m, x: F.elu(x),
    "sigmoid": lambda m, x: torch.sigmoid(x),
    "softmax": lambda m, x: x.softmax(1),
    "abs": lambda m, x: x.abs() + 0.1 * x,
    "norm": lambda m, x: x / (x.norm(dim=1, keepdim=True) + 1),
    "max pool": lambda m, x: F.max_pool2d(x, 3, 2, 1),
    "max pool apart": lambda m, x: F.max_pool2d(x, 2),
    "average pool": lambda m, x: F.avg_pool2d(x, 2, 1),
    "adaptive pool": lambda m, x: F.adaptive_avg_pool2d(x, (3, 2)),
    "adaptive max pool": lambda m, x: F.adaptive_max_pool2d(x, (2, 2)),
    "unpool": lambda m, x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
    "nearest": lambda m, x: F.interpolate(x, scale_factor=1.1 + m.seed % 5 / 7),
    "nearest exact": lambda m, x: F.interpolate(x, scale_factor=1.3, mode="nearest-exact"),
    "bilinear": lambda m, x: F.interpolate(x, scale_factor=1.3, mode="bilinear", recompute_scale_factor=m.seed % 2 == 0),
    "bicubic": lambda m, x: F.interpolate(x, size=(5, 6), mode="bicubic", align_corners=True),
    "pixel shuffle": lambda m, x: F.pixel_shuffle(torch.cat([x] * 4, 1), 2)[:, :, ::2, ::2],
    "flip": lambda m, x: x.flip(2),
    "roll": lambda m, x: x.roll(1, 3),
    "pad": lambda m, x: F.pad(x, (1, 0, 1, 2), ["constant", "reflect", "replicate", "circular"][m.seed % 4]),
    "turn": lambda m, x: x.transpose(2, 3),
    "channels last": lambda m, x: x.contiguous(memory_format=torch.channels_last),
    "linear": lambda m, x: F.linear(x, torch.linspace(-1, 1, x.shape[3] * 4, dtype=x.dtype).view(4, -1)),
    "einsum": lambda m, x: torch.einsum("nchw,kc->nkhw", x, torch.linspace(-1, 1, x.shape[1] * 2, dtype=x.dtype).view(2, -1)),
    "attention": lambda m, x: x @ (x.mT @ x).softmax(-1),
    "scale": lambda m, x: x * torch.linspace(-1, 2, x.shape[1], dtype=x.dtype).view(-1, 1, 1),
    "clamp": lambda m, x: x.clamp(-0.6, 0.7),
    "cumsum": lambda m, x: x.cumsum(3),
    "statistics": lambda m, x: x - x.mean((2, 3), keepdim=True) + x.var(1, keepdim=True),
    "extremes": lambda m, x: x.amax(1, keepdim=True) - x.min(3, keepdim=True)[0],
    "sort": lambda m, x: x.sort(1)[0],
    "picked": lambda m, x: x[:, _index(m, x.shape[1])],
    "picked rows": lambda m, x: x.index_select(2, _index(m, x.shape[2], 3)),
    "gather": lambda m, x: x.gather(3, x.argsort(3)),
    "narrow": lambda m, x: x[:, :, 1:, ::2],
    "chunk": lambda m, x: x.chunk(2, 2)[m.seed % 2],
    "split": lambda m, x: tuple(x.split([1, x.shape[2] - 1], 2)),
    "unbind": lambda m, x: torch.stack(x.unbind(1)[::-1], 1),
    "unfold": lambda m, x: x.unfold(2, 2, 1).sum(-1),
    "patches": lambda m, x: F.fold(F.unfold(x, 2), x.shape[2:], 2),
    "strided": lambda m, x: x.contiguous().as_strided((1, x.shape[1], 2, 2), (1, x.shape[2] * x.shape[3], 1, 1)),
    "expand": lambda m, x: x[:, :1].expand(-1, 3, -1, -1) * torch.arange(3.0, dtype=x.dtype).view(3, 1, 1),
    "complex": lambda m, x: torch.fft.ifft2(torch.fft.fft2(x) * 2).real,
    "to and fro": lambda m, x: x.to(torch.float64, copy=True),
    "index add": lambda m, x: x.index_add(2, _index(m, x.shape[2]), x[:, :, :2] * 2),
    "index copy": lambda m, x: x.index_copy(3, _index(m, x.shape[3]).unique(), x[..., : len(_index(m, x.shape[3]).unique())]),
    "index put": lambda m, x: x.index_put((torch.zeros(1, dtype=torch.long), _index(m, x.shape[1], 1)), x[:, 0] * 2),
    "index fill": lambda m, x: x.index_fill(2, _index(m, x.shape[2]), 0.5),
    "scatter": lambda m, x: x.scatter(2, x.argsort(2)[:, :, :1], 0.25),
    "scatter of a part": lambda m, x: x.scatter(2, x.argsort(2)[:, :1, :1], x.flip(2)),
    "scatter add": lambda m, x: x.scatter_add(3, x.argsort(3), x * 3),
    "masked fill": lambda m, x: x.masked_fill(_mask(m, x), 0.3),
    "masked fill by itself": lambda m, x: x.masked_fill(x > 0.2, -1),
    "masked scatter": lambda m, x: x.masked_scatter(_mask(m, x), x * 2),
    "where": lambda m, x: torch.where(x > 0, x * 2, x.flip(3)),
    "where constant": lambda m, x: torch.where(_mask(m, x), x, 0.5),
    "masked": lambda m, x: x * (x > 0.1),
    "item": lambda m, x: x * float(x.mean()),
    "inside": lambda m, x: torch.slice_scatter(x, x[:, :, :1] * 2, 2, 1, 2),
    "double": lambda m, x: x.double(),
    "a whole copy": lambda m, x: x.clone().neg_(),
}
BINARY: dict[str, Kind] = {
    "add": lambda m, x, y: x + y,
    "sub": lambda m, x, y: torch.sub(x, y, alpha=2),
    "mul": lambda m, x, y: x * y,
    "div": lambda m, x, y: x / (y.abs() + 1),
    "maximum": lambda m, x, y: torch.maximum(x, y),
    "gate": lambda m, x, y: x * torch.sigmoid(y),
    "cat": lambda m, x, y: torch.cat([x, y], 1),
    "stack": lambda m, x, y: torch.stack([x, y]).sum(0),
    "addcmul": lambda m, x, y: torch.addcmul(x, x, y, value=0.5),
    "lerp": lambda m, x, y: torch.lerp(x, y, 0.3),
    "where of two": lambda m, x, y: torch.where(x > y, x, y * 2),
    "add in place": lambda m, x, y: x.add_(y),
    "mul in place": lambda m, x, y: (x * 1).mul_(y),
    "copy in place": lambda m, x, y: x.copy_(y),
    "out": lambda m, x, y: _out(x, y, torch.add),
    "mul out": lambda m, x, y: _out(x, y, torch.mul),
    "rows of one in another": lambda m, x, y: _wrote(x, lambda x: x[:, :, :1].copy_(y[:, :, :1])),
    "put together": lambda m, x, y: _wrote(torch.zeros_like(x), lambda z: (z[:, :1].copy_(x[:, :1]), z[:, 1:].add_(y[:, 1:]))),
    "pair": lambda m, x, y: Pair.apply(x, y),
    "foreach": lambda m, x, y: _wrote(x, lambda x: torch._foreach_add_([x], [y])),
}
WRITING: dict[str, Kind] = {
    "relu in place": lambda m, x: F.relu_(x),
    "relu of a copy": lambda m, x: F.relu_(x * 2),
    "leaky in place": lambda m, x: F.leaky_relu_(x),
    "sigmoid in place": lambda m, x: x.sigmoid_(),
    "scale in place": lambda m, x: x.mul_(1.5),
    "clamp in place": lambda m, x: x.clamp_(-0.5, 0.5),
    "zero": lambda m, x: _twice(x, lambda y: y.zero_()),
    "fill": lambda m, x: x.fill_(0.5),
    "masked fill in place": lambda m, x: x.masked_fill_(_mask(m, x), 0.2),
    "index add in place": lambda m, x: x.index_add_(2, _index(m, x.shape[2]), x[:, :, :2].clone()),
    "index put in place": lambda m, x: _twice(x, lambda y: y.__setitem__((slice(None), _index(m, y.shape[1], 1)), 0.5)),
    "scatter in place": lambda m, x: x.scatter_(2, x.argsort(2)[:, :, :1], 0.25),
    "a slice zero": lambda m, x: _wrote(x, lambda x: x[:, :1].zero_()),
    "a slice scaled": lambda m, x: _wrote(x, lambda x: x[:, :, ::2].mul_(2)),
    "a slice assigned": lambda m, x: _wrote(x, lambda x: x.__setitem__((slice(None), slice(None), 0), x[:, :, 1])),
    "a view rectified": lambda m, x: _wrote(x, lambda x: x.flatten(1).relu_()),
    "a view handed on": lambda m, x: x.view(x.shape).relu_(),
    "half rectified": lambda m, x: torch.cat([x.chunk(2, 2)[0].relu_(), x.chunk(2, 2)[1]], 2),
    "a selection written": lambda m, x: _wrote(x, lambda x: x.select(1, 0).add_(1)),
    "a transpose written": lambda m, x: _wrote(x, lambda x: x.mT.mul_(0.5)),
    "a mask by index": lambda m, x: _twice(x, lambda y: y.__setitem__(y > 0.3, 0.0)),
    "data written": lambda m, x: _wrote(x, lambda x: x.data.mul_(2)),
    "squeezed in place": lambda m, x: _twice(x, lambda y: y.unsqueeze_(0).squeeze_(0)),
    "turned in place": lambda m, x: _twice(x, lambda y: y.transpose_(2, 3)),
    "a strided view written": lambda m, x: _wrote(x * 1, lambda y: y.as_strided((2,), (1,)).mul_(3)),
    "resized": lambda m, x: _wrote(x * 1, lambda y: y.resize_(1, 1, 2, 2)),
    "set": lambda m, x: _wrote(x * 1, lambda y: y.set_(x.detach().clone())),
    "doubled, but for the gradient": lambda m, x: Doubled.apply(x * 1),
}
STATE: dict[str, Kind] = {
    "detach": lambda m, x: x.detach(),
    "minus detached": lambda m, x: x - 0.5 * x.detach(),
    "detach in place": lambda m, x: (x * 2).detach_(),
    "data": lambda m, x: x.data * 2 + x,
    "round": lambda m, x: Round.apply(x),
    "reversal": lambda m, x: Reversal.apply(x),
    "reversal beside": lambda m, x: Reversal.apply(x) + x * 2,
    "identity": lambda m, x: Identity.apply(x),
    "swish": lambda m, x: Swish.apply(x),
    "squash": lambda m, x: Squash.apply(x, 1.5),
    "straight through": lambda m, x: x + (x.round() - x).detach(),
    "no grad": lambda m, x: _without(torch.no_grad, x, lambda x: x * 2),
    "size without grad": lambda m, x: x / (_without(torch.no_grad, x, lambda x: x.abs().amax()) + 1),
    "written without grad": lambda m, x: _wrote(x * 1, lambda y: _without(torch.no_grad, y, lambda y: y.mul_(2))),
    "inference mode": lambda m, x: x * _without(torch.inference_mode, x, lambda x: x.abs().mean()).clone(),
    "grad": lambda m, x: _without(torch.enable_grad, x, lambda x: x * 2),
    "no grad, then grad": lambda m, x: _without(torch.no_grad, x, lambda x: _without(torch.enable_grad, x, lambda x: x * 2)),
    "checkpoint": lambda m, x: torch.utils.checkpoint.checkpoint(torch.sigmoid, x, use_reentrant=bool(m.seed % 2)),
    "buffer added": lambda m, x: x + _buffered(m, x, lambda b, mean: b.add_(1)),
    "buffer of the picture": lambda m, x: x + _buffered(m, x, lambda b, mean: b.copy_(mean.detach())),
    "moving average": _moved,
    "remembered": _remembered,
    "replaced buffer": lambda m, x: (setattr(m, "memory", m.memory + 1), x * m.memory)[1],
    "random, refused": lambda m, x: F.dropout(x, 0.5) if m.seed % 9 == 0 else x * 1,
}


def _last(m: Statement, x: Tensor) -> Tensor:
    if not hasattr(m, "layer"):
        m.layer = nn.LayerNorm(x.shape[1]).double()
        m.layer.weight.data = torch.linspace(0.5, 1.5, x.shape[1], dtype=torch.float64)
    return m.layer(x.movedim(1, -1)).movedim(-1, 1)


KINDS: dict[str, Kind] = {**PLAIN, **BINARY, **WRITING, **STATE}


@dataclass(frozen=True)
class Line:
    """A statement: its kind, which earlier results it takes, a number of its own, and whose module it shares."""

    kind: str
    inputs: tuple[int, ...]
    seed: int
    reuse: int | None = None


class Statement(nn.Module):
    """One statement as a module, so that its results have a name."""

    def __init__(self, line: Line):
        super().__init__()
        self.kind, self.seed, self.count = line.kind, line.seed, 0
        self.past: list[Tensor] = []
        self.last: Tensor | None = None
        self.register_buffer("memory", torch.full((1,), 0.5, dtype=torch.float64))

    def forward(self, *args: Tensor) -> Any:
        return KINDS[self.kind](self, *args)


class Program(nn.Module):
    """A network that runs statements one by one, and returns the last results, or several, or a dictionary."""

    def __init__(self, lines: Sequence[Line], ending: int = 0):
        super().__init__()
        self.lines, self.ending = tuple(lines), ending
        self.s = nn.ModuleList()
        for line in lines:
            self.s.append(self.s[line.reuse] if line.reuse is not None else Statement(line))

    def forward(self, x: Tensor) -> Any:
        results = [x]
        for line, statement in zip(self.lines, self.s, strict=True):
            out = statement(*(results[k] for k in line.inputs))
            results += out if isinstance(out, tuple) else [out]
        last = results[-1]
        return [last, (last, results[-2]), {"a": last, "b": [results[len(results) // 2]]}][self.ending]


def image(seed: int) -> Tensor:
    """(1, C, H, W), float64."""
    return torch.randn(1, *_SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def program(seed: int) -> tuple[list[Line], int]:
    """Return a random program that runs: statements that torch refuses are drawn again."""
    draw = random.Random(seed)
    lines: list[Line] = []
    x = image(seed)
    modules: list[nn.Module] = []
    results = [x.clone()]
    for _ in range(draw.randint(2, 9)):
        for _try in range(8):
            group = draw.choices([PLAIN, BINARY, WRITING, STATE], [5, 2, 1.2, 1.5])[0]
            kind = draw.choice(list(group))
            recent = [max(0, len(results) - 1 - int(draw.expovariate(0.7))) for _ in range(2)]
            inputs = tuple(recent[: 2 if group is BINARY else 1])
            same = [k for k, line in enumerate(lines) if line.kind == kind]
            reuse = draw.choice(same) if same and draw.random() < 0.5 else None
            line = Line(kind, inputs, draw.randrange(1000), reuse)
            if _runs([*lines, line], x):
                lines.append(line)
                modules.append(Statement(line))
                results += [x] * _results(line)
                break
    return lines, draw.randrange(3)


def _results(line: Line) -> int:
    return 2 if line.kind in ("split", "pair") else 1


def _runs(lines: Sequence[Line], x: Tensor) -> bool:
    try:
        with torch.no_grad():
            returned = Program(lines).double().eval()(x.clone())
    except (RuntimeError, IndexError, ValueError, TypeError, ZeroDivisionError):
        return False
    return isinstance(returned, Tensor) and returned.ndim == 4 and returned.numel() < 2000 and bool(returned.isfinite().all())


def _state(network: nn.Module) -> list[Any]:
    tensors = {name: (id(t), t.clone(), t.requires_grad) for name, t in (*network.named_parameters(), *network.named_buffers())}
    return [tensors, {n: {k: id(v) for k, v in vars(m).items()} for n, m in network.named_modules()}]


def _same_state(a: list[Any], b: list[Any]) -> bool:
    tensors = a[0].keys() == b[0].keys() and all(
        a[0][k][0] == b[0][k][0] and torch.equal(a[0][k][1], b[0][k][1]) and a[0][k][2] == b[0][k][2] for k in a[0]
    )
    return tensors and a[1] == b[1]


def _reference(network: nn.Module, x: Tensor) -> tuple[dict[str, list[Tensor]], Tensor, Any] | None:
    """Return what each statement returned, as it was then and with its graph; None where autograd refuses."""
    found: dict[str, list[Tensor]] = {}
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, Statement):

            def keep(_module: nn.Module, _args: Any, out: Any, name: str = name) -> None:
                first = out[0] if isinstance(out, tuple) else out
                found.setdefault(name, []).append(first if first.is_inference() else first.clone())

            handles.append(module.register_forward_hook(keep))
    leaf = x.clone().requires_grad_(True)
    try:
        returned = network(leaf.clone())
    except RuntimeError:
        return None
    finally:
        for handle in handles:
            handle.remove()
    return found, leaf, returned


def verdict(lines: Sequence[Line], ending: int, seed: int, tally: Counter[str] | None = None) -> str | None:
    """Return what is wrong with the projections of a program; None if nothing is.

    Args:
        tally: how many units were equal, refused, and without a reference, is counted in it.
    """
    tally = Counter() if tally is None else tally
    draw = random.Random(seed)
    network, x = Program(lines, ending).double().eval(), image(seed)
    with torch.no_grad():
        network(x.clone())  # makes the layers
    network = _fresh(network)
    network.requires_grad_(draw.random() < 0.7)
    caller = [torch.no_grad, torch.enable_grad, torch.inference_mode][draw.randrange(3)]
    names = [f"s.{k}" for k in range(len(lines))]
    chosen = draw.sample(names, min(3, len(names)))
    before, generators = _state(network), torch.get_rng_state()
    wrapped = unconv.Network(network, input_size=_SHAPE)
    try:
        with caller():
            recording = wrapped.record(x, chosen)
    except unconv.UnconvError as error:
        recording = None
        tally["not recorded: " + ("written through a view" if "through a view" in str(error) else type(error).__name__)] += 1
    if not _same_state(before, _state(network)) or not torch.equal(generators, torch.get_rng_state()):
        return "the network was changed"
    if recording is None:
        return None
    reference = _reference(_fresh(network), x)
    for name in chosen:
        wrong = _compare(recording, name, reference, draw, caller, tally)
        if wrong:
            return f"{name}: {wrong}"
    return None


def _fresh(network: nn.Module) -> nn.Module:
    """Return a network as it was before it ran: without what its statements remember."""
    for module in network.modules():
        if isinstance(module, Statement):
            module.count, module.last = 0, None
            module.past.clear()
            module.memory = torch.full((1,), 0.5, dtype=torch.float64)
    return copy.deepcopy(network)


def _compare(recording: Any, name: str, reference: Any, draw: random.Random, caller: Any, tally: Counter[str]) -> str | None:
    """Return what is wrong with one unit of a place."""
    known = None if reference is None else reference[0].get(name)
    try:
        with caller():
            activation = recording.activation(name)
            if not activation.numel():
                return None
            place = (draw.randrange(len(activation)), *(draw.randrange(n) for n in activation.shape[1:]))
            found = recording.project(name, place[0], place[1:], method="gradient")
            pixels = found.pixels()[0]
    except unconv.UnconvError as error:
        tally[f"refused: {type(error).__name__}"] += 1
        return None
    if pixels.requires_grad or found.values.requires_grad or any(window.requires_grad for window in found.windows):
        return "what came back requires a gradient"
    if known is None:
        tally["no reference"] += 1
        return None
    if any(line.kind == "data written" for line in recording.model.module.lines):
        tally["no reference"] += 1  # autograd differentiates at what was written behind its back
        return None
    known = [recording.tape.arranged_output(name, tensor) for tensor in known]
    same = [tensor for tensor in known if torch.equal(tensor.detach()[0], activation)]
    if not same:
        return "the activation is not what the module returned"
    # A module that ran twice with equal results is one place, of which either may be meant.
    found_wrong = [_wrong(recording, name, one, reference[1], place, pixels) for one in same]
    agreed = next((words for words in found_wrong if words in _AGREED), None)
    if agreed is None:
        return found_wrong[-1]
    tally[agreed] += 1
    return None


_AGREED = ("equal", "equal, and zero", "no reference")


def _wrong(recording: Any, name: str, known: Tensor, leaf: Tensor, place: tuple[int, ...], pixels: Tensor) -> str:
    """Return in words how a unit's projection compares with autograd's."""
    if not known.requires_grad:
        if _cut(recording, name):
            return "no reference"
        right = torch.zeros_like(pixels)
    else:
        value = known[(0, *place)]
        make_gradients_contiguous(value)
        try:
            (gradient,) = torch.autograd.grad(value, leaf, retain_graph=True, allow_unused=True)
        except RuntimeError:  # it needs what was overwritten, which the way back of ours has kept
            return "no reference"
        right = torch.zeros_like(pixels) if gradient is None else gradient[0] * value.detach()
    difference = float((pixels - right).abs().max())
    if not difference <= _LIMIT * max(1.0, float(right.abs().max())):
        return f"off by {difference:.1e} of {float(right.abs().max()):.1e}"
    return "equal" if right.any() else "equal, and zero"


def _cut(recording: Any, name: str) -> bool:
    """Whether a place was made without gradients, so that autograd has nothing to say about it."""
    lines = recording.model.module.lines
    makers = [-1, *(k for k, line in enumerate(lines) for _ in range(_results(line)))]
    at = int(name[2:])
    while at >= 0 and lines[at].kind in ("dropout", "double", "channels last"):  # which may return what they were given
        at = makers[lines[at].inputs[0]]
    return at >= 0 and lines[at].kind in ("no grad", "inference mode")


def minimal(lines: Sequence[Line], ending: int, seed: int, wrong: str) -> list[Line]:
    """Return a program as short as can be that fails as well."""
    lines, at = list(lines), 0
    while at < len(lines):
        fewer = _without_line(lines, at)
        if fewer and _fails(fewer, ending, seed):
            lines, at = fewer, 0
        else:
            at += 1
    return lines


def _without_line(lines: Sequence[Line], gone: int) -> list[Line]:
    shift = _results(lines[gone])
    first = 1 + sum(_results(line) for line in lines[:gone])
    replaced = lines[gone].inputs[0]
    made = []
    for k, line in enumerate(lines):
        if k == gone or line.reuse == gone:
            if k != gone:
                line = Line(line.kind, line.inputs, line.seed)
            else:
                continue
        inputs = tuple(replaced if first <= i < first + shift else i - shift if i >= first + shift else i for i in line.inputs)
        reuse = None if line.reuse is None else line.reuse - (line.reuse > gone)
        made.append(Line(line.kind, inputs, line.seed, reuse))
    return made


def _fails(lines: Sequence[Line], ending: int, seed: int) -> bool:
    if not _runs(lines, image(seed)):
        return False
    return any(_failure(lines, ending, seed + k) for k in (0, 1, 2))


def _failure(lines: Sequence[Line], ending: int, seed: int, tally: Counter[str] | None = None) -> str | None:
    try:
        return verdict(lines, ending, seed, tally)
    except Exception as error:  # any that is not ours is a finding
        return f"{type(error).__name__}: {str(error)[:200]}"


def run(count: int, seed: int, seconds: float = float("inf"), shrink: bool = True) -> tuple[Counter[str], list[str]]:
    """Try `count` programs from `seed` on, or as many as fit into `seconds`; return the tally and what was wrong."""
    tally: Counter[str] = Counter()
    findings, began = [], time.monotonic()
    for number in range(seed, seed + count):
        if time.monotonic() - began > seconds:
            break
        lines, ending = program(number)
        if not lines:
            continue
        tally["networks"] += 1
        wrong = _failure(lines, ending, number, tally)
        if wrong:
            short = minimal(lines, ending, number, wrong) if shrink else lines
            findings.append(f"seed {number}: {wrong}\n  " + "\n  ".join(map(str, short)))
    return tally, findings


def main() -> None:
    """Run the fuzz and print what it found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    done = 0
    total: Counter[str] = Counter()
    while done < settings.networks:
        count = min(500, settings.networks - done)
        tally, findings = run(count, settings.seed + done)
        total, done = total + tally, done + count
        for finding in findings:
            print(finding, flush=True)
        total["findings"] += len(findings)
        print(dict(total), flush=True)


if __name__ == "__main__":
    main()
