"""One thread: small networks gain nothing from two, and busy neighbours cost nothing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from tests.skips import unexpected

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True, scope="session")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that a test keeps is kept in the user's own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOREBEAR_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


@pytest.hookimpl(tryfirst=True)  # before pytest selects by -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Takes the mark `long(after=N)` off the first N cases of a test."""
    seen: Counter[str] = Counter()
    for item in items:
        test, mark = item.nodeid.partition("[")[0], item.get_closest_marker("long")
        if mark is not None and seen[test] < mark.kwargs.get("after", 0):
            item.own_markers = [one for one in item.own_markers if one.name != "long"]
        seen[test] += 1


@pytest.fixture(autouse=True)
def _threads(request: pytest.FixtureRequest) -> None:
    slow = request.node.get_closest_marker("slow") is not None
    torch.set_num_threads(_ALL if slow else 1)


_ALL = torch.get_num_threads()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails the session on a skip that tests/skips.py does not expect, where CI asks for that."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("FOREBEAR_CHECK_SKIPS") or reporter is None:
        return
    skipped = reporter.stats.get("skipped", [])
    for reason in unexpected(str(report.longrepr[2]) for report in skipped):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.ensure_newline()
        reporter.write_line(f"skipped for a reason that is not in tests/skips.py: {reason}")
