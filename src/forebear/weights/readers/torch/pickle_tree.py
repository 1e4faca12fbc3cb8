"""Follows the instructions of a torch pickle and returns its dicts, lists, numbers and tensors.

Nothing is imported, called or constructed for the file: every object is a container made here, or
one of `pickle_values`. A tensor is described, and its values stay in the file. A file is refused if
it asks for a global that may act, or for more than its size can hold.
"""

from __future__ import annotations

import pickletools
from io import BytesIO
from pathlib import Path
from typing import Any

from forebear.text import truncated
from forebear.weights.readers.errors import reading, refused
from forebear.weights.readers.torch.pickle_values import (
    EXPECTED,
    Storage,
    Unbuilt,
    Values,
    set_items,
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


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
    machine = _Machine(path, Values(path, size, unbuilt, [] if storages is None else storages))
    for _ in range(count):
        with reading(path, EXPECTED):
            try:
                found.append(machine.follow(file))
            except (IndexError, KeyError):  # from the stack, or from the memo
                raise ValueError("an instruction of the pickle lacks its arguments") from None
    return found, file.tell()


class _Machine:
    """An unpickler that builds containers, descriptions of tensors, and nothing else."""

    def __init__(self, path: Path, values: Values) -> None:
        self._path, self._values = path, values
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

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
                stack.append(self._values.find(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(self._values.find(*self._pop(2)))
            case "BINPERSID":
                stack.append(self._values.storage(*self._pop(1)))
            case "REDUCE" | "NEWOBJ":
                stack.append(self._values.call(*self._pop(2)))
            case "NEWOBJ_EX":
                stack.append(self._values.call(*self._pop(3)[:2]))
            case "INST":
                items = self._to_mark()
                function = self._values.find(*argument.split(" ", 1))
                self._stack.append(self._values.call(function, (*items,)))
            case "OBJ":
                function, *items = self._to_mark()
                self._stack.append(self._values.call(function, (*items,)))
            case "BUILD":
                (state,) = self._pop(1)
                self._values.build(stack[-1], state)
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
                set_items(self._stack[-1], items)
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
                set_items(self._stack[-1], items)
            case "SETITEMS":
                items = self._to_mark()
                set_items(self._stack[-1], items)
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
        self._values.count(1)
        self._stack.append(value)


def _append(target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)
