"""The C kernels, compiled by a thread while a run on a budget reads its images."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from forebear.network.kernels.library import library

_DAY = 86400.0  # seconds, which a wait may take at most


class Kernels:
    """Whether the kernels are there; the first run on a machine compiles them for some seconds."""

    def __init__(self, compiles: Callable[[], object] = library) -> None:
        """Begins to compile, or to load what was compiled before.

        Args:
            compiles: returns when the kernels are there, or cannot be had.
        """
        self._thread = threading.Thread(target=compiles, name="kernels", daemon=True)
        self._thread.start()

    def ready(self, until: float) -> bool:
        """Waits until a time.perf_counter(); whether networks can be accelerated now."""
        self._thread.join(min(max(0.0, until - time.perf_counter()), _DAY))
        return not self._thread.is_alive()
