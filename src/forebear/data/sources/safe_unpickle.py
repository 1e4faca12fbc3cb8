"""Arrays out of a pickle from elsewhere, without running anything that it asks for.

A pickle is a program: plain `pickle.load` calls whatever function the file names. Here the only
callables are those that rebuild a numpy array; any other name ends the reading.
"""

from __future__ import annotations

import codecs
import pickle
from io import BytesIO
from typing import Any

import numpy as np

from forebear.errors import DataError
from forebear.text import printable

_RECONSTRUCT = np.ndarray(0).__reduce__()[0]  # wherever this numpy keeps it

_SAFE: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,  # numpy 1
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,  # numpy 2
    ("_codecs", "encode"): codecs.encode,  # how Python 3 spells bytes in old protocols
    ("builtins", "bytes"): bytes,
    ("__builtin__", "bytes"): bytes,
}


def unpickle_arrays(pickled: bytes, where: str) -> Any:
    """The dicts, lists, strings, numbers and arrays of a pickle; Python 2's strings as bytes.

    Args:
        pickled: The whole pickle.
        where: The file, for messages.

    Raises:
        DataError: It asks for any other global, which it names, or is damaged.
    """
    try:
        return _ArraysUnpickler(BytesIO(pickled), encoding="bytes").load()
    except _ForeignGlobalError as error:
        raise DataError(
            f"{where}: the pickle asks for {error}; nothing was run. Expected only numpy arrays, "
            "lists and dicts. Do not trust this file: fetch the data from its publisher."
        ) from None
    except Exception as error:  # a damaged pickle leads the reader anywhere
        raise DataError(
            f"{where}: not a readable pickle ({printable(error) or type(error).__name__}). "
            "Expected numpy arrays, lists and dicts. Fetch the file again."
        ) from error


class _ForeignGlobalError(Exception):
    """Its text is the name of a global that is not for arrays."""


class _ArraysUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _SAFE[module, name]
        except KeyError:
            raise _ForeignGlobalError(printable(f"{module}.{name}")) from None
