"""The pickles inside torch's files as data: a list of tensors comes out, and nothing that a pickle names is imported or called.

Each instruction is looked at first; only those that torch writes for tensors are let through. Then names stand for
themselves: calling one gives a note of the call.

Source:
    torch 2.6 to 2.14, `torch._utils._rebuild_*`, and what `torch.load` unpickles by default.
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
_DEEPEST, _LARGEST = 100, 100_000  # of tuples in tuples
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
"""Settings and scores that trainings save beside the weights: empty dictionaries stand for them."""


@dataclass(frozen=True)
class Name:
    """Something that a pickle names; calling it only notes the call."""

    module: str
    name: str

    def __call__(self, *args: Any) -> Call:
        """Note a call."""
        return Call(self.name, args)

    def __setstate__(self, state: Any) -> None:
        """Take no state."""


class Call:
    """The note of a call. What a pickle would do to the result is not done."""

    def __init__(self, name: str, args: tuple[Any, ...]):
        self.name, self.args = name, args

    def __setstate__(self, state: Any) -> None:
        """Take no state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Take no item."""

    def append(self, item: Any) -> None:
        """Take no item."""

    def extend(self, items: Any) -> None:
        """Take no items."""


@dataclass(frozen=True)
class Storage:
    """A storage that a pickle refers to: its type, the key of its bytes, and how many samples it has."""

    kind: str
    key: str
    count: int

    def __setstate__(self, state: Any) -> None:
        """Take no state."""


class _Ordered(dict[Any, Any]):
    """What stands for an ordered dictionary; attributes that a pickle would give it are dropped."""

    def __setstate__(self, state: Any) -> None:
        """Take no state."""


class _Settings(dict[Any, Any]):
    """What stands for settings; whatever a pickle would make them of is dropped."""

    def __new__(cls, *_args: Any) -> _Settings:
        """Make an empty one."""
        return super().__new__(cls)

    def __init__(self, *_args: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Take no state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Take no item."""

    def append(self, item: Any) -> None:
        """Take no item."""

    def extend(self, items: Any) -> None:
        """Take no items."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return a note of the name; ordered dictionaries hold the tensors and are made."""
        if name in _SETTINGS.get(module, ()):
            return _Settings
        return _Ordered if (module, name) == ("collections", "OrderedDict") else Name(module, name)

    def persistent_load(self, reference: Any) -> Storage:
        """Return a note of the storage; a whole model's source, which has the same form, is refused."""
        if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
            raise Unfit("it refers to more than the bytes of tensors")
        _, kind, key, _, count, *view = reference
        if not isinstance(kind, Name) or type(count) is not int or count < 0 or not isinstance(key, str) or any(view):
            raise Unfit("it refers to the bytes of a tensor in an unknown way")
        return Storage(kind.name, key, count)


def read_pickle(file: io.BytesIO) -> Any:
    """Read the pickle at which a file stands, and leave it behind its end.

    Raises:
        Unfit: it is damaged, or holds more than torch writes for tensors, numbers and words.
    """
    start, tuples = file.tell(), _Tuples()
    try:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(file)):
            _refuse_instruction(count, instruction.name, argument)
            tuples.take(instruction, argument)
        end = file.tell()
        file.seek(start)
        found = _Reader(io.BytesIO(file.read(end - start)), encoding="utf-8").load()
    except Unfit:
        raise
    except Exception as error:  # of a damaged pickle anything can come up, and all of it means that
        raise Unfit("its pickle is damaged") from error
    file.seek(end)
    return found


class _Tuples:
    """How deep tuples lie in each other, and how much they hold, told from the instructions alone.

    A tuple may be a key, and a key is hashed: one that is too deep ends the process, and one that holds another twice, which
    holds another twice, takes for ever.
    """

    def __init__(self) -> None:
        self.stack: list[tuple[int, int] | None] = []  # of each value, its depth and all that it holds; None is a mark
        self.memo: dict[int, tuple[int, int] | None] = {}

    def take(self, instruction: pickletools.OpcodeInfo, argument: Any) -> None:
        """Do what an instruction does, with depths and sizes in the place of values."""
        name, before = instruction.name, instruction.stack_before
        if name.endswith("BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name.endswith("BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.stack.append(None)
        else:
            marked = pickletools.markobject in before
            held = list(iter(self.stack.pop, None)) if marked else []
            taken = [self.stack.pop() for _ in range(before.index(pickletools.markobject) if marked else len(before))]
            if not instruction.stack_after:
                return
            if "TUPLE" in name:
                self.stack.append(_around([value for value in (*held, *taken) if value]))
            else:  # what is filled stays; all else is new
                self.stack.append(taken[-1] if name in _FILLING else (0, 1))


def _around(held: list[tuple[int, int]]) -> tuple[int, int]:
    depth = 1 + max((depth for depth, _ in held), default=0)
    size = 1 + sum(size for _, size in held)
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
