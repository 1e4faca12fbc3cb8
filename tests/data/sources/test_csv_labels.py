from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forebear.data.sources.csv_labels import table_in
from forebear.data.sources.registry import read_data
from forebear.errors import DataError
from tests.data.making import encoded, noise, write


def images(folder: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        write(folder / name, encoded(noise(seed), "PNG"))


def table(path: Path, *rows: str) -> Path:
    return write(path, "\n".join(rows).encode())


NAMES = [f"{kind}{number}.png" for kind in "ab" for number in range(10)]


@pytest.mark.parametrize("head", ["image,label", "filename,class", "id_code,diagnosis", "Path,x"])
def test_columns_are_found_by_their_usual_names(head: str, tmp_path: Path) -> None:
    images(tmp_path, *NAMES)
    file = table(tmp_path / "labels.csv", head, *(f"{name},{name[0]}" for name in NAMES))
    data = read_data(f"csv:{file}")
    assert data.classes == ("a", "b")
    assert (len(data.train), len(data.val)) == (16, 4)
    name = Path(data.train.name(0)).name
    assert data.classes[data.train.labels[0]] == name[0]


def test_a_split_column_is_kept_and_its_test_part_is_apart(tmp_path: Path) -> None:
    images(tmp_path / "deep" / "images", *NAMES)
    parts = ["train"] * 7 + ["valid"] * 2 + ["test"]
    rows = [
        f"{name.removesuffix('.png')}\t{name[0]}\t{parts[at % 10]}" for at, name in enumerate(NAMES)
    ]
    file = table(tmp_path / "a.csv", "image_id\tlabel\tsplit", *rows)
    data = read_data(f"csv:{file}")
    assert data.test is not None
    assert [len(part) for part in (data.train, data.val, data.test)] == [14, 4, 2]
    assert not data.splits_off


def test_numbers_are_ordered_by_value(tmp_path: Path) -> None:
    images(tmp_path, *(f"{label}-{copy}.png" for label in range(12) for copy in range(2)))
    rows = [f"{label}-{copy}.png,{label}" for label in range(12) for copy in range(2)]
    data = read_data(f"csv:{table(tmp_path / 'a.csv', 'image,label', *rows)}")
    assert data.classes == tuple(map(str, range(12)))
    assert np.bincount(data.val.labels).tolist() == [1] * 12


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (("image,label",), "no rows"),
        (
            ("x,y,z", "a0.png,a,1"),
            "columns x, y, z, none of them known as that of images.* or pass --image-column",
        ),
        (("image,label", "a0.png"), "line 2 has 1 columns, the header 2"),
        (("image,label", "a0.png,"), "line 2 has no label in the column label"),
        (
            ("image,label", "a0.png,a", "a0.png,b"),
            "line 3 gives a0.png the label b, line 2 the label a",
        ),
        (
            ("image,label", "gone.png,a"),
            r"1 of 1 images are not found below .*: gone.png \(line 2\)",
        ),
        (("image,label,split", "a0.png,a,later"), "of the part 'later'"),
    ],
)
def test_tables_that_cannot_be_used_say_why(
    rows: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    images(tmp_path, "a0.png")
    with pytest.raises(DataError, match=said):
        read_data(f"csv:{table(tmp_path / 'a.csv', *rows)}")


def test_a_name_that_several_files_have_is_not_guessed(tmp_path: Path) -> None:
    images(tmp_path, "x/1.png", "y/1.png")
    file = table(tmp_path / "a.csv", "image,label", "1.png,a")
    with pytest.raises(DataError, match="or several files have their names: 1.png"):
        read_data(f"csv:{file}")
    images(tmp_path, *(f"{place}/{n}.png" for place in "xy" for n in range(4)))
    rows = [f"{place}/{n}.png,{place}" for place in "xy" for n in range(4)]
    data = read_data(f"csv:{table(tmp_path / 'b.csv', 'image,label', *rows)}")
    assert data.classes == ("x", "y")


def test_a_folder_of_images_is_read_by_the_csv_beside_them(tmp_path: Path) -> None:
    images(tmp_path / "images", *NAMES)
    assert table_in(tmp_path) is None
    table(tmp_path / "labels.csv", "image,label", *(f"{name},{name[0]}" for name in NAMES))
    assert table_in(tmp_path) == tmp_path / "labels.csv"
    data = read_data(f"folder:{tmp_path}")
    assert data.classes == ("a", "b")
    assert data.origins["train"] == str(tmp_path / "labels.csv")
