"""Timings of this machine, kept in the cache folder for later runs."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from typing import Any

from forebear.files import home, make_private, own_text, write_text
from forebear.untrusted import parse_json

MOST = 1000  # timings to keep; the oldest are deleted first

_log = logging.getLogger(__name__)


def key_of(*facts: Any) -> str:
    """Returns the name of a timing, which is equal only for equal facts.

    Args:
        facts: Values that JSON can represent.
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def remembered(key: str) -> float | None:
    """Returns the seconds for a key; None if there are none, or if the file is damaged."""
    seconds = _read().get(key)
    return seconds if _is_time(seconds) else None


def remember(key: str, seconds: float) -> None:
    """Keeps seconds for later runs; if the file cannot be written, they will measure again."""
    known = {name: value for name, value in _read().items() if name != key and _is_time(value)}
    newest = dict(list(known.items())[1 - MOST :]) | {key: seconds}
    try:
        make_private(home())
        write_text(home() / "timings.json", json.dumps(newest, indent=1) + "\n")
    except OSError as error:
        _log.info("timings.json was not written: %s", error)


def _is_time(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value) and value > 0


def _read() -> dict[str, Any]:
    try:
        found = parse_json(own_text(home() / "timings.json"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
