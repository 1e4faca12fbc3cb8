"""Imports of the libraries of the extra `faults`."""

from __future__ import annotations

import importlib
from typing import Any

from forebear.errors import ForebearError

LIBRARIES = {"cleanlab": "cleanlab", "imagehash": "ImageHash", "sklearn": "scikit-learn"}


def library(module: str) -> Any:
    """Imports and returns a module of one of `LIBRARIES`.

    Raises:
        ForebearError: The library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ForebearError(
            f"{LIBRARIES[module.partition('.')[0]]} cannot be imported ({error}). Expected it for "
            "check --model. Run pip install 'forebear[faults]'."
        ) from error


def check_libraries() -> None:
    """Imports all libraries, so that a missing one costs no time.

    Raises:
        ForebearError: One of them is not installed.
    """
    for module in LIBRARIES:
        library(module)
