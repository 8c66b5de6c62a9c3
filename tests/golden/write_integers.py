"""Write integers.npz: what TensorFlow makes of whole numbers, over their whole range. Needs tensorflow-cpu 2.21.

    python tests/golden/write_integers.py

Each call's arguments are in CALLS, for `tf.nn` and for `unconv.ops` alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "integers.npz"
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")

# operation, shapes of what it takes, the other arguments: all of int32, of which most sums are far beyond
CALLS: dict[str, tuple[str, list[tuple[int, ...]], dict[str, Any]]] = {
    "rows": ("conv1d", [(2, 9, 3), (3, 3, 2)], {"padding": "SAME"}),
    "strided": ("conv2d", [(2, 5, 6, 3), (3, 2, 3, 4)], {"padding": "SAME"}),
    "valid": ("conv2d", [(1, 4, 5, 2), (2, 2, 2, 3)], {"padding": "VALID"}),
    "rows back": ("conv1d_transpose", [(2, 4, 3), (3, 2, 3)], {"output_shape": (2, 7, 2), "padding": "SAME"}),
    "larger": ("conv2d_transpose", [(2, 3, 4, 3), (3, 3, 5, 3)], {"output_shape": (2, 6, 8, 5), "padding": "SAME"}),
    "smaller": ("conv2d_transpose", [(2, 3, 4, 3), (4, 4, 2, 3)], {"output_shape": (2, 5, 7, 2), "padding": "SAME"}),
    "valid back": ("conv2d_transpose", [(1, 2, 2, 9), (3, 3, 2, 9)], {"output_shape": (1, 6, 5, 2), "padding": "VALID"}),
}
POOLS: dict[str, dict[str, Any]] = {
    "overlapping": {"ksize": 3, "strides": 2, "padding": "SAME", "include_batch_in_index": False},
    "counted": {"ksize": 2, "strides": 1, "padding": "VALID", "include_batch_in_index": True},
}


def drawn(generator: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of a type, every third of them one of its last two at either end."""
    limits = np.iinfo(dtype)
    ends = np.array([limits.min, limits.min + 1, limits.max - 1, limits.max], dtype)
    numbers = generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return np.where(generator.random(shape) < 1 / 3, generator.choice(ends, shape), numbers)


def main() -> None:
    import tensorflow as tf

    generator, arrays = np.random.default_rng(23), {}
    for name, (operation, shapes, rest) in CALLS.items():
        given = [drawn(generator, "int32", shape) for shape in shapes]
        arrays |= {f"{name}/{index}": array for index, array in enumerate(given)}
        kwargs = rest | {"strides": 2} if operation != "conv1d" else rest | {"stride": 2}
        arrays[f"{name}/made"] = getattr(tf.nn, operation)(*map(tf.constant, given), **kwargs).numpy()
    for dtype in TYPES:
        image = drawn(generator, dtype, (2, 5, 6, 2))
        arrays[f"{dtype}/image"] = image
        for name, arguments in POOLS.items():
            pooled, argmax = tf.nn.max_pool_with_argmax(tf.constant(image), **arguments)
            back = tf.scatter_nd(tf.reshape(argmax, (-1, 1)), tf.reshape(pooled, (-1,)), [image.size])
            arrays[f"{dtype}/{name}/pooled"], arrays[f"{dtype}/{name}/argmax"] = pooled.numpy(), argmax.numpy()
            if arguments["include_batch_in_index"]:
                arrays[f"{dtype}/{name}/back"] = back.numpy().reshape(image.shape)
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
