"""Opens an ONNX file: its graph, and the arrays in it under their own names."""

from __future__ import annotations

from pathlib import Path

from forebear.weights.readers.errors import check_names, reading
from forebear.weights.readers.graph_file import GraphFile, mapped
from forebear.weights.readers.onnx.records import parse

EXPECTED = "a whole ONNX file"
# The first field is the version of the format, 1 to 127; then comes a field of ModelProto.
_VERSION, _NEXT = 0x08, b"\x12\x1a\x22\x28\x32\x3a\x42\x72"


def is_onnx(start: bytes) -> bool:
    """Whether a file with these first bytes may be an ONNX model."""
    return len(start) > 2 and start[0] == _VERSION and 0 < start[1] < 0x80 and start[2] in _NEXT


class OnnxArrays(GraphFile):
    """The initializers and the constants of an ONNX graph. The file stays open."""

    expected = EXPECTED
    library = "onnx"
    remedy = "Run other graphs with ONNX Runtime."

    def __init__(self, path: Path) -> None:
        """Reads the graph, and no array.

        Raises:
            WeightsError: The file is damaged.
        """
        self.path = path
        with reading(path, EXPECTED):
            self.graph = parse(mapped(path))
            check_names(path, self.graph.tensors)
        self.format = f"ONNX graph of {self.graph.producer or 'an unnamed program'}"
        self.entries = self.graph.tensors
