"""Where forebear keeps what it can make again."""

from __future__ import annotations

from pathlib import Path

from forebear.files import home


def cache_folder() -> Path:
    """$FOREBEAR_HOME/cache (default: ~/.cache/forebear/cache), whether it is there or not."""
    return home() / "cache"
