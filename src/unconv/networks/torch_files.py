"""What `torch.save` writes: an archive of one pickle and the bytes of each storage; before torch 1.6, one after the other."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, BinaryIO

from unconv.networks.model_files import Unfit, shown, size_of
from unconv.networks.stored import DTYPES, Extent, Stored
from unconv.networks.torch_pickles import Call, Name, Storage, read_pickle
from unconv.networks.zips import Member, open_zip, verify

_MOST_PICKLE = 1 << 24  # bytes; a list of fifty thousand tensors takes half of it
_MOST_REST = 1 << 16  # bytes of an archive that belong neither to a tensor nor to the pickle
DEEPEST = 4  # of dictionaries in dictionaries that are looked at
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the older form

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
_WIDTHS = {"QInt8Storage": 1, "QUInt8Storage": 1, "QInt32Storage": 4, "QUInt4x2Storage": 1, "QUInt2x4Storage": 1}
_OTHERS = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_sparse_csr_tensor": "a sparse tensor",
    "_rebuild_qtensor": "a quantised tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor on the meta device, without values",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_wrapper_subclass": "a tensor of a class of its own",
    "_rebuild_device_tensor_from_numpy": "a tensor of another device",
    "_rebuild_device_tensor_from_cpu_tensor": "a tensor of another device",
}


def describe_archive(file: BinaryIO) -> Any:
    """Read what an archive of torch's holds, with a `Stored` for each tensor.

    Raises:
        Unfit: it is damaged, differs from its checksums, or is no archive of tensors.
    """
    archive, members = open_zip(file)
    folder = _folder(members)
    # torch stores and never compresses, so no member can be larger than the file.
    packed = next((name for name, member in members.items() if member.info.compress_type), None)
    if packed is not None:
        raise Unfit(f"its member {packed!r} is compressed, which torch does not do")
    verify(file, archive, members)
    pickled = members[f"{folder}data.pkl"]
    if pickled.size > _MOST_PICKLE:
        raise Unfit(f"its pickle has {pickled.size:,} bytes")
    order = members.get(f"{folder}byteorder")
    if order is not None and _content(file, order) != b"little":
        raise Unfit("its numbers have their bytes in the order of another kind of machine")
    found = read_pickle(io.BytesIO(_content(file, pickled)))
    extents = {
        name.removeprefix(f"{folder}data/"): Extent(member.start, member.stored)
        for name, member in members.items()
        if name.startswith(f"{folder}data/")
    }
    _refuse_rest(members, pickled, extents, _storages(found))
    return _described(found, extents)


def _folder(members: Mapping[str, Member]) -> str:
    """Return the folder of an archive that holds all of it, with a slash."""
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    folder = pickles[0].removesuffix("data.pkl") if len(pickles) == 1 else ""
    if any(name.endswith("/constants.pkl") or f"{name.partition('/')[2]}".startswith("code/") for name in members):
        raise Unfit("it is a TorchScript archive, a program with its weights")
    if "config.json" in members and "metadata.json" in members:
        raise Unfit("it is a Keras file, which names a network by itself")
    if members and all(name.endswith(".npy") for name in members):
        raise Unfit("it holds arrays of NumPy")
    if not folder or not all(name.startswith(folder) for name in members):
        raise Unfit("it is an archive, but not one that torch.save writes")
    return folder


def _content(file: BinaryIO, member: Member) -> bytes:
    file.seek(member.start)
    return file.read(member.stored)


def _refuse_rest(members: Mapping[str, Member], pickled: Member, extents: Mapping[str, Extent], used: set[str]) -> None:
    """Refuse an archive with more bytes beside its tensors than torch's few notes on it take."""
    tensors = sum(extent.size for key, extent in extents.items() if key in used)
    rest = sum(member.stored for member in members.values()) - pickled.stored - tensors
    if rest > _MOST_REST:
        raise Unfit(f"{rest:,} of its bytes belong to no tensor")


