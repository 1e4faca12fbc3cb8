"""Imports OpenVINO, and NNCF, which comes with it, without their usage statistics."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """Returns the module openvino.

    OpenVINO 2026.4 sends an event to a server of its own whenever it is imported, unless the user
    has opted out (openvino/tools/ovc/__init__.py). forebear contacts nobody without being asked,
    so it hides the package that sends. A program that has imported OpenVINO before is left alone.
    """
    with _without_telemetry():
        return importlib.import_module("openvino")


def import_nncf() -> Any:
    """Returns the module nncf. It has the same statistics (nncf/telemetry/wrapper.py)."""
    with _without_telemetry():
        return importlib.import_module("nncf")


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Lets `import openvino_telemetry` fail: both packages then send nothing."""
    if _TELEMETRY in sys.modules:
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]
