from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from forebear.hardware import FORCE, processor
from tests import skips
from tests.skips import EXPECTED, unexpected

NO_BF16 = "Skipped: this processor has no AVX-512 for bfloat16"


def test_a_skip_is_expected_only_where_its_reason_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORCE, "generic")
    assert unexpected([NO_BF16]) == []
    other = replace(processor(), level="avx512-bf16", amx=False)
    monkeypatch.setattr(skips, "processor", lambda: other)
    assert unexpected([NO_BF16]) == [NO_BF16]


def reasons(source: Path) -> Iterator[str]:
    """Every reason of a `skipif` or `skip` in a file of tests, as far as it is a constant."""
    for call in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        values = [word.value for word in call.keywords if word.arg == "reason"]
        for value in call.args if call.func.attr == "skip" else values:
            if call.func.attr in ("skip", "skipif") and isinstance(value, ast.Constant):
                yield str(value.value)


def test_every_reason_in_the_tests_is_listed() -> None:
    """CI runs on several kinds of processor: a reason is not met on each of them."""
    found = {
        reason: source.name
        for source in Path(__file__).parent.rglob("*.py")
        for reason in reasons(source)
    }
    assert "needs an NVIDIA GPU" in found
    unlisted = {
        reason: name
        for reason, name in found.items()
        if not any(re.search(text, reason) for text, _ in EXPECTED)
    }
    assert unlisted == {}


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
