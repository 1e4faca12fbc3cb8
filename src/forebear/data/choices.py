"""Words that callers choose from, without numpy, so that a command line can list them cheaply."""

from __future__ import annotations

from typing import Literal

Bad = Literal["fail", "skip"]  # what images that cannot be decoded do to a run
