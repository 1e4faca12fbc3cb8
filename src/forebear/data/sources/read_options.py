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
    "csv": ("images", "image_column", "label_column", "group_by"),
    "folder": ("group_by",),
    "parquet": ("group_by",),
}


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
        for name in ("image_column", "label_column", "group_by"):
            value = getattr(self, name)
            if value is not None and not value.strip():
                raise ValueError(f"{name}={value!r}: expected a name. Pass one, or leave it out.")

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
