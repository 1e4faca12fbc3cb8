"""Loads arrays from an untrusted pickle without running code from it.

A pickle is a program: plain `pickle.load` calls any function that the file names. Even with a list
of allowed functions, a file of 80 bytes makes it allocate gigabytes, or hash a key for years. This
module follows the few instructions that arrays, lists and dicts need, builds the arrays from their
bytes, and raises an error for everything else.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.errors import DataError
from forebear.text import truncated

_MOST = 2_000_000  # instructions; a training file of CIFAR-100 has about 300,000
_RECONSTRUCT = frozenset(
    (f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")  # numpy 1 and 2
)  # fmt: skip
_FROM_BUFFER = frozenset(  # protocol 5
    (f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")
)
_NDARRAY, _DTYPE = ("numpy", "ndarray"), ("numpy", "dtype")
_ENCODE = ("_codecs", "encode")  # how Python 3 writes bytes in old protocols
_BYTES = frozenset((("builtins", "bytes"), ("__builtin__", "bytes")))  # empty ones
_SAFE = frozenset((*_RECONSTRUCT, *_FROM_BUFFER, _NDARRAY, _DTYPE, _ENCODE, *_BYTES))


def unpickle_arrays(pickled: bytes, where: str) -> Any:
    """Returns the dicts, lists, strings, numbers and arrays of a pickle.

    Strings written by Python 2 are returned as bytes.

    Args:
        pickled: The whole pickle.
        where: The file, for error messages.

    Raises:
        DataError: The pickle is damaged, or refers to any other global. The message names it.
    """
    try:
        return _Machine().run(pickled)
    except _ForeignGlobalError as error:
        raise DataError(
            f"{where}: the pickle refers to {error}, which was not run. Expected only numpy "
            "arrays, lists and dicts. Do not trust this file: download the data from its publisher."
        ) from None
    except Exception as error:  # a damaged pickle can raise any kind of exception
        raise DataError(
            f"{where}: not a readable pickle ({truncated(error) or type(error).__name__}). "
            "Expected numpy arrays, lists and dicts. Download the file again."
        ) from error


class _ForeignGlobalError(Exception):
    """Raised for a global that arrays do not need. The message is its name."""


@dataclass(frozen=True, slots=True)
class _Global:
    """A name that the pickle refers to."""

    name: tuple[str, str]


@dataclass(slots=True)
class _Blank:
    """An array or a dtype whose state follows in the pickle."""

    dtype: np.dtype[Any] | None  # None for an array
    memo: int | None = None  # the place that keeps it for later use


class _Machine:
    """Follows a pickle, as its format defines it, without calling anything that it names."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, pickled: bytes) -> Any:
        """Returns the value of the pickle."""
        argument: Any
        for number, (instruction, argument, _) in enumerate(pickletools.genops(pickled)):
            if number >= _MOST:
                raise ValueError(f"it has more than {_MOST:,} instructions")
            match instruction.name:
                case "PROTO" | "FRAME":
                    pass
                case "STOP":
                    return _whole(self._stack.pop())
                case "MARK":
                    self._marked.append(self._stack)
                    self._stack = []
                case "NONE" | "NEWTRUE" | "NEWFALSE":
                    self._stack.append({"NEWTRUE": True, "NEWFALSE": False}.get(instruction.name))
                case "STRING" | "BINSTRING" | "SHORT_BINSTRING":
                    self._stack.append(argument.encode("latin-1"))  # a str of Python 2
                case "GLOBAL":
                    self._refer(*argument.split(" ", 1))
                case "STACK_GLOBAL":
                    self._refer(*self._pop(2))
                case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                    self._keep(len(self._memo) if argument is None else argument)
                case "GET" | "BINGET" | "LONG_BINGET":
                    self._stack.append(self._memo[argument])
                case "REDUCE":
                    self._stack.append(_called(*self._pop(2)))
                case "BUILD":
                    self._build(*self._pop(2))
                case name if name in _CONSTANTS:
                    held = bytes(argument) if isinstance(argument, bytearray) else argument
                    self._stack.append(held)
                case name:
                    self._collect(name)
        raise EOFError("it does not end")

    def _pop(self, count: int) -> list[Any]:
        items = self._stack[-count:]
        if len(items) < count:
            raise IndexError("an instruction lacks its arguments")
        del self._stack[-count:]
        return items

    def _refer(self, module: Any, name: Any) -> None:
        if (module, name) not in _SAFE:
            raise _ForeignGlobalError(truncated(f"{module}.{name}"))
        self._stack.append(_Global((module, name)))

    def _keep(self, place: int) -> None:
        value = self._memo[place] = self._stack[-1]
        if isinstance(value, _Blank):
            value.memo = place

    def _build(self, blank: Any, state: Any) -> None:
        """Puts the array or the dtype with this state in the place of a blank one."""
        if not isinstance(blank, _Blank) or not isinstance(state, tuple):
            raise ValueError("the state of an object is not supported")
        value = _array(*state) if blank.dtype is None else _ordered(blank.dtype, *state)
        self._stack.append(value)
        if blank.memo is not None:
            self._memo[blank.memo] = value

    def _collect(self, name: str) -> None:
        """Makes a list, a tuple or a dict, or adds to one."""
        match name:
            case "EMPTY_LIST":
                self._stack.append([])
            case "EMPTY_DICT":
                self._stack.append({})
            case "EMPTY_TUPLE":
                self._stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._stack.append(tuple(self._pop(int(name[-1]))))
            case "APPEND":
                self._extend(self._pop(1))
            case "SETITEM":
                self._update(self._pop(2))
            case "LIST" | "TUPLE" | "DICT" | "APPENDS" | "SETITEMS":
                items, self._stack = self._stack, self._marked.pop()
                if name == "TUPLE":
                    self._stack.append(tuple(items))
                elif name in ("LIST", "APPENDS"):
                    self._stack += [[]] if name == "LIST" else []
                    self._extend(items)
                else:
                    self._stack += [{}] if name == "DICT" else []
                    self._update(items)
            case _:
                raise ValueError(f"the instruction {name} is not supported")

    def _extend(self, items: list[Any]) -> None:
        held = self._stack[-1]
        if not isinstance(held, list):
            raise TypeError("items are added to something other than a list")
        held += map(_whole, items)

    def _update(self, items: list[Any]) -> None:
        held = self._stack[-1]
        keys = items[::2]
        if not isinstance(held, dict) or not all(isinstance(key, str | bytes) for key in keys):
            raise TypeError("it has a dict with keys other than strings")
        held.update(zip(keys, map(_whole, items[1::2]), strict=True))


