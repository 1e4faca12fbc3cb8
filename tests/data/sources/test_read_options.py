from __future__ import annotations

from pathlib import Path

import pytest

from forebear.data.sources.kinds import SPECS
from forebear.data.sources.read_options import USES, ReadOptions
from forebear.data.sources.registry import read_data


def test_paths_given_as_text_are_paths_and_only_what_is_given_counts() -> None:
    options = ReadOptions(images="~", group_by="patient")  # type: ignore[arg-type]
    assert options.given == {"images": Path.home(), "group_by": "patient"}
    assert ReadOptions(images=Path("~")).images == Path.home()
    assert ReadOptions().given == {}


@pytest.mark.parametrize("name", ["image_column", "label_column", "group_by"])
def test_empty_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=' ': expected a name"):
        ReadOptions(**{name: " "})  # type: ignore[arg-type]


NAMES = ("images", "image_column", "label_column", "group_by")
UNUSED = [(kind, name) for kind in SPECS for name in NAMES if name not in USES.get(kind, ())]


@pytest.mark.parametrize(("kind", "name"), UNUSED)
def test_kinds_refuse_what_they_cannot_use(kind: str, name: str, tmp_path: Path) -> None:
    spec = kind if kind == "digits" else f"{kind}:{tmp_path / 'gone'}"
    with pytest.raises(ValueError, match=rf"^{name}='x' with .*{kind} cannot use it. Expected csv"):
        read_data(spec, ReadOptions(**{name: "x"}))  # type: ignore[arg-type]
