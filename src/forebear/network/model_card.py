"""Metadata of a network's weights: class names, preprocessing, metrics and provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forebear.tables.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Metadata that a checkpoint stores with its arrays.

    A new network has the preprocessing of its dialect, and no other metadata.
    """

    preprocessing: Preprocessing
    classes: tuple[str, ...] = ()  # in the order of the logits; empty if they are unknown
    metrics: Mapping[str, Any] = field(default_factory=dict)  # measured values, with their units
    provenance: Mapping[str, str] = field(default_factory=dict)  # source file, its SHA-256, licence
