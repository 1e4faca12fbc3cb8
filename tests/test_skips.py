from __future__ import annotations

from dataclasses import replace

import pytest

from forebear.hardware import FORCE, processor
from tests import skips
from tests.skips import unexpected

NO_BF16 = "Skipped: this processor has no AVX-512 for bfloat16"


def test_a_skip_is_expected_only_where_its_reason_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORCE, "generic")
    assert unexpected([NO_BF16]) == []
    other = replace(processor(), level="avx512-bf16", amx=False)
    monkeypatch.setattr(skips, "processor", lambda: other)
    assert unexpected([NO_BF16]) == [NO_BF16]


def test_a_reason_that_nobody_listed_is_named_once() -> None:
    assert unexpected(["Skipped: flaky", "Skipped: flaky"]) == ["Skipped: flaky"]


def test_an_unexpected_skip_fails_where_ci_asks(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeconftest("from tests.conftest import pytest_sessionfinish")
    pytester.makepyfile("import pytest\ndef test_one(): pytest.skip('flaky')")
    monkeypatch.delenv("FOREBEAR_CHECK_SKIPS", raising=False)
    assert pytester.runpytest_inprocess("-p", "no:xdist").ret == 0
    monkeypatch.setenv("FOREBEAR_CHECK_SKIPS", "1")
    done = pytester.runpytest_inprocess("-p", "no:xdist")
    assert done.ret == 1
    done.stdout.fnmatch_lines(["*skipped for a reason that is not in tests/skips.py: *flaky*"])
