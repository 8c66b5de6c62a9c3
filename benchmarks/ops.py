"""Do the ops cost more than torch's own operations, or TensorFlow's?

    python benchmarks/ops.py [--rounds 15] [--json FILE]

All of them run in this process, in turns, on the same float32 tensors, channels last; each time is the median over
the rounds, each ratio the median of the rounds' ratios. torch gets its weights in its own order, made beforehand; ours
and TensorFlow take them as TensorFlow has them. TensorFlow is an optional peer: pip install tensorflow-cpu.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F

from unconv import ops

# glibc gives large blocks back to the kernel and takes them again, page by page, whenever it sees fit; kept, they cost
# everybody alike. It reads this when it starts.
KEPT = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**34)}

# batch, side, in, out, kernel, stride, padding, output side
TRANSPOSED = {
    "VGG block 2, 112 × 112, 128 to 64, k 3": (1, 112, 128, 64, 3, 1, "SAME", 112),
    "VGG block 3, 56 × 56, 256 to 256, k 3": (1, 56, 256, 256, 3, 1, "SAME", 56),
    "VGG block 4, 28 × 28, 512 to 512, k 3": (1, 28, 512, 512, 3, 1, "SAME", 28),
    "VGG block 5, 14 × 14, 512 to 512, k 3": (1, 14, 512, 512, 3, 1, "SAME", 14),
    "VGG to the pixels, 224 × 224, 64 to 3, k 3": (1, 224, 64, 3, 3, 1, "SAME", 224),
    "decoder, 8 × 28 × 28, 256 to 128, k 3, s 2": (8, 28, 256, 128, 3, 2, "SAME", 56),
    "decoder, 4 × 32 × 32, 256 to 128, k 4, s 2": (4, 32, 256, 128, 4, 2, "SAME", 64),
    "DCGAN's first, 4 × 4, 1024 to 512, k 4, s 2": (1, 4, 1024, 512, 4, 2, "SAME", 8),
    "DCGAN's last, 16 × 32 × 32, 64 to 3, k 4, s 2": (16, 32, 64, 3, 4, 2, "SAME", 64),
    "AlexNet's first, 54 × 54, 96 to 3, k 11, s 4": (1, 54, 96, 3, 11, 4, "VALID", 223),
    "FCN-8s' last, 28 × 28, 21 to 21, k 16, s 8": (1, 28, 21, 21, 16, 8, "SAME", 224),
    "audio, 8 × 1 × 4000, 128 to 64, k 8, s 4": (8, (1, 4000), 128, 64, (1, 8), (1, 4), "SAME", (1, 16000)),
}
# batch, side, channels, window, stride
POOLS = {
    "2 × 2 on 8 × 224 × 224 × 64": (8, 224, 64, 2, 2),
    "2 × 2 on 1 × 224 × 224 × 64": (1, 224, 64, 2, 2),
    "2 × 2 on 1 × 28 × 28 × 512": (1, 28, 512, 2, 2),
    "3 × 3, stride 2, on 1 × 112 × 112 × 64": (1, 112, 64, 3, 2),
}


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def transposed(case, tf) -> dict[str, Callable[[], object]]:
    batch, side, inside, out, kernel, stride, padding, size = case
    side, kernel, stride, size = map(pair, (side, kernel, stride, size))
    x, filters = torch.randn(batch, *side, inside), torch.randn(*kernel, out, inside) * 0.05
    shape = (batch, *size, out)
    arguments = ops.torch_arguments(x, filters, shape, stride, padding)
    weight = filters.permute(arguments.permutation).contiguous()
    planes, settings = x.movedim(-1, 1), (None, stride, arguments.padding, arguments.output_padding)
    runs = {
        "ours": lambda: ops.conv2d_transpose(x, filters, shape, stride, padding),
        "torch": lambda: F.conv_transpose2d(planes, weight, *settings)[(..., *arguments.crop)],
    }
    if tf:
        there = [tf.constant(tensor.numpy()) for tensor in (x, filters)]
        runs["tensorflow"] = lambda: tf.nn.conv2d_transpose(*there, shape, stride, padding).numpy()
    return runs


def unpooled(case, tf) -> dict[str, Callable[[], object]]:
    batch, side, channels, window, stride = case
    x = torch.randn(batch, side, side, channels)
    pooled, argmax = ops.max_pool_with_argmax(x, window, stride, "SAME")
    flat, places, room = pooled.reshape(batch, -1), argmax.reshape(batch, -1), side * side * channels
    runs = {
        "ours": lambda: ops.unpool_max(pooled, argmax, x.shape),
        "torch": lambda: flat.new_zeros(batch, room).scatter_add_(1, places, flat),
    }
    if tf:
        whole = torch.arange(batch)[:, None] * room + places
        there = tf.constant(whole.reshape(-1, 1).numpy()), tf.constant(flat.reshape(-1).numpy())
        runs["tensorflow"] = lambda: tf.scatter_nd(*there, [batch * room]).numpy()
    return runs


def pooled(case, tf) -> dict[str, Callable[[], object]]:
    batch, side, channels, window, stride = case
    x = torch.randn(batch, side, side, channels)
    planes = x.movedim(-1, 1)
    padding = ((side + stride - 1) // stride - 1) * stride + window - side
    runs = {
        "ours": lambda: ops.max_pool_with_argmax(x, window, stride, "SAME"),
        "torch": lambda: F.max_pool2d(planes, window, stride, max(padding, 0) // 2, 1, True, return_indices=True),
    }
    if tf:
        there = tf.constant(x.numpy())
        runs["tensorflow"] = lambda: tf.nn.max_pool_with_argmax(there, window, stride, "SAME")[1].numpy()
    return runs


def copied(case, _tf) -> dict[str, Callable[[], object]]:
    batch, side, channels, window, stride = case
    small = -(-side // stride)
    values = torch.randn(batch, small, small, channels)
    planes = values.movedim(-1, 1)
    return {
        "ours": lambda: ops.unpool_avg(values, (batch, side, side, channels), window, stride, "SAME"),
        "torch": lambda: F.interpolate(planes, scale_factor=stride),
    }


def timed(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Of each, the seconds of every round."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(rounds):
        for name, run in runs.items() if round_ % 2 else reversed(runs.items()):
            run()  # the one before leaves its threads spinning and its own tensors in the caches
            began = time.perf_counter()
            run()
            spent[name].append(time.perf_counter() - began)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in KEPT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KEPT)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow as tf
    except ModuleNotFoundError:
        tf = None
        print("TensorFlow is not installed; torch alone is the peer.")
    torch.manual_seed(0)
    groups = {
        "conv2d_transpose": (transposed, TRANSPOSED),
        "unpool_max": (unpooled, POOLS),
        "max_pool_with_argmax": (pooled, POOLS),
        "unpool_avg": (copied, {name: case for name, case in POOLS.items() if case[3] == case[4]}),
    }
    rows = []
    for group, (build, cases) in groups.items():
        print(f"\n{group}\n| | ours | torch | TensorFlow | ours / torch | ours / TensorFlow |\n|---|---|---|---|---|---|")
        for name, case in cases.items():
            spent = timed(build(case, tf), arguments.rounds)
            medians = {peer: statistics.median(times) for peer, times in spent.items()}
            ratios = {
                peer: statistics.median(mine / theirs for mine, theirs in zip(spent["ours"], times, strict=True))
                for peer, times in spent.items()
                if peer != "ours"
            }
            rows.append({"operation": group, "case": name, "seconds": medians, "ratios": ratios})
            words = [f"{1000 * medians[peer]:.2f} ms" if peer in medians else "" for peer in ("ours", "torch", "tensorflow")]
            words += [f"{ratios[peer]:.2f}" if peer in ratios else "" for peer in ("torch", "tensorflow")]
            print(f"| {name} | {' | '.join(words)} |", flush=True)
    facts = {"rows": rows, "threads": torch.get_num_threads(), "torch": torch.__version__}
    facts["tensorflow"] = tf.__version__ if tf else None
    print(json.dumps({key: facts[key] for key in ("threads", "torch", "tensorflow")}))
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
