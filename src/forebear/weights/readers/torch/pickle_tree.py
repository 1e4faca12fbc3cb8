"""Follows the instructions of a torch pickle and returns its dicts, lists, numbers and tensors.

Nothing is imported, called or constructed for the file: every object is made here, from one of the
few classes of this module. A tensor is described, and its values stay in the file. An object of any
other class becomes `Unbuilt`, and what the file passes to it is dropped. A file is refused if it
asks for a global that may act, or for more than its size can hold.
"""

from __future__ import annotations

import pickletools
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from forebear.limits import PICKLE_OBJECTS
from forebear.text import truncated
from forebear.weights.readers.errors import reading, refused
from forebear.weights.readers.torch import pickle_globals as known


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SAVE = "Do not trust this file, or save only model.state_dict() where it was made."
EXPECTED = "a pickled state dict: names, dense tensors and plain numbers"


@dataclass(frozen=True, slots=True)
class Storage:
    """The values of one or several tensors, in the file."""

    kind: str  # torch's type without "Storage": "Float"
    key: str  # the name of the storage in the file
    count: int  # number of values
    offset: int = 0  # of a view: its first value in the storage


@dataclass(frozen=True, slots=True)
class Strided:
    """A dense tensor: a view of a storage. Offset and strides are in values."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    kind: str  # type of the values, as in Storage


@dataclass(frozen=True, slots=True)
class OtherTensor:
    """A tensor that is not dense, or of a type that is not read."""

    what: str


@dataclass(frozen=True, slots=True)
class Unbuilt:
    """An object of a class that is not built."""

    name: str  # of the class


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or a function, with dots."""

    name: str


@dataclass(slots=True)
class _Parameter:
    """A Parameter of torch 0.1, whose tensor is in its state."""

    tensor: object = None


