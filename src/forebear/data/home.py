"""Where forebear keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$FOREBEAR_HOME/cache (default: ~/.cache/forebear/cache), whether it is there or not."""
    home = os.environ.get("FOREBEAR_HOME") or "~/.cache/forebear"
    return Path(home).expanduser() / "cache"
