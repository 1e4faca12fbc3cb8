"""Loads arrays from an untrusted pickle without running code from it.

A pickle is a program: plain `pickle.load` calls any function that the file names. This unpickler
allows only the callables that rebuild a numpy array, and raises an error for any other name.
"""

from __future__ import annotations

import codecs
import pickle
from io import BytesIO
from typing import Any

import numpy as np

from forebear.errors import DataError
from forebear.text import truncated

_RECONSTRUCT = np.ndarray(0).__reduce__()[0]  # its module depends on the numpy version

_SAFE: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,  # numpy 1
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,  # numpy 2
    ("_codecs", "encode"): codecs.encode,  # how Python 3 writes bytes in old protocols
    ("builtins", "bytes"): bytes,
    ("__builtin__", "bytes"): bytes,
}


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
        return _ArraysUnpickler(BytesIO(pickled), encoding="bytes").load()
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


class _ArraysUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _SAFE[module, name]
        except KeyError:
            raise _ForeignGlobalError(truncated(f"{module}.{name}")) from None
