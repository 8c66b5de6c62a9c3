"""Do mistakes get words? Calls of the public functions with odd arguments: a result, or an error of ours.

    python benchmarks/fuzz_calls.py --calls 100000 --seed 0

Wrong types, shapes, negative and huge sizes, NaN, nothing at all, truth values, NumPy's numbers, strings. Memory and time
are bounded: what asks for more than a few gigabytes, or thinks for ten seconds, is a finding too.
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import unconv
from unconv import inverse, ops
from unconv.inverse import psf
from unconv.inverse.fields import image as restoring
from unconv.pictures import encode

_SECONDS = 10
_ROOM = 4 * 2**30

Call = tuple[Callable[..., Any], dict[str, Any]]


def _torch(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(len(shape))).to(dtype)


class _Object:
    """Nothing that anybody knows."""


def odd(draw: random.Random, given: Any) -> Any:
    """Return something in place of an argument: anything, or the argument itself with a flaw."""
    if isinstance(given, Tensor) and draw.random() < 0.5:
        return draw.choice(_flaws(given))()
    if isinstance(given, list | tuple) and given and draw.random() < 0.5:
        parts = list(given)
        parts[draw.randrange(len(parts))] = draw.choice(ODD)()
        return draw.choice([type(given)(parts), parts[:-1], [*parts, 1], parts * 2])
    return draw.choice(ODD)()


def _flaws(x: Tensor) -> list[Callable[[], Any]]:
    return [
        lambda: x[..., None],
        lambda: x[0] if x.ndim else x,
        lambda: x[..., :0],
        lambda: x[:0] if x.ndim else x,
        lambda: x.mT if x.ndim > 1 else x,
        lambda: x.to(torch.float64),
        lambda: x.to(torch.float16),
        lambda: x.to(torch.bfloat16),
        lambda: x.to(torch.int64),
        lambda: x > 0.5,
        lambda: x.to(torch.complex64),
        lambda: x * torch.nan,
        lambda: x / 0,
        lambda: -x.float(),
        lambda: x * 0,
        lambda: x * 1e30,
        lambda: x.numpy() if not x.requires_grad else x,
        lambda: x.numpy() > 0.5,
        lambda: x.tolist(),
        lambda: x.to("meta"),
        lambda: x.to_sparse(),
        lambda: x.float().clone().requires_grad_(),
        lambda: torch.cat([x, x], -1) if x.ndim else x,
        lambda: x.expand(3, *x.shape),
        lambda: nn.Parameter(x.clone()) if x.is_floating_point() else x,
        lambda: x.to(torch.float8_e4m3fn),
    ]


ODD: list[Callable[[], Any]] = [
    *(lambda value=value: value for value in (None, True, False, -1, 0, 1, 2, 3, 7, 2**31, 2**40, 2**63, 10**30, -(2**40))),
    *(lambda value=value: value for value in (0.0, 0.5, 1.5, -2.5, 1e-30, 1e30, float("nan"), float("inf"), 1j)),
    *(
        lambda value=value: value
        for value in ("", "x", "SAME", "valid", "NHWC", "NCHW", "gcv", "top:3", "all", "b" * 300, "\0", "1")
    ),
    *(lambda value=value: value for value in (b"x", _Object, len, range(3), slice(2), Ellipsis, (), Path("no/such"))),
    list,
    dict,
    lambda: {"a": 1},
    lambda: {1, 2},
    lambda: _Object(),
    lambda: [1],
    lambda: [0],
    lambda: [-1, -1],
    lambda: [1, 4, 4, 1],
    lambda: [2, 2],
    lambda: [3, 3, 3],
    lambda: [2**20, 2**20],
    lambda: [2**16, 2**16, 2**16],
    lambda: [1.5, 2],
    lambda: [None, 1],
    lambda: ["a", "b"],
    lambda: [[1, 1], [1, 1]],
    lambda: [[0, 0], [1, 1], [1, 1], [0, 0]],
    lambda: [[]],
    lambda: [True, False],
    lambda: iter([1, 2]),
    lambda: torch.tensor(1),
    lambda: torch.tensor(2.5),
    lambda: torch.tensor(True),
    lambda: torch.tensor([]),
    lambda: torch.tensor([1, 2]),
    lambda: torch.zeros(0, 3),
    lambda: torch.ones(2, 2, dtype=torch.bool),
    lambda: torch.randn(5),
    lambda: torch.randn(4, 4),
    lambda: torch.randn(1, 5, 4, 3),
    lambda: torch.full((3, 3), torch.nan),
    lambda: np.int64(2),
    lambda: np.float32(1.5),
    lambda: np.bool_(True),
    lambda: np.zeros((0, 3)),
    lambda: np.ones((4, 5)),
    lambda: np.array("x"),
    lambda: np.array([None]),
    lambda: np.ma.masked,
    lambda: Image.new("L", (5, 4)),
    lambda: torch.float16,
    lambda: nn.Identity(),
    lambda: inverse.Convolution(torch.ones(3, 3) / 9, (6, 5)),
    lambda: lambda *_args, **_settings: None,
]


def _operation_calls() -> Iterator[tuple[str, Call]]:
    for axes in (1, 2, 3):
        n, taps = (6, 5, 4)[:axes], (3, 2, 3)[:axes]
        formats = ("NWC", "NHWC", "NDHWC")[axes - 1]
        x, w = _torch(2, *n, 4), _torch(*taps, 4, 6)
        common = {"strides": 2, "padding": "SAME", "data_format": formats, "dilations": None}
        yield f"conv{axes}d", (getattr(ops, f"conv{axes}d"), {"input": x, "filters": w, **common})
        large = tuple(2 * k for k in n)
        back = {"input": x, "filters": _torch(*taps, 6, 4), "output_shape": (2, *large, 6), **common}
        yield f"conv{axes}d_transpose", (getattr(ops, f"conv{axes}d_transpose"), back)
        pool = {"input": x, "ksize": 2, "strides": 2, "padding": "SAME", "data_format": formats}
        yield f"avg_pool{axes}d", (getattr(ops, f"avg_pool{axes}d"), pool)
        small = _torch(2, *(-(-k // 2) for k in n), 4)
        unpool = {"pooled": small, "output_shape": (2, *n, 4), "ksize": 2, "strides": 2, "padding": "SAME", "duplicates": "sum"}
        yield f"unpool_avg {axes}", (ops.unpool_avg, {**unpool, "data_format": formats})
    x, w = _torch(1, 6, 5, 4), _torch(3, 2, 4, 2)
    yield "depthwise", (ops.depthwise_conv2d, {"input": x, "filters": w, "strides": [1, 2, 2, 1], "padding": "SAME"})
    depth = {"input_sizes": (1, 6, 5, 4), "filters": w, "out_backprop": _torch(1, 3, 3, 8), "strides": (1, 2, 2, 1)}
    yield (
        "depthwise back",
        (ops.depthwise_conv2d_backprop_input, {**depth, "padding": "SAME", "data_format": "NHWC", "dilations": 1}),
    )
    pool = {"input": x, "ksize": 2, "strides": 2, "padding": "VALID", "data_format": "NHWC", "output_dtype": torch.int64}
    yield "max pool", (ops.max_pool_with_argmax, {**pool, "include_batch_in_index": False})
    pooled, argmax = ops.max_pool_with_argmax(x, 2, 2, "SAME")
    unpool = {"pooled": pooled, "argmax": argmax, "output_shape": (1, 6, 5, 4), "include_batch_in_index": False}
    yield "unpool_max", (ops.unpool_max, {**unpool, "duplicates": "sum", "data_format": None})
    keras = {"inputs": x, "kernel": _torch(3, 3, 2, 4), "strides": 2, "padding": "same", "output_padding": None}
    yield "keras", (ops.keras_conv_transpose, {**keras, "data_format": "channels_last", "dilation_rate": 1})
    sizes = {"input_size": (4, 5), "kernel_size": (3, 3), "strides": 2, "padding": "SAME", "dilations": None}
    yield "legal sizes", (ops.legal_output_sizes, sizes)
    yield "sizes", (ops.output_sizes, sizes)
    bridge = {"input": (1, 4, 5, 3), "filters": (3, 3, 2, 3), "output_shape": (1, 8, 10, 2), "strides": 2, "padding": "SAME"}
    for name in ("torch_arguments", "keras_arguments", "onnx_arguments"):
        yield name, (getattr(ops, name), {**bridge, "data_format": "NHWC", "dilations": None})


def _explained(function: Callable[..., Any], call: str) -> Callable[..., Any]:
    def run(at: Any, image: Any, channel: Any, **settings: Any) -> Any:
        found = function(**settings)
        if call == "select":
            return found.select(image, channel).text()
        return getattr(found, call)(at) if call != "numbers" else found.numbers()

    return run


def _explanation_calls() -> Iterator[tuple[str, Call]]:
    chosen = {"at": (0, 1), "image": 0, "channel": 0}
    conv = {"input": _torch(1, 3, 3, 2), "filters": _torch(3, 3, 2, 2), "output_shape": (1, 6, 6, 2), "strides": 2}
    conv |= {"padding": "SAME", "data_format": "NHWC", "dilations": None}
    pool = {
        "input": _torch(1, 4, 4, 2),
        "ksize": 2,
        "strides": 2,
        "padding": "SAME",
        "duplicates": "sum",
        "data_format": "NHWC",
    }
    rows = ((ops.explain_conv2d_transpose, conv), (ops.explain_unpool_max, pool), (ops.explain_unpool_avg, pool))
    for function, settings in rows:
        for call in ("text", "picture", "select", "numbers"):
            yield f"{function.__name__}.{call}", (_explained(function, call), {**chosen, **settings})


def _few(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **settings: list(islice(function(**settings), 2))


def _inverse_calls() -> Iterator[tuple[str, Call]]:
    yield "gaussian", (psf.gaussian, {"sigma": 1.5, "size": None, "ndim": 2})
    yield "uniform", (psf.uniform, {"size": 3, "ndim": 2})
    yield "disk", (psf.disk, {"radius": 2.5})
    yield "motion", (psf.motion, {"length": 5.0, "angle": 30.0})
    yield "airy", (psf.airy, {"first_zero": 3.0, "size": None})
    yield "airy_radius", (psf.airy_radius, {"wavelength": 0.5, "numerical_aperture": 1.4, "pixel": 0.1})
    lanni = {"size": (3, 5, 5), "wavelength": 0.5, "pixel": 0.1, "spacing": 0.2, "numerical_aperture": 1.2}
    yield "gibson_lanni", (psf.gibson_lanni, lanni)
    yield "checked", (psf.checked, {"psf": psf.gaussian(1.0), "ndim": 2})
    yield "open_psf", (psf.open_psf, {"source": psf.gaussian(1.0), "ndim": 2, "name": None})
    kernel, shape = psf.gaussian(0.7, 5), (8, 9)
    x = _torch(*shape)
    yield "psnr", (inverse.psnr, {"truth": x, "estimate": x * 0.9, "peak": None})
    yield "isnr", (inverse.isnr, {"truth": x, "observed": x * 0.8, "estimate": x * 0.9})
    yield "ssim", (inverse.ssim, {"truth": _torch(12, 12), "estimate": _torch(12, 12) * 0.9, "peak": None, "axes": 2})
    yield "estimate_noise", (inverse.estimate_noise, {"observed": _torch(20, 20), "axes": 2})
    yield "estimate_camera", (inverse.estimate_camera, {"samples": _torch(20, 20), "axes": 2, "gain": 1.0})
    yield "Camera", (lambda **numbers: inverse.Camera(**numbers).variance(3.0), {"gain": 2.0, "offset": 1.0, "read_noise": 1.0})
    yield "inner", (inverse.inner, {"x": x, "y": x})
    yield "Convolution", (_operated(inverse.Convolution), {"x": x, "kernel": kernel, "shape": shape, "boundary": "circular"})
    yield "Mask", (_operated(inverse.Mask), {"x": x, "observed": x > 0.3})
    yield "Window", (_operated(inverse.Window), {"x": x, "shape": shape, "start": (1, 2), "size": (4, 5), "step": None})
    yield "Crop", (_operated(inverse.Crop), {"x": x, "shape": shape, "start": (1, 2), "size": (4, 5)})
    yield (
        "Downsample",
        (_operated(inverse.Downsample), {"x": _torch(8, 8), "shape": (8, 8), "factor": 2, "phase": 0}),
    )
    yield "Scaling", (_operated(inverse.Scaling), {"x": x, "factor": 2.0, "shape": shape})
    for name in ("L1", "Wavelet"):
        yield name, (_proximal(getattr(inverse, name)), {"x": _torch(16, 16), "step": 0.5, "weight": 0.1})
    yield "Box", (_proximal(inverse.Box), {"x": x, "step": 0.5, "low": 0.0, "high": 1.0})
    yield "SlidingDct", (_denoised(inverse.SlidingDct), {"x": _torch(20, 20), "sigma": 0.1, "step": 2, "threshold": 2.7})
    yield (
        "SimilarBlocks",
        (_denoised(inverse.SimilarBlocks), {"x": _torch(24, 24), "sigma": 0.1, "members": 4, "window": 4, "step": 4}),
    )
    yield from _solver_calls(inverse.Convolution(kernel, shape), x)


def _operated(kind: Callable[..., Any]) -> Callable[..., Any]:
    def run(x: Any, **settings: Any) -> Any:
        operator = kind(**settings)
        return operator.adjoint(operator.forward(x))

    return run


def _proximal(kind: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, step, **settings: kind(**settings).prox(x, step)


def _denoised(kind: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, sigma, **settings: kind(**settings)(x, sigma)


def _solver_calls(operator: Any, x: Tensor) -> Iterator[tuple[str, Call]]:
    given = {"operator": operator, "observed": x}
    short = {"steps": 2, "tolerance": 1e-4}
    yield "cgls", (_few(inverse.cgls), {**given, **short, "start": None, "damping": 0.0, "stop": "tolerance", "noise": None})
    yield "tikhonov", (_few(inverse.tikhonov), {**given, **short, "strength": 0.1, "noise": None, "penalty": "identity"})
    wiener = {"noise": 0.1, "signal": None, "nsr": None, "strength": None}
    yield "wiener", (_few(inverse.wiener), {**given, **short, **wiener})
    lucy = {"start": None, "accelerate": True, "total_variation": 0.0, "background": 0.0, "mask": None, "stop": None}
    yield "richardson_lucy", (_few(inverse.richardson_lucy), {**given, **short, **lucy, "noise": "poisson"})
    yield "fista", (_few(inverse.fista), {**given, **short, "penalty": inverse.L1(0.1), "step": None, "restart": True})
    yield "admm_tv", (_few(inverse.admm_tv), {**given, **short, "noise": 0.1, "strength": None, "start": None})
    hqs = {"denoiser": inverse.SlidingDct(), "noise": 0.1, "steps": 2, "first": None, "start": None}
    yield "hqs", (_few(inverse.hqs), {**given, **hqs})
    blind = {"observed": _torch(24, 24), "size": 3, "noise": 0.05, "steps": 1, "levels": 1}
    yield "blind", (_few(inverse.blind), blind)
    lucy = {"observed": _torch(16, 16), "kernel_size": (3, 3), "start": None, "steps": 1, "inner": 1, "boundary": "unknown"}
    yield "richardson_lucy_blind", (_few(inverse.richardson_lucy_blind), lucy)
    deblur = {"picture": _torch(16, 16), "psf": psf.gaussian(0.7, 5), "noise": 0.1, "boundary": "circular", "method": "wiener"}
    yield (
        "deblur",
        (restoring.deblur, {**deblur, "axes": None, "centre": None, "steps": None, "strength": None, "memory": None}),
    )
    enlarged = {
        "picture": _torch(10, 10),
        "factor": 2,
        "psf": psf.gaussian(1.0),
        "noise": 0.1,
        "method": "tikhonov",
        "steps": 2,
    }
    yield "super_resolve", (restoring.super_resolve, enlarged)


def _network() -> unconv.Network:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    return unconv.Network(nn.Sequential(*layers, nn.Linear(5, 4)).eval(), input_size=(3, 14, 12))


def _reverse_calls() -> Iterator[tuple[str, Call]]:
    net = _network()
    recording = net.record(_torch(3, 14, 12), ["1", "4", "7"])
    image, chosen = _torch(3, 14, 12), {"channels": "top:2", "unit": "strongest", "method": "deconvnet", "dtype": None}
    project = {"image": image, "place": "1", **chosen, "trace": False, "memory": None}
    yield "project", (net.project, project)
    yield "record", (net.record, {"image": image, "places": ["1"], "method": "gradient"})
    yield "recording.project", (recording.project, {"place": "4", **chosen})
    yield "recording.activation", (recording.activation, {"place": "4"})
    yield "rectified", (net.rectified, {"image": image})
    yield "stream", (lambda **given: list(islice(net.stream(**given), 3)), {"images": [image], "places": ["1"], **chosen})
    yield "Rules", (unconv.Rules, {"method": "guided", "activations": None, "freeze": None})
    network = {"module": net.module, "preprocess": None, "input_size": (3, 14, 12), "argument": None, "others": None}
    yield "Network", (lambda **given: unconv.Network(**given).places(), network)
    found = net.project(image, "1", "top:3")
    yield "projections.picture", (found.picture, {"columns": 2, "side": 20})
    yield "projections.item", (lambda index: found[index], {"index": 0})
    yield "projection.within", (found[0].within, {"box": (0, 0, 5, 5)})
    yield "projections.save", (lambda name: found.save(_folder() / str(name)[:20].replace("/", "_")), {"name": "found.png"})
    yield "load", (unconv.load, {"spec": "no:such", "weights": None, "preprocess": None, "input_size": None})


def _slow_calls() -> Iterator[tuple[str, Call]]:
    net = _network()
    image = _torch(3, 14, 12)
    yield "check", (net.check, {"image": image, "method": "deconvnet"})
    trust = {"image": image, "place": "4", "channels": "top:1", "unit": "strongest", "method": "deconvnet"}
    yield "trust", (net.trust, trust)


_made: list[tempfile.TemporaryDirectory[str]] = []


def _folder() -> Path:
    if not _made:
        _made.append(tempfile.TemporaryDirectory())
    return Path(_made[0].name)


def _picture_calls() -> Iterator[tuple[str, Call]]:
    preprocess = {"size": (10, 12), "resize": None, "mean": (0.5,) * 3, "std": (0.2,) * 3, "scale": 1.0, "bgr": False}

    def prepared(picture: Any, **settings: Any) -> Any:
        return unconv.Preprocess(**settings)(picture)

    yield "Preprocess", (prepared, {"picture": Image.new("RGB", (20, 15)), **preprocess})
    yield "measured", (unconv.measured.measured, {"source": _torch(8, 9).numpy(), "axes": "YX"})

    def saved(picture: Any, name: Any, axes: Any) -> Any:
        return encode.save(picture, _folder() / str(name)[:20].replace("/", "_"), axes=axes)

    yield "save", (saved, {"picture": (_torch(8, 9) * 255).to(torch.uint8), "name": "picture.png", "axes": None})


def calls(slow: bool = True) -> dict[str, Call]:
    """Return the public functions, each with arguments that are right."""
    groups = [_operation_calls, _explanation_calls, _inverse_calls, _reverse_calls, _picture_calls]
    return dict(row for group in (*groups, *([_slow_calls] if slow else [])) for row in group())


class _TooLong(BaseException):
    """A call that thinks too long."""


def _alarm(_number: int, _frame: Any) -> None:
    raise _TooLong


def attempt(function: Callable[..., Any], settings: dict[str, Any]) -> str | None:
    """Return what is wrong with a call; None for a result, or an error of ours."""
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(**settings)
    except unconv.UnconvError as error:
        return None if str(error).strip() else "an error of ours without words"
    except _TooLong:
        return f"took longer than {_SECONDS} s"
    except Exception as error:  # whatever is not ours is a finding
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "unconv" in f.filename and "fuzz" not in f.filename]
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno} {ours[-1].name}" if ours else "the call itself"
        return f"{type(error).__name__} at {where}: {str(error).splitlines()[0][:120] if str(error) else ''}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def run(count: int, seed: int, seconds: float = float("inf"), slow: bool = True) -> tuple[int, dict[str, list[str]]]:
    """Make `count` calls, or as many as fit into `seconds`; return how many, and each finding with its calls."""
    draw, known = random.Random(seed), calls(slow)
    names = list(known)
    weights = [0.05 if name in ("check", "trust") else 1.0 for name in names]
    before = signal.signal(signal.SIGALRM, _alarm)
    findings: dict[str, list[str]] = {}
    began = time.monotonic()
    done = 0
    try:
        while done < count and time.monotonic() - began < seconds:
            (name,) = draw.choices(names, weights)
            function, right = known[name]
            changed = draw.sample(list(right), min(len(right), draw.choice([1, 1, 1, 2, 3])))
            odds = {key: odd(draw, right[key]) for key in changed}
            settings = {**right, **{key: value for key, value in odds.items() if _fitting(key, value)}}
            shown = f"{name}({', '.join(f'{key}={_shown(settings[key])}' for key in changed)})"
            wrong = attempt(function, settings)
            done += 1
            if wrong:
                findings.setdefault(f"{name.split(' ')[0].split('.')[0]}: {wrong}", []).append(shown)
    finally:
        signal.signal(signal.SIGALRM, before)
    return done, findings


def _fitting(key: str, value: Any) -> bool:
    """Whether an argument is ours to refuse: what a function of the caller's raises is the caller's."""
    return not (callable(value) and key in ("method", "denoiser", "preprocess", "module", "penalty", "operator"))


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"tensor{tuple(value.shape)} {value.dtype} {value.layout if value.layout != torch.strided else value.device}"
    if isinstance(value, np.ndarray):
        return f"array{value.shape} {value.dtype}"
    return repr(value)[:80]


def main() -> None:
    """Run the fuzz and print what it found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + _ROOM, hard))
    done, kinds = 0, Counter[str]()
    while done < settings.calls:
        made, findings = run(min(2000, settings.calls - done), settings.seed + done)
        done += made
        for words, shown in findings.items():
            if words not in kinds:
                print(f"{words}\n    {shown[0]}", flush=True)
            kinds[words] += len(shown)
        print(f"{done} calls, {len(kinds)} kinds of findings", flush=True)


if __name__ == "__main__":
    main()
