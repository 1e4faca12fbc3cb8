"""The usual names of the parts of a data set, by which folders, shards and files are recognised."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")

_WORDS: dict[str, Part] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
# Words that people add to the name of a part: "training_set", "ILSVRC2012_img_val", "val images".
_FILLERS = frozenset(
    (
        *("set", "sets", "data", "dataset", "datasets", "split", "part", "folder"),
        *("image", "images", "img", "imgs", "pics", "pictures", "photos", "jpg", "jpeg", "png"),
        *("ilsvrc", "imagenet", "coco", "cifar"),
    )
)


def part_of(name: str) -> tuple[Part, str] | None:
    """Returns the part that a name means, and what else the name says; None for another name.

    `training_set` is ("train", ""), `Valid` is ("val", ""), `seg_test` is ("test", "seg"). Upper
    and lower case are the same. A name with the words of two parts means neither.
    """
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    found: Part | None = None
    rest = []
    for word in (word.casefold() for word in words):
        short = re.sub(r"(?:set|data|images|imgs)$", "", word)
        part = _WORDS.get(word) or _WORDS.get(short)
        if part is None:
            rest += [] if word in _FILLERS else [word]
        elif found is not None:
            return None
        else:
            found = part
    return None if found is None else (found, " ".join(rest))


def is_part(name: str) -> bool:
    """Whether a name is that of a part and says nothing else."""
    found = part_of(name)
    return found is not None and not found[1]


def parts_among(names: Iterable[str]) -> dict[Part, list[str]]:
    """Returns the names of each part among names, such as those of files or splits.

    Names that are no part, or say more than the part, are left out.
    """
    found: dict[Part, list[str]] = {part: [] for part in PARTS}
    for name in names:
        known = part_of(name)
        if known is not None and not known[1]:
            found[known[0]].append(name)
    return found
