"""Which fold of a cross-validation a run validates on, as settings.json names it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from forebear.text import truncated


@dataclass(frozen=True, slots=True)
class Fold:
    """Fold `number` of `count`: its part of the images validates, and the others train."""

    number: int  # 1 to count
    count: int

    @classmethod
    def parse(cls, text: str) -> Fold:
        """Returns the fold of a text such as "2/5".

        Raises:
            ValueError: The text has another form, there are fewer than two folds, or there is no
                fold of this number.
        """
        found = re.fullmatch(r"(-?[0-9]{1,9})/(-?[0-9]{1,9})", text)
        if found is None:
            raise ValueError(
                f"fold={truncated(text, 40)}: expected NUMBER/COUNT, such as 2/5. Pass such a text."
            )
        number, count = map(int, found.groups())
        if count < 2:
            raise ValueError(
                f"folds={count}: expected 2 or more. Pass such a number, or leave it out for one "
                "run."
            )
        if not 1 <= number <= count:
            raise ValueError(
                f"fold={number}: expected 1 to {count}, the number of folds. Pass such a number."
            )
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
