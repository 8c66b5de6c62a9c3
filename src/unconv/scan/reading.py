"""Read pictures ahead of the network, in threads and in order, each preprocessed for it."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, PictureError, ShapeError
from unconv.pictures.decode import picture_in
from unconv.pictures.npy import MAGIC, npy_in
from unconv.reverse.model import Model
from unconv.scan.listed import Entry

_AHEAD = 4  # batches read in advance


class Read(NamedTuple):
    """A picture read and preprocessed.

    Args:
        image: (C, samples..), preprocessed; None if the picture could not be read.
        content: a hash of what was read, 63 bits; 0 if nothing was.
        look: the difference hash of the image, 64 bits.
        why: the reason why it could not be read; "" if it could.
    """

    image: Tensor | None
    content: int
    look: int
    why: str


def read_ahead(
    entries: Sequence[Entry], read: Callable[[Entry], Any], model: Model, batch: int, threads: int
) -> Iterator[list[Read]]:
    """Yield batches of pictures, preprocessed on the CPU, in order; several are read while one is used.

    Raises:
        ShapeError: a picture is preprocessed to another size than `input_size`, which all pictures need.
    """
    parts = [entries[first : first + batch] for first in range(0, len(entries), batch)]
    with ThreadPoolExecutor(threads, "unconv-read") as pool:
        waiting: deque[list[Future[Read]]] = deque()
        try:
            for part in parts:
                waiting.append([pool.submit(prepared, entry, read, model) for entry in part])
                if len(waiting) > _AHEAD:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def prepared(entry: Entry, read: Callable[[Entry], Any], model: Model) -> Read:
    """Return a picture read and preprocessed; for a damaged one, the reason.

    Raises:
        ShapeError: it is preprocessed to another size than `input_size`.
    """
    content = 0
    try:
        source = read(entry)
        content = content_hash(source)
        image = model.prepared_here(content_of(source, entry.key))[0][0]
        content = content or content_hash(image)
    except PictureError as error:
        return Read(None, content, 0, str(error))
    except (ShapeError, DtypeError, NonFinite) as error:  # an array or a tensor that does not fit the network
        return Read(None, content, 0, str(error))
    except (OSError, ValueError, RuntimeError, LookupError, TypeError) as error:  # a data set's rows may raise anything
        return Read(None, content, 0, f"pictures: {entry.key} cannot be read: {type(error).__name__}: {error}")
    if tuple(image.shape) != tuple(model.input_size):
        raise ShapeError(
            f"scan: {entry.key} is prepared to {tuple(image.shape)}, but all pictures were needed of one size, "
            f"{tuple(model.input_size)}. Give the network a preprocessing that resizes and crops: --size, --resize."
        )
    if not image.isfinite().all():
        return Read(None, content, 0, f"pictures: {entry.key} holds NaN or infinite samples")
    return Read(image, content, difference_hash(image), "")


def content_of(found: Any, name: str) -> Any:
    """Return what was read as a picture, an array or a tensor; bytes are decoded.

    Raises:
        PictureError: the bytes are not a picture.
    """
    if not isinstance(found, bytes):
        return found
    if found.startswith(MAGIC):
        try:
            return npy_in(found)
        except ValueError as error:
            raise PictureError(f"pictures: {name} is not a complete .npy file: {error}.") from error
    return picture_in(found, name)


def difference_hash(image: Tensor) -> int:
    """Return the difference hash (dHash) of a picture as a signed 64-bit number; 0 for what is not a picture.

    The grey picture is averaged to 8 x 9 samples; a bit is set where a sample is darker than its right neighbour. The hashes
    of near-identical pictures differ in few bits.

    Args:
        image: (C, H, W), prepared.
    """
    if image.ndim != 3:
        return 0
    small = F.adaptive_avg_pool2d(image.float().mean(0, keepdim=True), (8, 9))[0]
    bits = (small[:, 1:] > small[:, :-1]).flatten().tolist()
    number = sum(1 << at for at, bit in enumerate(bits) if bit)
    return number - 2**64 if number >= 2**63 else number


def content_hash(found: Any) -> int:
    """Return a 63-bit hash of bytes or samples; 0 for what has neither."""
    if isinstance(found, Tensor):
        found = found.detach().cpu().float().numpy() if found.dtype == torch.bfloat16 else found.detach().cpu().numpy()
    data = found if isinstance(found, bytes) else found.tobytes() if hasattr(found, "tobytes") else b""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1 if data else 0
