"""What --group-by means: a column of a table, or a pattern of paths with {group}.

A pattern is compared with the end of the path of an image, from the start of a folder's or a
file's name, as `pathlib.PurePath.match` does. `{group}` stands for the name of the group, which is
as short as possible; `*` for any characters, `#` for one digit or more, and `?` for one character;
none of them for a `/`. A pattern may have several `{group}`, which name the group together.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from forebear.data.dataset import Dataset
from forebear.data.groups import Groups, grouped
from forebear.data.sources.part_names import PARTS, Part
from forebear.errors import DataError
from forebear.text import printable, truncated

_MARK = "{group}"
_TOKENS = {_MARK: "([^/]+?)", "*": "[^/]*", "#": "[0-9]+", "?": "[^/]"}


def is_pattern(group_by: str) -> bool:
    """Whether --group-by is a pattern of paths, not a column."""
    return _MARK in group_by


class PathPattern:
    """Reads the group of an image off its path."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        tokens = re.split(r"(\{group\}|[*#?])", pattern.strip("/"))
        self._depth = pattern.strip("/").count("/") + 1
        self._regex = re.compile("".join(_TOKENS.get(one) or re.escape(one) for one in tokens))

    def group(self, path: str) -> str | None:
        """Returns the group of a path, relative to the folder of the data; None without a match."""
        parts = PurePath(path).parts[-self._depth :]
        found = self._regex.fullmatch("/".join(parts))
        return None if found is None else "/".join(found.groups())


def groups_of_paths(
    pattern: str, parts: Mapping[Part, Sequence[str]], root: Path
) -> dict[Part, Groups]:
    """Returns the groups of images by their paths.

    Args:
        pattern: Has {group}.
        parts: For each part, the paths of its images.
        root: The folder of the data; a pattern is compared with the path below it.

    Raises:
        DataError: The pattern does not match a path. The message names it.
    """
    known = PathPattern(pattern)
    above = str(root / "x")[:-1]
    names: dict[Part, list[str]] = {}
    unmatched, total = [], 0
    for part, paths in parts.items():
        total += len(paths)
        names[part] = []
        for path in paths:
            group = known.group(path.removeprefix(above))
            if group is None:
                unmatched.append(path)
            else:
                names[part].append(group)
    if unmatched:
        raise DataError(
            f"{printable(unmatched[0])}: does not match --group-by {printable(pattern)} "
            f"({len(unmatched):,} of {total:,} images do not). Expected the group of each image in "
            "its path. Correct the pattern, or move or remove these images."
        )
    return grouped(pattern, names)


@dataclass(frozen=True, slots=True)
class SharedGroup:
    """A group whose images are in several parts."""

    name: str
    parts: Mapping[str, tuple[int, str]]  # for each part, its images and the name of the first

    def __str__(self) -> str:
        """The group, with the number of images and a file of each part, in one line."""
        said = [
            f"{part} ({count:,} image{'' if count == 1 else 's'}, such as {first})"
            for part, (count, first) in self.parts.items()
        ]
        return f"{truncated(self.name)} is in {' and '.join(said)}"


def group_sizes(data: Dataset) -> dict[str, int]:
    """Returns the number of images of each group, in all parts together."""
    sizes: Counter[str] = Counter()
    for groups in data.groups.values():
        sizes.update(groups.names[number] for number in groups.numbers.tolist())
    return dict(sizes)


def shared_groups(data: Dataset) -> list[SharedGroup]:
    """Returns the groups that are in several parts of a data set, by name."""
    images = {"train": data.train, "val": data.val, "test": data.test}
    found: defaultdict[int, dict[str, tuple[int, str]]] = defaultdict(dict)
    names: tuple[str, ...] = ()
    for part in PARTS:
        groups, own = data.groups.get(part), images[part]
        if groups is None or own is None:
            continue
        names = groups.names
        for index, number in enumerate(groups.numbers.tolist()):
            count, first = found[number].get(part, (0, ""))
            found[number][part] = (count + 1, first or own.name(index))
    return [
        SharedGroup(names[number], parts)
        for number, parts in sorted(found.items())
        if len(parts) > 1
    ]


def refuse_shared_groups(data: Dataset) -> None:
    """Refuses a data set whose own parts have groups in common.

    Raises:
        DataError: There is such a group. The message names it, and a file in each part.
    """
    shared = shared_groups(data)
    if shared:
        by = data.groups["train"].by
        raise DataError(
            f"{printable(data.spec)}: the group {shared[0]}; {len(shared):,} such "
            f"group{'' if len(shared) == 1 else 's'} by {printable(by)}. Expected the images of a "
            "group in one part only. Move them to one part, or leave out --group-by."
        )
