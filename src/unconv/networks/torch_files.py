"""Files of `torch.save`: an archive of one pickle and the bytes of each storage; before torch 1.6, both in sequence."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, BinaryIO

from unconv.networks.model_files import Unfit, shown, size_of
from unconv.networks.stored import DTYPES, Extent, Stored
from unconv.networks.torch_pickles import Call, Name, Storage, read_pickle
from unconv.networks.zips import Member, open_zip, verify

_MOST_PICKLE = 1 << 24  # bytes; a list of fifty thousand tensors takes half of that
_MOST_REST = 1 << 16  # bytes of an archive outside its tensors and its pickle
DEEPEST = 4  # levels of nested dictionaries that are searched
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the format before torch 1.6

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
    """Read the content of an archive of torch's, with a `Stored` in place of each tensor.

    Raises:
        Unfit: it is damaged, differs from its checksums, or is no archive of tensors.
    """
    archive, members = open_zip(file)
    folder = _folder(members)
    # torch stores its members uncompressed, so that none can be larger than the file.
    compressed = next((name for name, member in members.items() if member.info.compress_type), None)
    if compressed is not None:
        raise Unfit(f"its member {compressed!r} is compressed, which torch does not do")
    verify(file, archive, members)
    pickled = members[f"{folder}data.pkl"]
    if pickled.size > _MOST_PICKLE:
        raise Unfit(f"its pickle has {pickled.size:,} bytes")
    byte_order = members.get(f"{folder}byteorder")
    if byte_order is not None and _content(file, byte_order) != b"little":
        raise Unfit("its numbers have the byte order of another kind of machine")
    content = read_pickle(io.BytesIO(_content(file, pickled)))
    extents = {
        name.removeprefix(f"{folder}data/"): Extent(member.start, member.stored)
        for name, member in members.items()
        if name.startswith(f"{folder}data/")
    }
    _refuse_rest(members, pickled, extents, _storages(content))
    return _with_tensors(content, extents)


def _folder(members: Mapping[str, Member]) -> str:
    """Return the one folder that holds everything in the archive, with a slash."""
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    folder = pickles[0].removesuffix("data.pkl") if len(pickles) == 1 else ""
    if any(name.endswith("/constants.pkl") or f"{name.partition('/')[2]}".startswith("code/") for name in members):
        raise Unfit("it is a TorchScript archive, a program with its weights")
    if "config.json" in members and "metadata.json" in members:
        raise Unfit("it is a Keras file, which is opened by its name alone")
    if members and all(name.endswith(".npy") for name in members):
        raise Unfit("it holds NumPy arrays")
    if not folder or not all(name.startswith(folder) for name in members):
        raise Unfit("it is an archive, but not one that torch.save writes")
    return folder


def _content(file: BinaryIO, member: Member) -> bytes:
    file.seek(member.start)
    return file.read(member.stored)


def _refuse_rest(members: Mapping[str, Member], pickled: Member, extents: Mapping[str, Extent], used: set[str]) -> None:
    """Refuse an archive with more bytes besides its tensors than torch's own small records need."""
    tensors = sum(extent.size for key, extent in extents.items() if key in used)
    rest = sum(member.stored for member in members.values()) - pickled.stored - tensors
    if rest > _MOST_REST:
        raise Unfit(f"{rest:,} of its bytes belong to no tensor")


