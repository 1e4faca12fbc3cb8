"""Checks the instructions of a torch pickle without executing them.

torch.load(weights_only=True) prevents the execution of code. This check runs before it, and its
errors name the global that a pickle asks for. It also rejects pickles that would exhaust the
machine: storages and tensors larger than the file, for which torch allocates memory before it
notices, and tuples that are nested deeply enough to overflow the C stack.
"""

from __future__ import annotations

import pickletools
from io import BytesIO
from pathlib import Path
from typing import Any

from forebear.text import truncated
from forebear.weights.readers.errors import reading, refused

MAX_PICKLE = 16 * 2**20  # bytes; ResNet-1202's state dict has 1.3 MB of pickle
_MAX_TUPLES = 50_000  # in total; a tensor takes 4
_EXPECTED = "a pickled state dict: names, dense tensors and plain numbers"
_SAVE = "Do not trust this file, or save only model.state_dict() where it was made."
_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
# The first one was used before torch 0.4.
_TENSORS = ("torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2")
_DICT = "collections OrderedDict"
_ALLOWED = frozenset(
    {
        _DICT,
        *_TENSORS,
        "collections Counter",  # in the state of a schedule that is saved with the weights
        "torch Size",
        "torch._utils _rebuild_parameter",
        "torch.nn.parameter Parameter",
        *(f"torch {kind}Storage" for kind in _STORAGES),
    }
)


def check_pickles(path: Path, start: bytes, count: int) -> None:
    """Checks the first `count` pickles in `start`.

    Raises:
        WeightsError: A pickle asks for a global that state dicts do not need, which the message
            names, or for more memory than the size of the file, or it is truncated or damaged.
    """
    file, size = BytesIO(start), path.stat().st_size
    for _ in range(count):
        with reading(path, _EXPECTED):
            try:
                _Stack(path, size).follow(file)
            except (IndexError, KeyError):  # from the stack, or from the memo
                raise ValueError("an instruction of the pickle lacks its arguments") from None


class _Stack:
    """An unpickler's stack that only distinguishes numbers, tuples and names of globals."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size  # of the file in bytes; no storage has more values
        self._stack: list[Any] = []  # int, tuple, name, or None for anything else
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._tuples = 0

    def follow(self, file: BytesIO) -> None:
        """Checks one pickle. It supports the same instructions as torch with weights_only=True."""
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
                        f"its pickle has the instruction {name} "
                        f"{truncated(argument or '')}".rstrip(),
                        "only instructions that torch.save writes",
                        "Save it again with torch.save, without pickle_protocol.",
                    )

    def _allowed(self, name: str | None) -> str:
        if name not in _ALLOWED:
            asked = truncated((name or "a computed name").replace(" ", "."))
            what = f"the pickle asks for {asked}; nothing was executed"
            raise refused(self._path, what, _EXPECTED, _SAVE)
        return str(name)

    def _pop(self, count: int) -> list[Any]:
        items = self._stack[-count:]
        if len(items) < count:
            raise IndexError
        del self._stack[-count:]
        return items

    def _tuple(self, items: list[Any]) -> None:
        """Pushes a tuple, in which items that are tuples of tuples are replaced with None."""
        self._tuples += 1
        if self._tuples > _MAX_TUPLES:
            raise ValueError(f"it has more than {_MAX_TUPLES} tuples")
        self._stack.append(tuple(None if _deep(item) else item for item in items))

    def _storage(self, key: Any) -> None:
        """Checks a storage, described by its type, key, location and number of values."""
        if not isinstance(key, tuple):
            raise ValueError("a storage has no description")
        parts = [part for item in key for part in (item if isinstance(item, tuple) else [item])]
        self._within(max((part for part in parts if isinstance(part, int)), default=0))
        self._stack.append(None)

    def _call(self, function: Any, arguments: Any) -> None:
        if function in _TENSORS:
            self._tensor(arguments)
        self._stack.append(_DICT if function == _DICT else None)

    def _state(self, state: Any) -> None:
        """Checks the state of an object: that of a Parameter in torch 0.1, a tuple, or a dict."""
        if isinstance(state, tuple) and len(state) == 4:
            self._tensor(state)
        elif not isinstance(state, tuple) and state != _DICT:
            raise ValueError("the state of an object is not supported")

    def _tensor(self, arguments: Any) -> None:
        """Checks a tensor, described by its storage, offset, shape and strides."""
        try:
            _, offset, shape, strides, *_ = arguments
            steps = [(n - 1) * step for n, step in zip(shape, strides, strict=True) if n]
            last = offset + sum(steps)
        except (TypeError, ValueError):
            raise ValueError("the shape of a tensor is not a tuple of numbers") from None
        self._within(max(last, *shape, *strides, 0))

    def _within(self, number: int) -> None:
        if number > self._size:
            raise refused(
                self._path,
                f"the pickle asks for {truncated(number)} values",
                f"at most {self._size}, the size of the file in bytes",
                _SAVE,
            )


def _deep(item: Any) -> bool:
    return isinstance(item, tuple) and any(isinstance(part, tuple) for part in item)
