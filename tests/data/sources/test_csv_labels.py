from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forebear.data.sources.csv_labels import table_in
from forebear.data.sources.group_by import refuse_shared_groups
from forebear.data.sources.read_options import ReadOptions
from forebear.data.sources.registry import read_data
from forebear.data.sources.summary import summary
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
            "columns x, y, z, none of them known as that of images",
        ),
        (("image,label", "a0.png"), "line 2 has 1 columns, the header 2"),
        (("image,label", "a0.png,"), "line 2 has no label in the column label"),
        (
            ("image,label", "a0.png,a", "a0.png,b"),
            "line 3 gives a0.png the label b, line 2 the label a",
        ),
        (
            ("image,label", "gone.png,a"),
            r"1 of 1 images .* below .*: gone.png \(line 2\)",
        ),
        (("image,label", "a0.png,a", "", "gone.png,b"), r"1 of 2 images .*gone.png \(line 4\)"),
        (("image,label", ",a"), "line 2 has no image in the column image"),
        (("image,label", "a0.png, "), "line 2 has no label in the column label"),
        (("image,label,label", "a0.png,a,b"), "2 columns are called label"),
        (("image,label,split", "a0.png,a,val", "a0.png,a,test"), "part test, line 2 the part val"),
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


def test_columns_and_the_folder_of_images_can_be_named(tmp_path: Path) -> None:
    images(tmp_path / "pictures", *NAMES)
    rows = [f"x,{name},{name[0]},{name}" for name in NAMES]
    file = table(tmp_path / "tables" / "a.csv", "label,file,Kind,image", *rows)
    options = ReadOptions(images=tmp_path / "pictures", image_column="file", label_column="kind")
    data = read_data(f"csv:{file}", options)
    assert data.classes == ("a", "b")
    assert Path(data.train.name(0)).parent == tmp_path / "pictures"
    with pytest.raises(DataError, match=r"x: no such column\..* label, file, Kind, image\. P"):
        read_data(f"csv:{file}", ReadOptions(image_column="x"))
    with pytest.raises(DataError, match=r"--images .*gone: no such folder"):
        read_data(f"csv:{file}", ReadOptions(images=tmp_path / "gone"))
    with pytest.raises(DataError, match=r"20 of 20 images are not found below .*tables"):
        read_data(f"csv:{file}")


def patients(folder: Path, head: str = "image,label,patient") -> Path:
    """Six patients a class, each with one to three images."""
    names = [
        f"{kind}/p{kind}{patient}_{copy}.png"
        for kind in "ab"
        for patient in range(6)
        for copy in range(1 + patient % 3)
    ]
    images(folder, *names)
    return table(folder / "labels.csv", head, *(f"{name},{name[0]},{name[2:5]}" for name in names))


@pytest.mark.parametrize("by", ["patient", "{group}_*.png", "{group}_#.png"])
def test_images_of_a_group_are_on_one_side(by: str, tmp_path: Path) -> None:
    file = patients(tmp_path)
    data = read_data(f"csv:{file}", ReadOptions(group_by=by))
    sides = [
        {Path(part.name(index)).name[:3] for index in range(len(part))}
        for part in (data.train, data.val)
    ]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 12
    assert set(data.val.labels.tolist()) == {0, 1}
    for part, images_ in (("train", data.train), ("val", data.val)):
        groups = data.groups[part]
        assert groups.by == by
        assert [groups.name(i) for i in range(len(images_))] == [
            Path(images_.name(i)).name[:3] for i in range(len(images_))
        ]
    assert data.split == (
        f"about 15% of each class held out for validation in whole groups by {by}, chosen by "
        "sha256 of the images"
    )
    assert read_data(f"csv:{file}").fingerprint != data.fingerprint
    assert read_data(f"csv:{file}").groups == {}


def test_the_split_by_groups_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    file = patients(tmp_path)
    before = read_data(f"csv:{file}", ReadOptions(group_by="patient"))
    head, *rows = file.read_text().splitlines()
    table(file, head, *reversed(rows))
    after = read_data(f"csv:{file}", ReadOptions(group_by="patient"))
    assert after.fingerprint == before.fingerprint
    assert after.order != before.order


@pytest.mark.parametrize("by", ["id", "class", "set", "image_id"])
def test_a_group_column_is_not_taken_for_another(by: str, tmp_path: Path) -> None:
    file = patients(tmp_path, f"name,x,{by}")
    data = read_data(f"csv:{file}", ReadOptions(group_by=by))
    assert data.classes == ("a", "b")


def test_a_group_in_two_parts_of_the_table_is_refused_by_name(tmp_path: Path) -> None:
    file = patients(tmp_path)
    rows = [
        f"{row},{'val' if '_0' in row else 'train'}" for row in file.read_text().splitlines()[1:]
    ]
    table(file, "image,label,patient,split", *rows)
    data = read_data(f"csv:{file}", ReadOptions(group_by="patient"))
    with pytest.raises(DataError, match=r"group pa1 is in train \(1 image, such as .*pa1_1.png"):
        refuse_shared_groups(data)
    refuse_shared_groups(read_data(f"csv:{file}"))


def test_rows_without_a_group_or_with_two_say_so(tmp_path: Path) -> None:
    images(tmp_path, "a0.png")
    options = ReadOptions(group_by="patient")
    for rows, said in (
        (("a0.png,a, ",), "line 2 has no group in the column patient"),
        (("a0.png,a,p", "a0.png,a,q"), "line 3 gives a0.png the group q, line 2 the group p"),
    ):
        file = table(tmp_path / "a.csv", "image,label,patient", *rows)
        with pytest.raises(DataError, match=said):
            read_data(f"csv:{file}", options)
    with pytest.raises(DataError, match="--group-by place: no such column"):
        read_data(f"csv:{file}", ReadOptions(group_by="place"))


def test_rows_that_repeat_an_image_are_counted_and_named(tmp_path: Path) -> None:
    images(tmp_path, *NAMES)
    rows = [f"{name},{name[0]}" for name in NAMES]
    data = read_data(f"csv:{table(tmp_path / 'a.csv', 'image,label', *rows, *rows[:4])}")
    assert data.skipped == {"rows that repeat an image": 4}
    one = read_data(f"csv:{table(tmp_path / 'b.csv', 'image,label', *rows, rows[0])}")
    assert summary(one).endswith("1 file skipped: 1 row that repeats an image")
    assert len(data.train) + len(data.val) == 20
    assert data.notes[-1].endswith(
        "a.csv: line 22 repeats a0.png of line 2, line 23 repeats a1.png of line 3, "
        "line 24 repeats a2.png of line 4, ..."
    )


def test_a_class_that_only_later_parts_have_is_named_with_its_line(tmp_path: Path) -> None:
    images(tmp_path, "a0.png", "a1.png", "b0.png")
    rows = ["a0.png,a,train", "a1.png,a,val", "b0.png,b,val"]
    file = table(tmp_path / "a.csv", "image,label,split", *rows)
    with pytest.raises(DataError, match=r"line 4: class b \(1 such classes\) has no training"):
        read_data(f"csv:{file}")


def test_groups_are_read_from_the_table_in_a_folder(tmp_path: Path) -> None:
    images(tmp_path / "images", *NAMES)
    rows = [f"{name},{name[0]},{name[0]}{at // 4}" for at, name in enumerate(NAMES)]
    table(tmp_path / "labels.csv", "image,label,patient", *rows)
    data = read_data(f"folder:{tmp_path}", ReadOptions(group_by="patient"))
    assert data.groups["train"].by == "patient"
    assert len(data.groups["train"].names) == 6
