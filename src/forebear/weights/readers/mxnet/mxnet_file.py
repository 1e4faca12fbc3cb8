"""Opens an MXNet .params file and the symbol next to it, which has the graph."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from pathlib import Path

from forebear.errors import WeightsError
from forebear.text import truncated
from forebear.untrusted import read_json
from forebear.weights.readers.errors import check_names, reading, refused
from forebear.weights.readers.graph_file import GraphFile, mapped
from forebear.weights.readers.mxnet.gluon import STRIDES, symbol_of_arrays
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
        """Reads the symbol, or makes one for a ResNet of Gluon, and no array.

        Raises:
            WeightsError: There is no symbol, or one of the files is damaged.
        """
        self.path = path
        with reading(path, EXPECTED):
            arrays = _by_variable(read_arrays(mapped(path)))
            check_names(path, arrays)
            symbol = symbol_of(path)
            if symbol.is_file():
                with reading(symbol, "the symbol of an MXNet network"):
                    self.graph = to_graph(read_json(symbol), arrays)
            elif (made := symbol_of_arrays(arrays)) is not None:
                self.graph = to_graph(made, arrays)
                _check_all_taken(path, arrays, self.graph.tensors)
                self.notes = (STRIDES,)
            else:
                raise _without_graph(path, symbol)
        self.entries = self.graph.tensors


def _without_graph(path: Path, symbol: Path) -> WeightsError:
    return refused(
        path,
        "this is an MXNet file of arrays, whose graph is in another file",
        f"{truncated(symbol.name)} next to it, as HybridBlock.export writes it",
        "Put it there. If there is none, build the network in MXNet, and call "
        "net.load_parameters(path), net.hybridize(), net(images) and net.export(name).",
    )


def _check_all_taken(path: Path, arrays: Iterable[str], taken: Container[str]) -> None:
    """Checks that a symbol that was made of names has all arrays.

    Raises:
        WeightsError: It lacks one, so that the class is another.
    """
    left = [name for name in arrays if name not in taken]
    if left:
        raise refused(
            path,
            "these are parameters of Gluon, and no ResNet of its model zoo has "
            f"{truncated(left[0])}",
            "a ResNet of MXNet's gluon/model_zoo/vision/resnet.py, or a symbol next to the file",
            "Export the network with HybridBlock.export.",
        )


def _by_variable(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns arrays without the arg: and aux: before their names."""
    found: dict[str, Tensor] = {}
    for name, array in arrays.items():
        short = name[4:] if name.startswith(_PREFIXES) else name
        if short in found:
            raise DamageError(f"two of its arrays are called {truncated(short)}")
        found[short] = array
    return found
