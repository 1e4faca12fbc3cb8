from __future__ import annotations

from dataclasses import fields

from forebear.tables.dialects import DIALECTS, Dialect


def test_no_dialect_leaves_a_question_open() -> None:
    assert all(field.default is field.default_factory for field in fields(Dialect))
    assert len(DIALECTS) == len(set(DIALECTS.values())) == 25
