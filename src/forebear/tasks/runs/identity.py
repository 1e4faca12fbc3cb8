"""Ties the checkpoints of a run to its settings, so that neither is taken for that of another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from forebear.untrusted import parse_json

# Values of settings.json that may be edited between start and resume, by their group
_FREE = {
    "data": ("spec",),
    "request": ("workers", "every", "keep_memory", "tensorboard", "track", "compile", "images"),
}


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What a checkpoint records of its run; empty in runs of older versions."""

    id: str = ""  # random, made when the run begins
    settings: str = ""  # SHA-256 of what decides the result in settings.json

    def mismatch(self, found: Any) -> str:
        """Returns why a checkpoint does not belong to this run, or "" if it does.

        Args:
            found: What the checkpoint records: a mapping of the two fields, or None.
        """
        if not self.id:
            return ""
        if not isinstance(found, dict) or found.get("id") != self.id:
            return "it is of another run"
        return "" if found.get("settings") == self.settings else "settings.json was changed since"


def identity_of(settings: str) -> RunIdentity:
    """Returns the identity of a run from the text of its settings.json.

    What does not decide the result is left out, so that it may be edited: where the data are (their
    content is compared when a run is resumed), and how the machine is used.

    Raises:
        ValueError: The text is not JSON.
    """
    data = parse_json(settings)
    known = data.get("id") if isinstance(data, dict) else None
    if not isinstance(known, str):
        return RunIdentity()
    deciding = {name: _without(value, _FREE.get(name, ())) for name, value in sorted(data.items())}
    text = json.dumps(deciding, sort_keys=True)
    return RunIdentity(known, hashlib.sha256(text.encode()).hexdigest())


def _without(value: Any, names: Collection[str]) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: one for name, one in value.items() if name not in names}
