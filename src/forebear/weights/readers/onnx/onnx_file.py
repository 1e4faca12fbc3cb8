"""Opens an ONNX file: its graph, and the arrays in it under their own names."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from forebear.untrusted import opened
from forebear.weights.readers.base import Array
from forebear.weights.readers.errors import check_names, reading
from forebear.weights.readers.indexed import Listed
from forebear.weights.readers.onnx.records import OnnxGraph, parse
from forebear.weights.readers.onnx.tensors import Tensor
from forebear.weights.readers.tensorflow.corruption import DamageError

EXPECTED = "a whole ONNX file"
# The first field is the version of the format, 1 to 127; then comes a field of ModelProto.
_VERSION, _NEXT = 0x08, b"\x12\x1a\x22\x28\x32\x3a\x42\x72"


def is_onnx(start: bytes) -> bool:
    """Whether a file with these first bytes may be an ONNX model."""
    return len(start) > 2 and start[0] == _VERSION and 0 < start[1] < 0x80 and start[2] in _NEXT


class OnnxArrays(Listed[Tensor]):
    """The initializers and the constants of an ONNX graph. The file stays open.

    Exporters fold norms into the arrays and keep their names. `forebear.weights.graphs` therefore
    reads a network by its nodes, and never by these names.
    """

    expected = EXPECTED

    def __init__(self, path: Path) -> None:
        """Reads the graph, and no array.

        Raises:
            WeightsError: The file is damaged.
        """
        self.path = path
        with reading(path, EXPECTED):
            with opened(path) as file:
                if os.fstat(file.fileno()).st_size == 0:
                    raise DamageError("it is empty")
                whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            self.graph: OnnxGraph = parse(whole)
            check_names(path, self.graph.tensors)
        self.format = f"ONNX graph of {self.graph.producer or 'an unnamed program'}"
        self.entries = self.graph.tensors

    def read(self, name: str, entry: Tensor) -> Array:
        """Reads one array."""
        return entry.values(self.path.parent)

    def close(self) -> None:
        """Does nothing: the file is closed when the last array is gone."""
