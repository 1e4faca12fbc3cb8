"""Plans of published networks."""

from __future__ import annotations

from typing import Any

from forebear.network.plan.expand import expand
from forebear.tables.registry import find


def spelled(name: str, **options: Any) -> Any:
    entry = find(name)
    return expand(entry.table, entry.dialect, **{"num_classes": entry.table.classes, **options})
