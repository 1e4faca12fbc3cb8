"""AlexNet v2, ResNet v1 and v2 and ResNeXt as tables, exact in every published dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebear.errors import DataError, ForebearError, RunError, TableError, WeightsError
from forebear.tables.files import read_table, table_from_lists
from forebear.tables.registry import networks
from forebear.tables.rows import Average, Block, Conv, Dropout, Norm, Pool, Table

if TYPE_CHECKING:
    from forebear.network.create import create
    from forebear.network.network import Network
    from forebear.tasks.train.api import resume, train
    from forebear.tasks.train.resolve import Request
    from forebear.weights.assign import load_arrays
    from forebear.weights.load import load, read_arrays
    from forebear.weights.native_format import save

__version__ = "0.1.0"
__all__ = [
    "Average",
    "Block",
    "Conv",
    "DataError",
    "Dropout",
    "ForebearError",
    "Network",
    "Norm",
    "Pool",
    "Request",
    "RunError",
    "Table",
    "TableError",
    "WeightsError",
    "create",
    "load",
    "load_arrays",
    "networks",
    "read_arrays",
    "read_table",
    "resume",
    "save",
    "table_from_lists",
    "train",
]
# What needs torch is imported at its first use, so that help and list answer at once.
_LATE = {
    "Network": "forebear.network.network",
    "Request": "forebear.tasks.train.resolve",
    "create": "forebear.network.create",
    "load": "forebear.weights.load",
    "load_arrays": "forebear.weights.assign",
    "read_arrays": "forebear.weights.load",
    "resume": "forebear.tasks.train.api",
    "save": "forebear.weights.native_format",
    "train": "forebear.tasks.train.api",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'forebear' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LATE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