def describe_legacy(file: BinaryIO) -> Any:
    """Read the content of a file of torch before 1.6, with a `Stored` in place of each tensor.

    Raises:
        Unfit: it is damaged, or no such file.
    """
    # In sequence: a magic number, the protocol, the system, the content, the keys of its storages, and their samples.
    head = io.BytesIO(file.read(_MOST_PICKLE))
    if head.getvalue()[257:262] == b"ustar":
        raise Unfit("its format is that of torch before 0.2; load it with an old torch and save it again")
    magic, protocol, system = (read_pickle(head) for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL or not isinstance(system, dict):
        raise Unfit("it is not what torch.save writes")
    content, keys = read_pickle(head), read_pickle(head)
    storages = {storage.key: storage for storage in _objects(content) if isinstance(storage, Storage)}
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(storages):
        raise Unfit("its list of storages does not match its tensors")
    position, extents = head.tell(), {}
    for key in keys:
        # Each storage is written as its number of samples, in 8 bytes, and then the samples.
        file.seek(position)
        storage, count = storages[key], int.from_bytes(file.read(8), "little")
        if count != storage.count or key in extents:
            raise Unfit(f"a storage has {count:,} samples, but its tensor announces {storage.count:,}")
        extents[key] = Extent(position + 8, count * _width(storage))
        position += 8 + extents[key].size
    if position != size_of(file):
        raise Unfit(f"its tensors end at byte {position:,}, but the file at {size_of(file):,}")
    return _with_tensors(content, extents)


def _objects(content: Any) -> list[Any]:
    """Return every object in a pickle's content once: a pickle may refer to one object from many others."""
    objects: dict[int, Any] = {}
    stack = [content]
    while stack:
        item = stack.pop()
        if id(item) in objects:
            continue
        objects[id(item)] = item
        if isinstance(item, dict):
            stack.extend([*item.keys(), *item.values()])
        elif isinstance(item, list | tuple | set):
            stack.extend(item)
        elif isinstance(item, Call):
            stack.append(item.args)
    return list(objects.values())


def _storages(content: Any) -> set[str]:
    return {record.key for record in _objects(content) if isinstance(record, Storage)}


def _width(storage: Storage) -> int:
    if storage.kind == "UntypedStorage":
        return 1
    if storage.kind in _STORAGES:
        return DTYPES[_STORAGES[storage.kind]].itemsize
    if storage.kind not in _WIDTHS:
        raise Unfit(f"it has a storage of the unknown kind {storage.kind!r}")
    return _WIDTHS[storage.kind]


def _with_tensors(content: Any, extents: Mapping[str, Extent]) -> Any:
    """Return a pickle's content, with a `Stored` in place of each tensor's record in its dictionaries."""
    copies: dict[int, Any] = {}  # a pickle may refer to one dictionary many times

    def replace(key: Any, part: Any, depth: int) -> Any:
        if not isinstance(part, dict) or depth > DEEPEST:
            return _stored(key, part, extents)
        if id(part) not in copies:
            copies[id(part)] = {}
            copies[id(part)].update((inner, replace(inner, value, depth + 1)) for inner, value in part.items())
        return copies[id(part)]

    return replace("", content, 0)


def _stored(key: Any, record: Any, extents: Mapping[str, Extent]) -> Any:
    """Return the tensor that a record stands for, and anything else unchanged."""
    while isinstance(record, Call) and record.args and record.name.startswith("_rebuild_"):
        if record.name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            record = record.args[0]
        elif record.name == "_rebuild_from_type_v2" and len(record.args) > 2 and isinstance(record.args[0], Name):
            record = Call(record.args[0].name, record.args[2])
        else:
            break
    if not isinstance(record, Call):
        return record
    if record.name in _OTHERS:
        return Stored(_OTHERS[record.name])
    if record.name not in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3") or len(record.args) < 4:
        return record
    return _strided(key, record, extents)


def _strided(key: Any, record: Call, extents: Mapping[str, Extent]) -> Stored:
    storage, offset, shape, stride, *rest = record.args
    if not isinstance(storage, Storage) or storage.key not in extents or not _are_lengths(offset, shape, stride):
        raise Unfit(f"the entry of {shown(key)} is damaged")
    extent = extents[storage.key]
    if storage.count * _width(storage) != extent.size:
        raise Unfit(f"the storage of {shown(key)} has {extent.size:,} bytes, but {storage.count:,} samples are announced")
    what = _STORAGES.get(storage.kind, "a quantised tensor")
    if record.name == "_rebuild_tensor_v3":
        what = rest[2].name if len(rest) > 2 and isinstance(rest[2], Name) else "of an unknown type"
    elif storage.kind == "UntypedStorage":
        what = "of an unknown type"
    metadata = (
        rest[2 + (record.name == "_rebuild_tensor_v3")] if len(rest) > 2 + (record.name == "_rebuild_tensor_v3") else None
    )
    if metadata:
        what = "a conjugate or negative view"
    return Stored(what, tuple(shape), extent, offset, tuple(stride))


def _are_lengths(offset: Any, shape: Any, stride: Any) -> bool:
    if not isinstance(shape, tuple) or not isinstance(stride, tuple) or not len(shape) == len(stride) <= 64:
        return False
    return all(type(length) is int and 0 <= length < 2**63 for length in (offset, *shape, *stride))
