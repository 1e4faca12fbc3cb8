"""What goes with a network's weights: class names, preprocessing, figures, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forebear.tables.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Kept in a saved file beside the arrays; at first the dialect's preprocessing alone."""

    preprocessing: Preprocessing
    classes: tuple[str, ...] = ()  # in the order of the logits; empty where they are not known
    metrics: Mapping[str, Any] = field(default_factory=dict)  # what was measured, with its unit
    provenance: Mapping[str, str] = field(default_factory=dict)  # source file, its SHA-256, licence