# Instructions whose argument is the value.
_VALUES = _words(
    """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    """
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_SILENT = frozenset({"PROTO", "FRAME"})


def read_pickles(
    path: Path,
    start: bytes,
    count: int,
    unbuilt: set[str],
    storages: list[Storage] | None = None,
) -> tuple[list[Any], int]:
    """Returns what the first `count` pickles in `start` hold, and the offset behind them.

    Args:
        path: The file, for messages and for its size.
        start: Bytes that begin with the pickles.
        count: Number of pickles.
        unbuilt: Receives the names of classes that were not built.
        storages: Receives every storage that a pickle describes.

    Raises:
        WeightsError: A pickle asks for a global that may act, which the message names, or for more
            than the file can hold, or it is truncated or damaged.
    """
    file, size = BytesIO(start), path.stat().st_size
    found = []
    machine = _Machine(path, size, unbuilt, [] if storages is None else storages)
    for _ in range(count):
        with reading(path, EXPECTED):
            try:
                found.append(machine.follow(file))
            except (IndexError, KeyError):  # from the stack, or from the memo
                raise ValueError("an instruction of the pickle lacks its arguments") from None
    return found, file.tell()


class _Machine:
    """An unpickler that builds containers, descriptions of tensors, and nothing else."""

    def __init__(self, path: Path, size: int, unbuilt: set[str], storages: list[Storage]) -> None:
        self._path, self._size = path, size
        self._unbuilt, self._storages = unbuilt, storages
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._objects = 0

    def follow(self, file: BytesIO) -> Any:
        """Returns what one pickle holds."""
        self._stack, self._marked, self._memo = [], [], {}
        for instruction, argument, _ in pickletools.genops(file):
            name = instruction.name
            if name in _VALUES:
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name])
            elif name == "STOP":
                return self._stack.pop()
            elif name not in _SILENT:
                self._step(name, argument)
        raise ValueError("the pickle does not end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        match name:
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(self._memo[argument])
            case "MARK":
                self._marked.append(stack)
                self._stack = []
            case "POP":
                if stack:
                    stack.pop()
                else:
                    self._to_mark()
            case "POP_MARK":
                self._to_mark()
            case "DUP":
                stack.append(stack[-1])
            case "GLOBAL":
                stack.append(self._global(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                stack.append(self._global(".".join(map(str, self._pop(2)))))
            case "BINPERSID":
                stack.append(self._storage(*self._pop(1)))
            case "REDUCE" | "NEWOBJ":
                stack.append(self._call(*self._pop(2)))
            case "NEWOBJ_EX":
                stack.append(self._call(*self._pop(3)[:2]))
            case "INST":
                items = self._to_mark()
                self._stack.append(self._call(self._global(argument.replace(" ", ".")), (*items,)))
            case "OBJ":
                function, *items = self._to_mark()
                self._stack.append(self._call(function, (*items,)))
            case "BUILD":
                (state,) = self._pop(1)
                self._build(stack[-1], state)
            case _:
                self._contain(name, argument)

    def _contain(self, name: str, argument: Any) -> None:
        """Follows an instruction of lists, tuples, dicts and sets."""
        match name:
            case "EMPTY_TUPLE":
                self._made(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._made((*self._pop(int(name[-1])),))
            case "TUPLE":
                self._made((*self._to_mark(),))
            case "EMPTY_LIST":
                self._made([])
            case "LIST":
                self._made(self._to_mark())
            case "EMPTY_DICT":
                self._made({})
            case "DICT":
                items = self._to_mark()
                self._made({})
                _set(self._stack[-1], items)
            case "EMPTY_SET":
                self._made(Unbuilt("set"))
            case "FROZENSET":
                self._to_mark()
                self._made(Unbuilt("frozenset"))
            case "APPEND":
                _append(self._stack[-2], self._pop(1))
            case "APPENDS":
                items = self._to_mark()
                _append(self._stack[-1], items)
            case "ADDITEMS":
                self._to_mark()
            case "SETITEM":
                items = self._pop(2)
                _set(self._stack[-1], items)
            case "SETITEMS":
                items = self._to_mark()
                _set(self._stack[-1], items)
            case _:
                what = f"its pickle has the instruction {name} {truncated(argument or '')}".rstrip()
                expected = "only instructions that torch.save writes"
                remedy = "Save it again with torch.save."
                raise refused(self._path, what, expected, remedy)

    def _pop(self, count: int) -> list[Any]:
        items = self._stack[-count:]
        if len(items) < count:
            raise IndexError
        del self._stack[-count:]
        return items

    def _to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _made(self, value: Any) -> None:
        self._count(1)
        self._stack.append(value)

    def _count(self, objects: int) -> None:
        self._objects += objects
        if self._objects > PICKLE_OBJECTS:
            raise ValueError(f"it has more than {PICKLE_OBJECTS} objects")

    def _global(self, name: str) -> Global:
        if known.is_refused(name):
            what = f"the pickle asks for {truncated(name)}; nothing was executed"
            raise refused(self._path, what, EXPECTED, SAVE)
        if not known.is_ordinary(name):
            self._unbuilt.add(name)
        return Global(name)

    def _call(self, function: Any, arguments: Any) -> Any:
        """Returns what stands for the result of a call."""
        self._count(1)
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            return Unbuilt("an object")
        name = function.name
        if name in known.DICTS:
            copied = (argument for argument in arguments if isinstance(argument, dict | list))
            self._count(sum(map(len, copied)))
            return _dict(arguments)
        if name in known.TENSORS:
            return self._tensor(arguments, newest=name.endswith("_v3"))
        if name in known.PARAMETERS:
            return arguments[0]
        if name == known.PARAMETER:
            return arguments[0] if arguments else _Parameter()
        if name == known.SIZE:
            return arguments[0]
        if name == known.FROM_TYPE:
            rebuild, kind, inner, *_ = arguments
            plain = isinstance(kind, Global) and kind.name in known.TENSOR_TYPES
            return self._call(rebuild, inner) if plain else OtherTensor(_name_of(kind))
        if name.startswith(("torch._utils._rebuild_", "torch._tensor._rebuild_")):
            self._unbuilt.discard(name)
            return OtherTensor(name)
        if name.endswith(("._reconstructor", ".__newobj__")):
            return Unbuilt(_name_of(arguments[0]))
        return Unbuilt(name)

    def _build(self, target: Any, state: Any) -> None:
        """Sets the state of an object, which only a Parameter of torch 0.1 has here."""
        if isinstance(target, _Parameter) and isinstance(state, tuple) and len(state) == 4:
            target.tensor = self._tensor(state)

    def _storage(self, described: Any) -> Storage:
        """Returns a storage, described by its type, key, location and number of values."""
        try:
            _, kind, key, _, count, *view = described
            kind, key = kind.name, str(key)
            offset = view[0][1] if view and view[0] is not None else 0
            count = view[0][2] if view and view[0] is not None else count
        except (TypeError, ValueError, AttributeError, IndexError):
            raise ValueError("a storage has no description") from None
        if not isinstance(count, int) or not isinstance(offset, int) or min(count, offset) < 0:
            raise ValueError("a storage has no description")
        self._within(max(count, offset))
        found = Storage(kind.rpartition(".")[2].removesuffix("Storage"), key, count, offset)
        self._storages.append(found)
        return found

    def _tensor(self, arguments: Sequence[Any], *, newest: bool = False) -> object:
        """Returns a tensor, described by its storage, offset, shape and strides."""
        try:
            storage, offset, shape, strides, *others = arguments
            numbers = [offset, *shape, *strides]
            steps = [(n - 1) * step for n, step in zip(shape, strides, strict=True)]
        except (TypeError, ValueError):
            raise ValueError("the shape of a tensor is not a tuple of numbers") from None
        if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError("the shape of a tensor is not a tuple of numbers")
        last = offset + sum(steps) if 0 not in shape else 0
        self._within(max(last, *numbers))
        if 0 not in shape and last >= storage.count:
            raise ValueError(f"a tensor of {truncated(list(shape))} is larger than its storage")
        kind = _name_of(others[2]).rpartition(".")[2] if newest else storage.kind
        return Strided(storage, storage.offset + offset, (*shape,), (*strides,), kind)

    def _within(self, number: int) -> None:
        if number > self._size:
            raise refused(
                self._path,
                f"the pickle asks for {truncated(number)} values",
                f"at most {self._size}, the size of the file in bytes",
                SAVE,
            )


def plain(value: Any) -> Any:
    """Returns the tensor of a Parameter of torch 0.1, and any other value as it is."""
    return value.tensor if isinstance(value, _Parameter) else value


def _name_of(value: Any) -> str:
    return value.name if isinstance(value, Global | Unbuilt) else "an object"


def _append(target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)


def _set(target: Any, items: list[Any]) -> None:
    if not isinstance(target, dict):
        return
    if len(items) % 2:
        raise IndexError
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(key, str | int | float):  # no array has another name
            target[key] = value


def _dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """Returns a new dict, with the pairs that OrderedDict gets in Python 2."""
    made: dict[Any, Any] = {}
    for argument in arguments:
        if isinstance(argument, dict):
            made |= argument
        elif isinstance(argument, list | tuple):
            for pair in argument:
                if isinstance(pair, list | tuple) and len(pair) == 2:
                    _set(made, [*pair])
    return made
