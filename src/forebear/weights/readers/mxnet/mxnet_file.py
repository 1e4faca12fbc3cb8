"""Opens an MXNet .params file and the symbol next to it, which has the graph."""

from __future__ import annotations

import re
from pathlib import Path

from forebear.text import truncated
from forebear.untrusted import read_json
from forebear.weights.readers.errors import check_names, reading, refused
from forebear.weights.readers.graph_file import GraphFile, mapped
from forebear.weights.readers.mxnet.graph import to_graph
from forebear.weights.readers.mxnet.ndarrays import MAGIC, read_arrays
from forebear.weights.readers.onnx.tensors import Tensor
from forebear.weights.readers.tensorflow.corruption import DamageError

EXPECTED = "a whole MXNet file with its symbol, as HybridBlock.export writes them"
_EPOCH = re.compile(r"(?:-\d{4})?\.params\Z")  # NAME-0000.params
_PREFIXES = ("arg:", "aux:")


def is_mxnet(start: bytes) -> bool:
    """Whether a file with these first bytes is a list of MXNet's arrays."""
    return start.startswith(MAGIC)


def symbol_of(path: Path) -> Path:
    """Returns where the symbol of a .params file is: NAME-symbol.json for NAME-0000.params."""
    return path.with_name(f"{_EPOCH.sub('', path.name)}-symbol.json")


class MxnetArrays(GraphFile):
    """The arrays of an MXNet network. The file stays open."""

    expected = EXPECTED
    format = "MXNet file"
    library = "mxnet"

    def __init__(self, path: Path) -> None:
        """Reads the symbol, and no array.

        Raises:
            WeightsError: There is no symbol, or one of the files is damaged.
        """
        self.path = path
        symbol = symbol_of(path)
        if not symbol.is_file():
            raise refused(
                path,
                "this is an MXNet file of arrays, whose graph is in another file",
                f"{truncated(symbol.name)} next to it, as HybridBlock.export writes it",
                "Put it there. If there is none, build the network in MXNet, and call "
                "net.load_parameters(path), net.hybridize(), net(images) and net.export(name).",
            )
        with reading(path, EXPECTED):
            arrays = _by_variable(read_arrays(mapped(path)))
            check_names(path, arrays)
            with reading(symbol, "the symbol of an MXNet network"):
                self.graph = to_graph(read_json(symbol), arrays)
        self.entries = self.graph.tensors


def _by_variable(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns arrays without the arg: and aux: before their names."""
    found: dict[str, Tensor] = {}
    for name, array in arrays.items():
        short = name[4:] if name.startswith(_PREFIXES) else name
        if short in found:
            raise DamageError(f"two of its arrays are called {truncated(short)}")
        found[short] = array
    return found
