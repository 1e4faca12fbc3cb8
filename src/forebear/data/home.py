"""The folder of forebear's caches."""

from __future__ import annotations

from pathlib import Path

from forebear.files import home


def cache_folder() -> Path:
    """Returns $FOREBEAR_HOME/cache (default: ~/.cache/forebear/cache). It may not exist yet."""
    return home() / "cache"
