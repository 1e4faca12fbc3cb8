"""Stands in for what the objects of a torch pickle are: descriptions of tensors, and nothing else.

Nothing is imported, called or constructed for the file. An object of an unknown class becomes
`Unbuilt`, and what the file passes to it is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.errors import WeightsError
from forebear.limits import PICKLE_OBJECTS
from forebear.text import truncated
from forebear.weights.readers.errors import refused
from forebear.weights.readers.torch import pickle_globals as known

SAVE = "Do not trust this file, or save only model.state_dict() where it was made."
EXPECTED = "a pickled state dict: names, dense tensors and plain numbers"
# The kinds of tensors that functions of torch._utils rebuild.
_KINDS = {"sparse": "a sparse layout", "qtensor": "quantised values", "meta": "no values (meta)"}


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
class Parameter:
    """A Parameter of torch 0.1, whose tensor is in its state."""

    tensor: object = None


class Values:
    """Makes the values of one file. It counts them, and bounds what they ask for."""

    def __init__(self, path: Path, size: int, unbuilt: set[str], storages: list[Storage]) -> None:
        """Takes the file, its size, and where to add unknown classes and storages."""
        self._path, self._size = path, size
        self._unbuilt, self._storages = unbuilt, storages
        self._objects = 0

    def count(self, objects: int) -> None:
        """Counts objects. Raises ValueError if there are too many."""
        self._objects += objects
        if self._objects > PICKLE_OBJECTS:
            raise ValueError(f"it has more than {PICKLE_OBJECTS} objects")

    def find(self, *parts: object) -> Global:
        """Returns a global, named by its module and its name in it.

        Raises:
            WeightsError: It may act when it is called.
            ValueError: The parts are not text.
        """
        if not all(isinstance(part, str) for part in parts):
            raise ValueError("a global has no name")
        name = ".".join(map(str, parts))
        if known.is_refused(name) and name not in known.MEMBER:
            raise self._refused(name)
        if not known.is_ordinary(name):
            self._unbuilt.add(name)
        return Global(name)

    def call(self, function: Any, arguments: Any) -> Any:
        """Returns what stands for the result of a call."""
        self.count(1)
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            return Unbuilt("an object")
        name = function.name
        if name in known.MEMBER:
            return self._member(name, arguments)
        if name in known.DICTS:
            copied = (argument for argument in arguments if isinstance(argument, dict | list))
            self.count(sum(map(len, copied)))
            return _dict(arguments)
        if name in known.TENSORS:
            return self._tensor(arguments, newest=name.endswith("_v3"))
        if name in known.PARAMETERS:
            return arguments[0]
        if name == known.PARAMETER:
            return arguments[0] if arguments else Parameter()
        if name == known.SIZE:
            return arguments[0]
        if name == known.FROM_TYPE:
            rebuild, kind, inner, *_ = arguments
            plain = isinstance(kind, Global) and kind.name in known.TENSOR_TYPES
            return self.call(rebuild, inner) if plain else OtherTensor(f"the type {_name_of(kind)}")
        if name.startswith(("torch._utils._rebuild_", "torch._tensor._rebuild_")):
            self._unbuilt.discard(name)
            kinds = (kind for part, kind in _KINDS.items() if part in name)
            return OtherTensor(next(kinds, name))
        if name.endswith(("._reconstructor", ".__newobj__")):
            return Unbuilt(_name_of(arguments[0]))
        return Unbuilt(name)

    def _member(self, name: str, arguments: tuple[Any, ...]) -> Unbuilt:
        """Returns what stands for a member of an Enum. Any other use of getattr is refused."""
        match arguments:
            case (Global(name=owner), str(word)) if word.isidentifier() and word[0] != "_":
                return Unbuilt(owner)
        raise self._refused(name)

    def _refused(self, name: str) -> WeightsError:
        what = f"the pickle asks for {truncated(name)}; nothing was executed"
        return refused(self._path, what, EXPECTED, SAVE)

    def build(self, target: Any, state: Any) -> None:
        """Sets the state of an object, which only a Parameter of torch 0.1 has here."""
        if isinstance(target, Parameter) and isinstance(state, tuple) and len(state) == 4:
            target.tensor = self._tensor(state)

    def storage(self, described: Any) -> Storage | Unbuilt:
        """Returns a storage, described by its type, key, location and number of values.

        Files before torch 1.6 also store the source code of modules in this way.
        """
        if isinstance(described, tuple) and described[:1] == ("module",):
            return Unbuilt(_name_of(described[1]))
        try:
            _, kind, key, _, count, *view = described
            kind, key = kind.name, str(key) if isinstance(key, int) else key
            offset = view[0][1] if view and view[0] is not None else 0
            count = view[0][2] if view and view[0] is not None else count
        except (TypeError, ValueError, AttributeError, IndexError):
            raise ValueError("a storage has no description") from None
        numbers = type(count) is int and type(offset) is int and min(count, offset) >= 0
        if not numbers or not isinstance(key, str):
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
    return value.tensor if isinstance(value, Parameter) else value


def _name_of(value: Any) -> str:
    return value.name if isinstance(value, Global | Unbuilt) else "an object"


def set_items(target: Any, items: list[Any]) -> None:
    """Sets keys and values of a dict, each key followed by its value; ignores other targets."""
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
                    set_items(made, [*pair])
    return made
