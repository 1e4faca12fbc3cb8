"""Nothing takes long, whatever the damage."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    """Nothing takes long, whatever the damage."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 20
