from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebear.data.dataset import Dataset
from forebear.data.sources.read_options import ReadOptions
from forebear.data.sources.registry import read_data
from forebear.data.sources.split import split_validation
from forebear.data.sources.summary import summary
from forebear.errors import DataError
from tests.data.making import encoded, noise, write

LABELS = ["cat;dog", "cat", "", "dog", "cat;dog;bird", "bird"]


def made(folder: Path, head: str, *rows: str) -> Path:
    """A table whose rows begin with the images 0.png, 1.png, and so on."""
    for number in range(len(rows)):
        write(folder / f"{number}.png", encoded(noise(number), "PNG"))
    lines = [head, *(f"{number}.png,{row}" for number, row in enumerate(rows))]
    return write(folder / "a.csv", "\n".join(lines).encode())


def read(file: Path, **options: Any) -> Dataset:
    return read_data(f"csv:{file}", ReadOptions(**options))


def by_name(data: Dataset) -> dict[str, set[str]]:
    """The labels of each image, by the number in its name."""
    whole = data.whole
    assert whole is not None
    return {
        Path(whole.name(at)).stem: {data.classes[n] for n in np.flatnonzero(whole.labels[at])}
        for at in range(len(whole))
    }


def wanted(copies: int = 4) -> dict[str, set[str]]:
    cells = LABELS * copies
    return {str(at): set(filter(None, cell.split(";"))) for at, cell in enumerate(cells)}


@pytest.mark.parametrize("mark", [";", "|"])
def test_several_labels_in_a_cell_are_read_with_the_separator_that_occurs(
    mark: str, tmp_path: Path
) -> None:
    cells = [cell.replace(";", f" {mark} ") for cell in LABELS * 4]
    data = read(made(tmp_path, "image,label", *cells), multi_label=True)
    assert data.multi_label
    assert data.classes == ("bird", "cat", "dog")
    assert data.train.labels.dtype == np.uint8
    assert by_name(data) == wanted()
    assert any(f"are separated by {mark!r}" in note for note in data.notes)


def test_spaces_and_commas_separate_labels_if_the_caller_says_so(tmp_path: Path) -> None:
    cells = [cell.replace(";", "  ") for cell in LABELS * 4]
    data = read(made(tmp_path, "image,label", *cells), label_separator="space")
    assert by_name(data) == wanted()
    commas = [f'"{cell.replace(";", ",")}"' for cell in LABELS * 4]
    assert by_name(read(made(tmp_path, "image,label", *commas), multi_label=True)) == wanted()


def columns_of_bits() -> list[str]:
    return [",".join(str(int(name in cell)) for name in ("dog", "cat", "bird")) for cell in LABELS]


def test_columns_of_0_and_1_are_labels_in_the_order_of_the_file(tmp_path: Path) -> None:
    data = read(made(tmp_path, "image,dog,cat,bird", *columns_of_bits() * 4))
    assert data.classes == ("dog", "cat", "bird")
    assert by_name(data) == wanted()
    (note,) = data.notes
    assert note.endswith(
        "a.csv: multi-label, one label a column: dog, cat, bird, as all columns but those of "
        "images, parts and groups hold only 0 and 1 (--label-column reads one class an image)"
    )


def test_columns_of_labels_may_be_named_among_others(tmp_path: Path) -> None:
    rows = [f"{row},x,{at % 2}" for at, row in enumerate(columns_of_bits() * 4)]
    file = made(tmp_path, "image,dog,cat,bird,camera,night", *rows)
    data = read(file, label_columns="cat, dog")
    assert data.classes == ("cat", "dog")
    assert data.notes == ()


def test_without_a_usual_label_column_one_column_is_one_class_an_image(tmp_path: Path) -> None:
    rows = [str(at % 2) for at in range(20)]
    data = read(made(tmp_path, "image,night", *rows))
    assert not data.multi_label
    assert data.classes == ("0", "1")


def test_doubts_are_notes_and_nothing_is_guessed(tmp_path: Path) -> None:
    rows = [("a;b" if at % 2 else "a") for at in range(20)]
    data = read(made(tmp_path, "image,label", *rows))
    assert data.classes == ("a", "a;b")
    assert "10 cells of the column label contain ';', and each cell is read" in data.notes[0]
    rows = [f"{at % 2},{at % 2},{at // 2 % 2}" for at in range(20)]
    data = read(made(tmp_path, "image,label,dog,cat", *rows))
    assert data.classes == ("0", "1")
    assert "hold only 0 and 1 are not used: dog, cat (--label-columns" in data.notes[0]


