"""One thread: small networks gain nothing from two, and busy neighbours cost nothing."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _threads(request: pytest.FixtureRequest) -> None:
    slow = request.node.get_closest_marker("slow") is not None
    torch.set_num_threads(_ALL if slow else 1)


_ALL = torch.get_num_threads()