def describe_legacy(file: BinaryIO) -> Any:
    """Read what a file that torch wrote before it wrote archives holds, with a `Stored` for each tensor.

    Raises:
        Unfit: it is damaged, or no such file.
    """
    head = io.BytesIO(file.read(_MOST_PICKLE))
    if head.getvalue()[257:262] == b"ustar":
        raise Unfit("it has the form that torch wrote before version 0.2; load it there and save it again")
    magic, protocol, system = (read_pickle(head) for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL or not isinstance(system, dict):
        raise Unfit("it is not what torch.save writes")
    found, keys = read_pickle(head), read_pickle(head)
    storages = {storage.key: storage for storage in _notes(found) if isinstance(storage, Storage)}
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(storages):
        raise Unfit("the list of its storages does not fit its tensors")
    at, extents = head.tell(), {}
    for key in keys:
        # The samples follow the list, each storage's behind the number of them.
        file.seek(at)
        storage, count = storages[key], int.from_bytes(file.read(8), "little")
        if count != storage.count or key in extents:
            raise Unfit(f"a storage has {count:,} samples, but its tensor announces {storage.count:,}")
        extents[key] = Extent(at + 8, count * _width(storage))
        at += 8 + extents[key].size
    if at != size_of(file):
        raise Unfit(f"its tensors end at byte {at:,}, but the file at {size_of(file):,}")
    return _described(found, extents)


def _notes(found: Any) -> list[Any]:
    """Return everything in what a pickle holds, each once: a pickle can hold one thing in many places."""
    seen: dict[int, Any] = {}
    left = [found]
    while left:
        thing = left.pop()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if isinstance(thing, dict):
            left.extend([*thing.keys(), *thing.values()])
        elif isinstance(thing, list | tuple | set):
            left.extend(thing)
        elif isinstance(thing, Call):
            left.append(thing.args)
    return list(seen.values())


def _storages(found: Any) -> set[str]:
    return {note.key for note in _notes(found) if isinstance(note, Storage)}


def _width(storage: Storage) -> int:
    if storage.kind == "UntypedStorage":
        return 1
    if storage.kind in _STORAGES:
        return DTYPES[_STORAGES[storage.kind]].itemsize
    if storage.kind not in _WIDTHS:
        raise Unfit(f"it has a storage of the unknown kind {storage.kind!r}")
    return _WIDTHS[storage.kind]


def _described(found: Any, extents: Mapping[str, Extent]) -> Any:
    """Return what a pickle holds, with a `Stored` in place of the note of each tensor in its dictionaries."""
    made: dict[int, Any] = {}  # a pickle can hold one dictionary in many places

    def described(key: Any, part: Any, depth: int) -> Any:
        if not isinstance(part, dict) or depth > DEEPEST:
            return _stored(key, part, extents)
        if id(part) not in made:
            made[id(part)] = {}
            made[id(part)].update((inner, described(inner, value, depth + 1)) for inner, value in part.items())
        return made[id(part)]

    return described("", found, 0)


def _stored(key: Any, note: Any, extents: Mapping[str, Extent]) -> Any:
    """Return the tensor that a note stands for; anything else as it is."""
    while isinstance(note, Call) and note.args and note.name.startswith("_rebuild_"):
        if note.name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            note = note.args[0]
        elif note.name == "_rebuild_from_type_v2" and len(note.args) > 2 and isinstance(note.args[0], Name):
            note = Call(note.args[0].name, note.args[2])
        else:
            break
    if not isinstance(note, Call):
        return note
    if note.name in _OTHERS:
        return Stored(_OTHERS[note.name])
    if note.name not in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3") or len(note.args) < 4:
        return note
    return _strided(key, note, extents)


def _strided(key: Any, note: Call, extents: Mapping[str, Extent]) -> Stored:
    storage, offset, shape, stride, *rest = note.args
    if not isinstance(storage, Storage) or storage.key not in extents or not _are_lengths(offset, shape, stride):
        raise Unfit(f"the entry of {shown(key)} is damaged")
    extent = extents[storage.key]
    if storage.count * _width(storage) != extent.size:
        raise Unfit(f"the storage of {shown(key)} has {extent.size:,} bytes, but {storage.count:,} samples are announced")
    what = _STORAGES.get(storage.kind, "a quantised tensor")
    if note.name == "_rebuild_tensor_v3":
        what = rest[2].name if len(rest) > 2 and isinstance(rest[2], Name) else "of an unknown type"
    elif storage.kind == "UntypedStorage":
        what = "of an unknown type"
    metadata = rest[2 + (note.name == "_rebuild_tensor_v3")] if len(rest) > 2 + (note.name == "_rebuild_tensor_v3") else None
    if metadata:
        what = "a view with its signs turned"
    return Stored(what, tuple(shape), extent, offset, tuple(stride))


def _are_lengths(offset: Any, shape: Any, stride: Any) -> bool:
    if not isinstance(shape, tuple) or not isinstance(stride, tuple) or not len(shape) == len(stride) <= 64:
        return False
    return all(type(length) is int and 0 <= length < 2**63 for length in (offset, *shape, *stride))
