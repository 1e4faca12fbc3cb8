from __future__ import annotations

import re

import pytest

from forebear.data.fold import Fold


def test_a_fold_is_read_and_written() -> None:
    assert Fold.parse("2/5") == Fold(number=2, count=5)
    assert str(Fold(2, 5)) == "2/5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2", "fold=2: expected NUMBER/COUNT, such as 2/5. Pass such a text."),
        ("1/2/3", "fold=1/2/3: expected NUMBER/COUNT"),
        ("1/1", "folds=1: expected 2 or more. Pass such a number, or leave it out for one run."),
        ("1/-3", "folds=-3: expected 2 or more."),
        ("0/3", "fold=0: expected 1 to 3, the number of folds. Pass such a number."),
        ("4/3", "fold=4: expected 1 to 3"),
    ],
)
def test_another_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Fold.parse(text)
