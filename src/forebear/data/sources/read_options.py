"""How a data set is read, beyond its spec: the columns, the folder of images, and the groups.

The flags of train, evaluate and check are read off these fields. Nothing heavy is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from forebear.data.sources.kinds import SPECS
from forebear.files import expanded
from forebear.settings import setting, settings

# The options that each kind of data can use; the others can use none.
USES = {
    "csv": (
        "images",
        "image_column",
        "label_column",
        "multi_label",
        "label_columns",
        "label_separator",
        "group_by",
    ),
    "folder": ("group_by",),
    "parquet": ("group_by",),
}

SEPARATORS = (";", "|", ",", " ")  # of several labels in a cell
_SPACE = "space"  # how --label-separator names it


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How a data set is read; None leaves the choice to the data."""

    images: Path | None = setting(
        None,
        help="folder that the paths in a csv:FILE are relative to",
        default_text="the folder of the CSV",
        flag="--images DIR",
    )
    image_column: str | None = setting(
        None,
        help="column of a csv:FILE that names the image files",
        default_text="found by its usual names, such as image, filename or path",
    )
    label_column: str | None = setting(
        None,
        help="column of a csv:FILE that has the labels",
        default_text="found by its usual names, such as label or class",
    )
    multi_label: bool | None = setting(
        None,
        help="whether an image of a csv:FILE can have several labels, or none",
        default_text="yes with --label-columns or --label-separator, or if all columns but those "
        "of images, parts and groups hold only 0 and 1",
    )
    label_columns: str | None = setting(
        None,
        help="columns of a csv:FILE that hold 0 or 1, one for each label of multi-label images, "
        "separated by commas",
        flag="--label-columns A,B,C",
    )
    label_separator: str | None = setting(
        None,
        help="between the labels in a cell of a csv:FILE of multi-label images: ; | , or space",
        default_text="the one of ; | , that the cells contain",
        flag="--label-separator SEPARATOR",
    )
    group_by: str | None = setting(
        None,
        help="keep the images of one group (a patient, a video, a place) in one part: a column of "
        "csv:FILE or parquet:PATH, or a pattern of paths with {group}, such as '{group}_*.jpg'",
        flag="--group-by COLUMN|PATTERN",
    )

    def __post_init__(self) -> None:
        """Refuses empty names, and expands ~ in the path of the folder, which may be text."""
        if self.images is not None:
            object.__setattr__(self, "images", expanded(self.images))
        for name in ("image_column", "label_column", "label_columns", "group_by"):
            value = getattr(self, name)
            if value is not None and not value.strip():
                raise ValueError(f"{name}={value!r}: expected a name. Pass one, or leave it out.")
        self._check_labels()

    def _check_labels(self) -> None:
        """Refuses options about labels of which one would have no effect."""
        known = (*(mark for mark in SEPARATORS if mark != " "), _SPACE)
        if self.label_separator is not None and self.label_separator not in (*known, " "):
            raise ValueError(
                f"label_separator={self.label_separator!r}: expected one of {' '.join(known)}. "
                "Pass one of these, or leave it out."
            )
        for one, other in (
            ("label_columns", "label_column"),
            ("label_columns", "label_separator"),
            ("label_columns", "multi_label"),
            ("label_separator", "multi_label"),
        ):
            first, second = getattr(self, one), getattr(self, other)
            clash = second is False if other == "multi_label" else second is not None
            if first is not None and clash:
                raise ValueError(
                    f"{one}={first!r} with {other}={second!r}: expected one of them. Leave one out."
                )

    @property
    def separator(self) -> str | None:
        """What is between two labels in a cell; None leaves it to the data."""
        return " " if self.label_separator == _SPACE else self.label_separator

    @property
    def several(self) -> bool:
        """Whether the caller says that an image can have several labels."""
        named = self.label_columns is not None or self.label_separator is not None
        return named or bool(self.multi_label)

    @property
    def given(self) -> dict[str, object]:
        """The options that are not None, by name."""
        found = {name: getattr(self, name) for name in settings(ReadOptions)}
        return {name: value for name, value in found.items() if value is not None}


DEFAULTS = ReadOptions()


def refuse_unused(options: ReadOptions, spec: str) -> None:
    """Refuses options that the kind of data of a spec cannot use.

    Raises:
        ValueError: There is one; the message names the kinds of data that can.
    """
    kind = spec.partition(":")[0]
    for name, value in options.given.items():
        if name not in USES.get(kind, ()):
            able = " or ".join(SPECS[one] for one, names in USES.items() if name in names)
            raise ValueError(
                f"{name}={str(value)!r} with {spec!r}: data of the kind {kind} cannot use it. "
                f"Expected {able}. Leave it out, or pass such data."
            )
