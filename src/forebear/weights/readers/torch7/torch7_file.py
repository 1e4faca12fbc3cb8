"""Opens a binary Torch7 file: a network, or a table with one, such as a checkpoint."""

from __future__ import annotations

from pathlib import Path

from forebear.text import truncated
from forebear.weights.readers.errors import check_names, reading, refused
from forebear.weights.readers.graph_file import GraphFile, mapped
from forebear.weights.readers.torch7.graph import to_graph
from forebear.weights.readers.torch7.objects import Module, Value, read_object

EXPECTED = "a whole Torch7 file with a network of the package nn"
# A table (3) or an object (4) with the index 1; an object has its version, "V 1", next.
_TABLE, _OBJECT = b"\3\0\0\0\1\0\0\0", b"\4\0\0\0\1\0\0\0"
_VERSION = b"\3\0\0\0V "
_PACKAGES = ("nn.", "cudnn.", "cunn.")


def is_torch7(start: bytes) -> bool:
    """Whether a file with these first bytes may be a binary Torch7 file."""
    if start.startswith(_OBJECT):
        return start[len(_OBJECT) :].startswith(_VERSION)
    return start.startswith(_TABLE) and _VERSION in start


class Torch7Arrays(GraphFile):
    """The arrays of a network in a Torch7 file, which stays open."""

    expected = EXPECTED
    format = "Torch7 file"
    library = "torch7"

    def __init__(self, path: Path) -> None:
        """Reads the modules, and no array.

        Raises:
            WeightsError: The file is damaged, or has no network, or several.
        """
        self.path = path
        with reading(path, EXPECTED):
            data = mapped(path)
            self.graph = to_graph(_network(path, read_object(data)), len(data))
            check_names(path, self.graph.tensors)
        self.entries = self.graph.tensors


def _network(path: Path, content: Value) -> Module:
    """Returns the network in a file: the object itself, or the only one in a table."""
    listed = {"": content} if isinstance(content, Module) else content
    found = {
        str(name): one
        for name, one in (listed.items() if isinstance(listed, dict) else ())
        if isinstance(one, Module) and one.kind.startswith(_PACKAGES)
    }
    if "model" in found:
        return found["model"]
    if len(found) == 1:
        return next(iter(found.values()))
    names = truncated(", ".join(sorted(found))) or "no network"
    raise refused(path, f"this Torch7 file has {names}", "one network", "Save it alone.")