_CONSTANTS = frozenset(
    ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
     "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
     "BINBYTES8", "BYTEARRAY8")
)  # fmt: skip


def _whole(value: Any) -> Any:
    if isinstance(value, _Blank | _Global):
        raise ValueError("an array lacks its values")
    return value


def _called(function: Any, arguments: Any) -> Any:
    """Returns what one of the known functions gives for these arguments."""
    name = function.name if isinstance(function, _Global) else None
    match arguments:
        case (_Global(), *_) if name in _RECONSTRUCT:
            return _Blank(None)
        case (bytes() as content, dtype, shape, order) if name in _FROM_BUFFER:
            return _array(None, shape, dtype, order == "F", content)
        case (str() | bytes() as code, *_) if name == _DTYPE:
            return _Blank(np.dtype(code.decode() if isinstance(code, bytes) else code))
        case (str() as text, *_) if name == _ENCODE:  # always as latin-1
            return text.encode("latin-1")
        case () if name in _BYTES:
            return b""
    raise ValueError("a call with these arguments is not supported")


def _ordered(dtype: np.dtype[Any], _: Any, order: Any, *__: Any) -> np.dtype[Any]:
    """Returns a dtype of numbers in the byte order of its state."""
    if dtype.kind not in "biuf":
        raise ValueError(f"arrays of {dtype} are not supported")
    text: Any = order.decode() if isinstance(order, bytes) else order
    return dtype.newbyteorder(text)


def _array(_: Any, shape: Any, dtype: Any, fortran: Any, content: Any) -> NDArray[Any]:
    """Returns an array of numbers with these bytes as its values."""
    if not isinstance(dtype, np.dtype) or not isinstance(content, bytes):
        raise ValueError("an array of objects is not supported")
    return np.frombuffer(content, dtype).copy().reshape(shape, order="F" if fortran else "C")
