"""Opens a Caffe model: a .caffemodel holds layers, how they are linked, and their arrays."""

from __future__ import annotations

import re
from pathlib import Path

from forebear.tables.preprocessing import CAFFE
from forebear.weights.readers.caffe.graph import to_graph
from forebear.weights.readers.caffe.layers import OldCaffeError, parse
from forebear.weights.readers.errors import check_names, reading, refused
from forebear.weights.readers.graph_file import GraphFile, mapped
from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.protobuf import varint

EXPECTED = "a whole Caffe model"
_PRINTABLE = re.compile(rb"[ -~]*\Z")
# The tags that can follow the name of a network: layers, input and its dims, flags, and layer.
_NEXT = (b"\x12", b"\x1a", b"\x20", b"\x22", b"\x28", b"\x32", b"\x38", b"\x42", b"\xa2\x06")
_COLOURS = "images are BGR, less the mean colour of Caffe; the originals subtract a mean image"
_POOLS = (
    "its pools are read for images of {} pixels; at sizes whose maps have an odd side before a "
    "pool, Caffe's windows lie elsewhere"
)


def is_caffe(start: bytes) -> bool:
    """Whether a file with these first bytes may be a Caffe model: its name, and what follows it."""
    if start.startswith(_NEXT[-1]):
        return True
    try:
        length, at = varint(memoryview(start), 1)
    except DamageError:
        return False
    name, after = start[at : at + length], start[at + length :]
    return start[:1] == b"\x0a" and bool(_PRINTABLE.match(name)) and after.startswith(_NEXT)


class CaffeArrays(GraphFile):
    """The arrays of a Caffe model. The file stays open."""

    expected = EXPECTED
    format = "Caffe model"
    library = "caffe"
    preprocessing = CAFFE

    def __init__(self, path: Path) -> None:
        """Reads the layers, and no array but those of the norms.

        Raises:
            WeightsError: The file is damaged, or its layers are older than batch norms.
        """
        self.path = path
        with reading(path, EXPECTED):
            try:
                self.graph = to_graph(parse(mapped(path)))
            except OldCaffeError as error:
                raise refused(
                    path,
                    f"this is a Caffe model without batch norm: {error}, when there were AlexNet, "
                    "GoogLeNet and VGG, but no ResNet",
                    "a ResNet or a ResNeXt",
                    "Caffe's upgrade_net_proto_binary updates such a file.",
                ) from error
            check_names(path, self.graph.tensors)
        self.entries = self.graph.tensors
        self.notes = (_COLOURS, _POOLS.format(self.graph.inputs[0].dims[2]))
