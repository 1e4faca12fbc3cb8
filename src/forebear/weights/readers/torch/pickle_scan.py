"""What a torch pickle asks for, read off its instructions without following any of them.

torch.load(weights_only=True) is what protects from code; this comes before it, names the culprit,
and stops what would exhaust the machine: storages and tensors beyond the file, which torch makes
room for before it finds out, and tuples nested so deep that the C stack ends.
"""

from __future__ import annotations

import pickletools
from io import BytesIO
from pathlib import Path
from typing import Any

from forebear.text import truncated
from forebear.weights.readers.errors import reading, refused

MAX_PICKLE = 16 * 2**20  # bytes; ResNet-1202's state dict has 1.3 MB of pickle
_MAX_TUPLES = 50_000  # in all; a tensor takes 4
_EXPECTED = "a pickled state dict: names, dense tensors and plain numbers"
_SAVE = "Do not trust this file, or save model.state_dict() alone where it was made."
_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_TENSORS = ("torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2")  # before 0.4, since
_DICT = "collections OrderedDict"
_ALLOWED = frozenset(
    {
        _DICT,
        *_TENSORS,
        "collections Counter",  # in the schedule's state beside the weights
        "torch Size",
        "torch._utils _rebuild_parameter",
        "torch.nn.parameter Parameter",
        *(f"torch {kind}Storage" for kind in _STORAGES),
    }
)


def check_pickles(path: Path, start: bytes, count: int) -> None:
    """Looks through the `count` pickles with which `start` begins.

    Raises:
        WeightsError: one asks for a global that state dicts do not need, which is named, or for
            more room than the file fills, or is cut short or damaged.
    """
    file, size = BytesIO(start), path.stat().st_size
    for _ in range(count):
        with reading(path, _EXPECTED):
            try:
                _Stack(path, size).follow(file)
            except (IndexError, KeyError):  # of its stack, of its memo
                raise ValueError("an instruction without its arguments") from None


class _Stack:
    """An unpickler's stack on which only numbers, tuples and names of globals are told apart."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size  # of the file: more values than that no storage has
        self._stack: list[Any] = []  # int, tuple, name, or None for anything else
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._tuples = 0

    def follow(self, file: BytesIO) -> None:
        """Goes through one pickle; knows the instructions that torch knows under weights_only."""
        argument: Any
        for instruction, argument, _ in pickletools.genops(file):
            match instruction.name:
                case "GLOBAL" | "INST" | "STACK_GLOBAL":
                    self._stack.append(self._allowed(argument))
                case "BININT" | "BININT1" | "BININT2" | "LONG1":
                    self._stack.append(argument)
                case "EMPTY_DICT":
                    self._stack.append(_DICT)
                case "NONE" | "NEWTRUE" | "NEWFALSE" | "BINFLOAT" | "BINUNICODE":
                    self._stack.append(None)
                case "SHORT_BINSTRING" | "EMPTY_LIST" | "EMPTY_SET":
                    self._stack.append(None)
                case "EMPTY_TUPLE":
                    self._tuple([])
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    self._tuple(self._pop(int(instruction.name[-1])))
                case "MARK":
                    self._marked.append(self._stack)
                    self._stack = []
                case "TUPLE":
                    items, self._stack = self._stack, self._marked.pop()
                    self._tuple(items)
                case "APPENDS" | "SETITEMS":
                    self._stack = self._marked.pop()
                case "APPEND":
                    self._pop(1)
                case "SETITEM":
                    self._pop(2)
                case "BINPUT" | "LONG_BINPUT":
                    self._memo[argument] = self._stack[-1]
                case "BINGET" | "LONG_BINGET":
                    self._stack.append(self._memo[argument])
                case "BINPERSID":
                    self._storage(*self._pop(1))
                case "REDUCE" | "NEWOBJ":
                    self._call(*self._pop(2))
                case "BUILD":
                    self._state(*self._pop(1))
                case "STOP":
                    return
                case "PROTO" if argument == 2:
                    pass
                case name:
                    raise refused(
                        self._path,
                        f"a pickle with the instruction {name} "
                        f"{truncated(argument or '')}".rstrip(),
                        "those that torch.save writes",
                        "Save it again with torch.save, without pickle_protocol.",
                    )

    def _allowed(self, name: str | None) -> str:
        if name not in _ALLOWED:
            asked = truncated((name or "a name that it computes").replace(" ", "."))
            what = f"the pickle asks for {asked}; nothing was run"
            raise refused(self._path, what, _EXPECTED, _SAVE)
        return str(name)

    def _pop(self, count: int) -> list[Any]:
        items = self._stack[-count:]
        if len(items) < count:
            raise IndexError
        del self._stack[-count:]
        return items

    def _tuple(self, items: list[Any]) -> None:
        """Pushes a tuple, of which tuples of tuples are left out."""
        self._tuples += 1
        if self._tuples > _MAX_TUPLES:
            raise ValueError(f"more than {_MAX_TUPLES} tuples")
        self._stack.append(tuple(None if _deep(item) else item for item in items))

    def _storage(self, key: Any) -> None:
        """A storage: its type, its key, its place and its number of values."""
        if not isinstance(key, tuple):
            raise ValueError("a storage without a description")
        parts = [part for item in key for part in (item if isinstance(item, tuple) else [item])]
        self._within(max((part for part in parts if isinstance(part, int)), default=0))
        self._stack.append(None)

    def _call(self, function: Any, arguments: Any) -> None:
        if function in _TENSORS:
            self._tensor(arguments)
        self._stack.append(_DICT if function == _DICT else None)

    def _state(self, state: Any) -> None:
        """What an object is told to be: a Parameter by storage and shape (0.1), or by a dict."""
        if isinstance(state, tuple) and len(state) == 4:
            self._tensor(state)
        elif not isinstance(state, tuple) and state != _DICT:
            raise ValueError("an object in a state that none has")

    def _tensor(self, arguments: Any) -> None:
        """A tensor: storage, offset, shape, strides."""
        try:
            _, offset, shape, strides, *_ = arguments
            steps = [(n - 1) * step for n, step in zip(shape, strides, strict=True) if n]
            last = offset + sum(steps)
        except (TypeError, ValueError):
            raise ValueError("a tensor whose shape is no tuple of numbers") from None
        self._within(max(last, *shape, *strides, 0))

    def _within(self, number: int) -> None:
        if number > self._size:
            raise refused(
                self._path,
                f"the pickle asks for {truncated(number)} values",
                f"at most the file's {self._size} bytes",
                _SAVE,
            )


def _deep(item: Any) -> bool:
    return isinstance(item, tuple) and any(isinstance(part, tuple) for part in item)
