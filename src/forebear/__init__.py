"""AlexNet v2, ResNet v1 and v2 and ResNeXt as tables, exact in every published dialect."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from forebear.errors import DataError, ForebearError, RunError, TableError, WeightsError
from forebear.tables.dialects import Dialect
from forebear.tables.preprocessing import Preprocessing
from forebear.tables.rows import Average, Block, Conv, Dropout, Norm, Pool, Table
from forebear.version import __version__ as __version__

if TYPE_CHECKING:
    from forebear.engines.classifier import Classifier
    from forebear.network.accelerate import accelerate
    from forebear.network.create import create
    from forebear.network.network import Network
    from forebear.tables.files import read_table, table_from_lists
    from forebear.tables.registry import networks
    from forebear.tasks.train.api import TrainResult, resume, train
    from forebear.tasks.train.events import observe
    from forebear.tasks.train.request import TrainConfig
    from forebear.tasks.tune.config import TuneConfig
    from forebear.tasks.tune.job import tune
    from forebear.tasks.tune.results import TuneResult
    from forebear.weights.assign import load_arrays
    from forebear.weights.load import load, read_arrays
    from forebear.weights.native_format import save

__all__ = [
    "Average",
    "Block",
    "Classifier",
    "Conv",
    "DataError",
    "Dialect",
    "Dropout",
    "ForebearError",
    "Network",
    "Norm",
    "Pool",
    "Preprocessing",
    "RunError",
    "Table",
    "TableError",
    "TrainConfig",
    "TrainResult",
    "TuneConfig",
    "TuneResult",
    "WeightsError",
    "accelerate",
    "create",
    "load",
    "load_arrays",
    "networks",
    "observe",
    "read_arrays",
    "read_table",
    "resume",
    "save",
    "table_from_lists",
    "train",
    "tune",
]
# What needs torch or takes time is imported at its first use, so that programs start at once.
_LATE = {
    "Classifier": "forebear.engines.classifier",
    "Network": "forebear.network.network",
    "TrainConfig": "forebear.tasks.train.request",
    "TrainResult": "forebear.tasks.train.api",
    "TuneConfig": "forebear.tasks.tune.config",
    "TuneResult": "forebear.tasks.tune.results",
    "accelerate": "forebear.network.accelerate",
    "create": "forebear.network.create",
    "load": "forebear.weights.load",
    "load_arrays": "forebear.weights.assign",
    "networks": "forebear.tables.registry",
    "observe": "forebear.tasks.train.events",
    "read_arrays": "forebear.weights.load",
    "read_table": "forebear.tables.files",
    "resume": "forebear.tasks.train.api",
    "save": "forebear.weights.native_format",
    "table_from_lists": "forebear.tables.files",
    "train": "forebear.tasks.train.api",
    "tune": "forebear.tasks.tune.job",
}


_RENAMED = {"Request": "TrainConfig"}  # public names of older versions


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        import warnings

        new = _RENAMED[name]
        warnings.warn(f"forebear.{name} is now forebear.{new}", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[__name__], new)
    if name not in _LATE:
        raise AttributeError(f"module 'forebear' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LATE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
