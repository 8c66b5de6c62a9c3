"""Pickles inside torch's files, read as data: the result lists tensors, and nothing that a pickle names is imported or called.

Each instruction is checked first, and only those that torch writes for tensors are allowed. A name that the pickle refers to
becomes a `Name`; calling it only records a `Call`.

Source:
    torch 2.6 to 2.14: `torch._utils._rebuild_*`, and the globals that `torch.load` allows by default.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from dataclasses import dataclass
from typing import Any

from unconv.networks.model_files import Unfit

_INSTRUCTIONS = frozenset(
    "PROTO STOP MARK GLOBAL REDUCE BUILD APPEND APPENDS SETITEM SETITEMS TUPLE TUPLE1 TUPLE2 TUPLE3 NONE NEWFALSE NEWTRUE "
    "EMPTY_TUPLE EMPTY_LIST EMPTY_DICT BININT BININT1 BININT2 BINFLOAT BINUNICODE SHORT_BINSTRING BINPERSID "
    "BINGET LONG_BINGET BINPUT LONG_BINPUT LONG1 NEWOBJ".split()
)
_FILLING = ("APPEND", "APPENDS", "BUILD", "SETITEM", "SETITEMS")
_DEEPEST, _LARGEST = 100, 100_000  # levels and items of nested tuples
_MODULES = ("torch", "torch._utils", "torch._tensor", "torch.storage", "torch.serialization", "torch.nn.parameter")
_NAMES = {
    "collections": ("OrderedDict", "Counter"),
    "_codecs": ("encode",),
    "builtins": ("bytearray", "set", "complex"),
    "__builtin__": ("bytearray", "set", "complex"),
}
_SETTINGS = {
    "argparse": ("Namespace",),
    "collections": ("defaultdict", "deque"),
    "datetime": ("date", "datetime", "timedelta"),
    "pathlib": ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"),
    "pathlib._local": ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"),
    "typing": ("Any",),
    "numpy": ("dtype", "ndarray"),
    "numpy.core.multiarray": ("scalar", "_reconstruct"),
    "numpy._core.multiarray": ("scalar", "_reconstruct"),
    "lightning.fabric.utilities.data": ("AttributeDict",),
    "lightning_fabric.utilities.data": ("AttributeDict",),
    "lightning.pytorch.utilities.parsing": ("AttributeDict",),
    "pytorch_lightning.utilities.parsing": ("AttributeDict",),
    "omegaconf.dictconfig": ("DictConfig",),
    "omegaconf.listconfig": ("ListConfig",),
    "omegaconf.base": ("ContainerMetadata", "Metadata"),
    "omegaconf.nodes": ("AnyNode", "StringNode", "IntegerNode", "FloatNode", "BooleanNode", "PathNode"),
    "addict.addict": ("Dict",),
    "mmengine.config.config": ("ConfigDict",),
    "mmengine.logging.history_buffer": ("HistoryBuffer",),
    "builtins": ("bool", "dict", "float", "int", "list", "str", "tuple"),
    "__builtin__": ("bool", "dict", "float", "int", "list", "long", "str", "tuple", "unicode"),
}
"""Types of settings and scores that trainings save beside the weights; each is read as an empty dictionary."""


@dataclass(frozen=True)
class Name:
    """Something that a pickle names; calling it only records the call."""

    module: str
    name: str

    def __call__(self, *args: Any) -> Call:
        """Record a call."""
        return Call(self.name, args)

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""


class Call:
    """The record of a call; whatever a pickle does to the result is ignored."""

    def __init__(self, name: str, args: tuple[Any, ...]):
        self.name, self.args = name, args

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore the item."""

    def append(self, item: Any) -> None:
        """Ignore the item."""

    def extend(self, items: Any) -> None:
        """Ignore the items."""


@dataclass(frozen=True)
class Storage:
    """A storage that a pickle refers to: its type, the key of its bytes, and its number of samples."""

    kind: str
    key: str
    count: int

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""


class _Ordered(dict[Any, Any]):
    """Stands in for an ordered dictionary; attributes that a pickle sets on it are dropped."""

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""


