"""The packages that only some sources of data need."""

from __future__ import annotations

import importlib
from typing import Any

from forebear.errors import DataError


def extra(module: str, package: str, *, group: str = "data") -> Any:
    """The imported module of an optional package, which `group` of forebear's extras brings.

    Raises:
        DataError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"{package} cannot be imported ({error}). Expected it for this kind of data. "
            f"Run: pip install 'forebear[{group}]'"
        ) from error