@pytest.mark.parametrize(
    ("head", "rows", "options", "said"),
    [
        ("image,label", ["a;b;a"], {"multi_label": True}, "line 2 has the label a more than once"),
        ("image,label", ["a", "a;;b"], {"multi_label": True}, "line 3 has an empty label in the"),
        ("image,label", ["a;"], {"multi_label": True}, "line 2 has an empty label"),
        ("image,label", ["a;b", "a|b"], {"multi_label": True}, "have ';' and '|', so the separ"),
        ("image,label", ["a b"], {"multi_label": True}, "label have a space, so the separator"),
        ("image,x,y", ["0,1", "1,2"], {"label_columns": "x,y"}, "line 3 has '2' in the column y"),
        ("image,x,y", ["0,1"], {"label_columns": "x,z"}, "--label-columns z: no such column"),
        ("image,x,y", ["0,1"], {"label_columns": "x,x"}, "1 different column. Expected two"),
        ("image,u,v", ["0,1", "0,1"], {}, "no training image has the label u"),
        ("image,label", ["", ""], {"multi_label": True}, "no training image has any label"),
        ("image,label", ["a", " "], {}, "line 3 has no label in the column label"),
        (
            "image,label,split",
            ["a,train", "b,train", "a;c,val"],
            {"multi_label": True},
            r"line 4: class c \(1 such classes\) has no training images",
        ),
    ],
)
def test_labels_that_cannot_be_read_are_named(
    head: str, rows: list[str], options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        read(made(tmp_path, head, *rows), **options)


def test_rows_of_one_image_with_other_labels_contradict(tmp_path: Path) -> None:
    file = made(tmp_path, "image,label", "a;b", "b")
    file.write_text(file.read_text() + "\n0.png,b;a\n0.png,b")
    said = "line 5 gives 0.png the label b, line 2 the label a;b"
    with pytest.raises(DataError, match=said):
        read(file, multi_label=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label_separator": "-"}, "label_separator='-': expected one of ; | , space"),
        ({"label_columns": "a,b", "label_column": "c"}, "label_columns='a,b' with label_column"),
        ({"label_columns": "a,b", "multi_label": False}, "with multi_label=False"),
        ({"label_separator": ";", "multi_label": False}, "with multi_label=False"),
        ({"label_columns": "a,b", "label_separator": ";"}, "with label_separator"),
        ({"label_columns": " "}, "label_columns=' ': expected a name"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ReadOptions(**options)


def test_folders_have_one_class_an_image(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data of the kind folder cannot use it. Expected csv"):
        read_data(f"folder:{tmp_path}", ReadOptions(multi_label=True))


def test_the_summary_counts_images_without_a_label_and_names_labels_that_a_part_lacks(
    tmp_path: Path,
) -> None:
    rows = [f"{cell},train" for cell in LABELS] + ["dog,val", "dog;cat,val"]
    data = read(made(tmp_path, "image,label,split", *rows), multi_label=True)
    said = summary(data)
    assert "1.4 labels an image, 1 of 8 images have none" in said
    assert "validation has no image with the label bird (1 of 3 labels)" in said
    assert "all validation images have the label dog" in said


def test_a_label_of_one_image_stays_in_the_training_part(tmp_path: Path) -> None:
    data = read(made(tmp_path, "image,label", *LABELS * 4, "rare;cat"), multi_label=True)
    assert data.train.labels[:, data.classes.index("rare")].sum() == 1
    assert data.splits_off
    assert data.split.startswith("about 15% of each label held out for validation, chosen by")


def test_the_fingerprint_knows_the_labels_and_not_the_order(tmp_path: Path) -> None:
    file = made(tmp_path, "image,label", *LABELS * 4)
    first = read(file, multi_label=True)
    head, *rows = file.read_text().splitlines()
    file.write_text("\n".join([head, *reversed(rows)]))
    assert read(file, multi_label=True).fingerprint == first.fingerprint
    file.write_text("\n".join([head, "0.png,dog", *rows[1:]]))
    assert read(file, multi_label=True).fingerprint != first.fingerprint


def test_hold_out_splits_images_with_several_labels_by_group(tmp_path: Path) -> None:
    rows = [f"{cell},{at // 2}" for at, cell in enumerate(LABELS * 6)]
    data = read(made(tmp_path, "image,label,who", *rows), multi_label=True, group_by="who")
    again = split_validation(
        data.train,
        fraction=0.3,
        spec=data.spec,
        classes=data.classes,
        side=16,
        groups=data.groups["train"],
    )
    parts = [set(own.numbers.tolist()) for own in again.groups.values()]
    assert not parts[0] & parts[1]
    assert again.multi_label