class _Settings(dict[Any, Any]):
    """Stands in for settings; everything that a pickle builds them from is dropped."""

    def __new__(cls, *_args: Any) -> _Settings:
        """Return an empty dictionary."""
        return super().__new__(cls)

    def __init__(self, *_args: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore the item."""

    def append(self, item: Any) -> None:
        """Ignore the item."""

    def extend(self, items: Any) -> None:
        """Ignore the items."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return a record of the name; only ordered dictionaries, which hold the tensors, are really created."""
        if name in _SETTINGS.get(module, ()):
            return _Settings
        return _Ordered if (module, name) == ("collections", "OrderedDict") else Name(module, name)

    def persistent_load(self, reference: Any) -> Storage:
        """Return a record of the storage; the source code of a pickled model, which has the same form, is refused."""
        if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
            raise Unfit("it refers to something other than the bytes of tensors")
        _, kind, key, _, count, *view = reference
        if not isinstance(kind, Name) or type(count) is not int or count < 0 or not isinstance(key, str) or any(view):
            raise Unfit("it refers to the bytes of a tensor in an unknown way")
        return Storage(kind.name, key, count)


def read_pickle(file: io.BytesIO) -> Any:
    """Read the pickle at a file's position, and leave the position at its end.

    Raises:
        Unfit: it is damaged, or contains more than torch writes for tensors, numbers and strings.
    """
    # Twice: first the instructions alone, which build nothing, and only if all are allowed the objects.
    start, tuples = file.tell(), _Tuples()
    try:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(file)):
            _refuse_instruction(count, instruction.name, argument)
            tuples.follow(instruction, argument)
        end = file.tell()
        file.seek(start)
        content = _Reader(io.BytesIO(file.read(end - start)), encoding="utf-8").load()
    except Unfit:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise Unfit("its pickle is damaged") from error
    file.seek(end)
    return content


class _Tuples:
    """The depth and size of nested tuples, computed from the instructions alone.

    A tuple may be a dictionary's key, and a key is hashed: a very deep one crashes the process, and one that contains
    another twice, which contains another twice, and so on, takes forever.
    """

    def __init__(self) -> None:
        self.stack: list[tuple[int, int] | None] = []  # depth and size of each value; None is a mark
        self.memo: dict[int, tuple[int, int] | None] = {}

    def follow(self, instruction: pickletools.OpcodeInfo, argument: Any) -> None:
        """Follow an instruction, with depths and sizes in place of values."""
        name, inputs = instruction.name, instruction.stack_before
        if name.endswith("BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name.endswith("BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.stack.append(None)
        else:
            has_mark = pickletools.markobject in inputs
            items = list(iter(self.stack.pop, None)) if has_mark else []
            operands = [self.stack.pop() for _ in range(inputs.index(pickletools.markobject) if has_mark else len(inputs))]
            if not instruction.stack_after:
                return
            if "TUPLE" in name:
                self.stack.append(_tuple_of([value for value in (*items, *operands) if value]))
            else:  # an instruction that fills a container leaves it on the stack; any other pushes a new value
                self.stack.append(operands[-1] if name in _FILLING else (0, 1))


def _tuple_of(items: list[tuple[int, int]]) -> tuple[int, int]:
    depth = 1 + max((depth for depth, _ in items), default=0)
    size = 1 + sum(size for _, size in items)
    if depth > _DEEPEST or size > _LARGEST:
        raise Unfit("its pickle nests tuples deeper than torch does for tensors")
    return depth, size


def _refuse_instruction(count: int, name: str, argument: Any) -> None:
    if name not in _INSTRUCTIONS:
        raise Unfit(f"its pickle has the instruction {name}, which torch does not write for tensors")
    if name == "GLOBAL":
        module, _, thing = argument.partition(" ")
        if module not in _MODULES and thing not in (*_NAMES.get(module, ()), *_SETTINGS.get(module, ())):
            raise Unfit(f"only tensors are read, but it names {argument.replace(' ', '.')!r}")
    if name == "LONG_BINPUT" and argument > count:
        raise Unfit("its pickle is damaged")
