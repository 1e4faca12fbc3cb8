"""One thread: small networks gain nothing from two, and busy neighbours cost nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that a test keeps is kept in the user's own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOREBEAR_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def _threads(request: pytest.FixtureRequest) -> None:
    slow = request.node.get_closest_marker("slow") is not None
    torch.set_num_threads(_ALL if slow else 1)


_ALL = torch.get_num_threads()
