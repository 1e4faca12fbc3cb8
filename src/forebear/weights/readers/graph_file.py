"""A base class of readers whose files hold a graph: its nodes, and the arrays that they take."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from forebear.tables.preprocessing import Preprocessing
from forebear.untrusted import opened
from forebear.weights.readers.base import Array
from forebear.weights.readers.indexed import Listed
from forebear.weights.readers.onnx.records import OnnxGraph
from forebear.weights.readers.onnx.tensors import Tensor
from forebear.weights.readers.tensorflow.corruption import DamageError


class GraphFile(Listed[Tensor]):
    """The constants of a graph, which is described by ONNX's operations.

    Exporters fold norms into the arrays and keep their names. `forebear.weights.graphs` therefore
    reads a network by its nodes, and never by these names.
    """

    graph: OnnxGraph
    library: str  # which wrote the graph: the name of a dialect that only this file has
    remedy = "Run other networks in the library that wrote the file."
    preprocessing: Preprocessing | None = None  # of the library's networks; None: torchvision's

    def read(self, name: str, entry: Tensor) -> Array:
        """Reads one array."""
        return entry.values(self.path.parent)

    def close(self) -> None:
        """Does nothing: the file is closed when the last array is gone."""


def mapped(path: Path) -> memoryview:
    """Returns the bytes of a file, which are read from the disk when they are used.

    Raises:
        OSError: The file cannot be read.
        DamageError: It is empty.
    """
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise DamageError("it is empty")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
