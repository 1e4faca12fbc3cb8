"""Parses the HDF5 messages that describe an array: its shape, and the type of its values.

Sections IV.A.2.b (dataspace) and IV.A.2.d (datatype) of the HDF5 file format specification 3.0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

_MAX_DIMENSIONS = 32  # HDF5's limit
# {bytes: (position and size of the exponent, position and size of the mantissa, bias)}
_IEEE = {
    2: (10, 5, 0, 10, 15),
    4: (23, 8, 0, 23, 127),
    8: (52, 11, 0, 52, 1023),
}
_BFLOAT16 = (7, 8, 0, 7, 127)


@dataclass(frozen=True, slots=True)
class Kind:
    """The type of a dataset's or an attribute's values."""

    kind: Literal["number", "bfloat16", "opaque", "string", "pointer to string", "other"]
    size: int  # bytes of one value
    dtype: np.dtype[Any] | None = None  # the stored dtype, if the values are numbers


def parse_shape(message: bytes) -> tuple[int, ...]:
    """Returns the shape in a dataspace message; (0,) for a null dataspace.

    Raises:
        ValueError: The message is not supported.
        struct.error: The message is too short.
    """
    version, dimensions, _, kind = struct.unpack_from("<BBBB", message)
    if version not in (1, 2) or dimensions > _MAX_DIMENSIONS:
        raise ValueError(
            f"a dataspace of version {version} with {dimensions} dimensions is not supported"
        )
    if version == 2 and kind == 2:
        return (0,)
    return struct.unpack_from(f"<{dimensions}Q", message, 8 if version == 1 else 4)


def parse_kind(message: bytes) -> Kind:
    """Returns the type in a datatype message; "other" for types that weights do not have.

    Raises:
        struct.error: The message is too short.
    """
    which, bits, size = struct.unpack_from("<BB2xI", message)
    order = ">" if bits & 1 else "<"
    if which & 15 == 0 and size in (1, 2, 4, 8):
        if struct.unpack_from("<HH", message, 8) == (0, 8 * size):
            return Kind("number", size, np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}"))
    elif which & 15 == 1 and size in _IEEE and not bits & 64:  # 64: the VAX's byte order
        layout = struct.unpack_from("<BBBBI", message, 12)
        if struct.unpack_from("<HH", message, 8) == (0, 8 * size):
            if layout == _IEEE[size]:
                return Kind("number", size, np.dtype(f"{order}f{size}"))
            if size == 2 and layout == _BFLOAT16:
                return Kind("bfloat16", size, np.dtype(f"{order}u2"))
    elif which & 15 == 3:
        return Kind("string", size)
    elif which & 15 == 5:
        return Kind("opaque", size, np.dtype("<u2") if size == 2 else None)
    elif which & 15 == 9 and bits & 15 == 1 and size == 16:
        return Kind("pointer to string", size)
    return Kind("other", size)
