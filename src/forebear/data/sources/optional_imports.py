"""Imports of the optional packages that some kinds of data need."""

from __future__ import annotations

import importlib
from typing import Any

from forebear.errors import DataError


def extra(module: str, package: str, *, group: str = "data") -> Any:
    """Imports and returns a module of an optional package.

    Args:
        module: Module to import.
        package: Name of the package in the error message.
        group: forebear's extra that installs the package.

    Raises:
        DataError: The package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"{package} cannot be imported ({error}). This kind of data requires it. "
            f"Run: pip install 'forebear[{group}]'"
        ) from error
