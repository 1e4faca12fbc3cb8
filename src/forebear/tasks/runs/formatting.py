"""Formats names and numbers for plots, pages and tables.

An unknown number is nan, and is shown as a dash.
"""

from __future__ import annotations

import math

from forebear.tables.imagenet_classes import synset_name
from forebear.text import elided

DASH = "-"


def class_title(name: str, most: int = 90) -> str:
    """Returns the name of a class: for a synset of ImageNet its word, else the name itself."""
    return elided(synset_name(name) or name, most)


def percent(fraction: float) -> str:
    """Formats 0.9264 as 92.64%."""
    return DASH if math.isnan(fraction) else f"{fraction:.2%}"


def nats(loss: float) -> str:
    """Formats a loss with four decimals."""
    return DASH if math.isnan(loss) else f"{loss:.4f}"


def digits(value: float) -> str:
    """Formats a number with four significant digits."""
    return DASH if math.isnan(value) else f"{value:.4g}"


def passes(epochs: float) -> str:
    """Formats a number of epochs: 7, or 7.35 if a run ended within one."""
    return DASH if math.isnan(epochs) else f"{round(epochs, 2):.10g}"


def whole(value: float) -> str:
    """Formats 12345.6 as 12,346."""
    return DASH if math.isnan(value) else f"{value:,.0f}"


def magnitude(count: int) -> str:
    """Formats 272,474 as 272 k, and 25,557,032 as 25.6 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def duration(seconds: float) -> str:
    """Formats 41.2 as 41.2 s, 90 as 1 min 30 s, and 7500 as 2 h 05 min."""
    if math.isnan(seconds):
        return DASH
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.3g} s"
