"""What was found in a data set, as rows, and as a table in a CSV file."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from io import StringIO
from typing import Literal, get_args

Kind = Literal["label", "near-duplicate", "outlier"]
COLUMNS = ("path", "part", "label", "kind", "suggested label", "score", "other path")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """An image to look at, and why."""

    place: int  # index of the image in `Checked.rows`
    path: str  # name of the image, as one printable line
    part: str  # train or val
    label: str  # name of its class, or of its labels with ; between them
    kind: Kind
    # label: 1 minus the probability of the label, 0 to 1. near-duplicate: cosine similarity of the
    # features, -1 to 1. outlier: distance to its neighbours in robust standard deviations.
    score: float
    suggested: str = ""  # name of the likely class of a label error, or of the likely labels
    change: str = ""  # the labels that differ, if images have several: "also cat, not dog"
    other: int | None = None  # index of the image that a near-duplicate resembles
    other_path: str = ""

    @property
    def shown_score(self) -> str:
        """The score as text; standard deviations have one decimal."""
        return f"{self.score:.1f}" if self.kind == "outlier" else f"{self.score:.3f}"

    def cells(self) -> tuple[str | float, ...]:
        """Returns the values of `COLUMNS`."""
        score = round(self.score, 4)
        return (
            *(self.path, self.part, self.label, self.kind),
            *(self.suggested, score, self.other_path),
        )

    def as_dict(self) -> dict[str, str | float]:
        """Returns the values by the names of the columns, with underscores."""
        names = (name.replace(" ", "_") for name in COLUMNS)
        return dict(zip(names, self.cells(), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The suggestions for a data set: by kind, the likeliest faults first."""

    images: int  # that were looked at
    skipped: int  # that cannot be used
    suggestions: tuple[Suggestion, ...]
    across: int  # near-duplicates whose group has training and validation images
    methods: tuple[str, ...]  # sentences that say what was compared, and how

    @property
    def counts(self) -> dict[Kind, int]:
        """Number of suggestions of each kind."""
        found = Counter(one.kind for one in self.suggestions)
        return {kind: found[kind] for kind in get_args(Kind)}

    def of(self, kind: Kind) -> list[Suggestion]:
        """Returns the suggestions of a kind, in their order."""
        return [one for one in self.suggestions if one.kind == kind]

    def csv(self) -> str:
        """Returns the suggestions as a table with a heading."""
        file = StringIO()
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        rows.writerows(one.cells() for one in self.suggestions)
        return file.getvalue()
