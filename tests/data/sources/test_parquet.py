from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebear.data.sources.group_by import refuse_shared_groups
from forebear.data.sources.read_options import ReadOptions
from forebear.data.sources.registry import read_data
from forebear.errors import DataError
from tests.data.making import encoded, noise, shared, write

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def images(count: int, first: int = 0) -> list[bytes]:
    return [encoded(noise(seed), "PNG") for seed in range(first, first + count)]


def structs(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"bytes": content, "path": None} for content in images(count, first)]


def save(path: Path, image: Any, label: Any, names: list[str] | None = None) -> Path:
    table = pyarrow.table({"image": image, "label": label})
    if names is not None:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        metadata = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": metadata})
    parquet.write_table(table, path)
    return path


def test_a_folder_gives_its_parts_and_names(tmp_path: Path) -> None:
    save(tmp_path / "train-00000-of-00002.parquet", structs(3), [0, 1, 2], ["x", "y", "z"])
    save(tmp_path / "train-00001-of-00002.parquet", structs(2, 3), [2, 2], ["x", "y", "z"])
    save(tmp_path / "test-00000-of-00001.parquet", structs(1, 5), [1], ["x", "y", "z"])
    data = read_data(f"parquet:{tmp_path}")
    assert data.classes == ("x", "y", "z")
    assert data.train.labels.tolist() == [0, 1, 2, 2, 2]
    assert data.val.labels.tolist() == [1]
    assert data.train.name(4).endswith("train-00001-of-00002.parquet row 1")
    np.testing.assert_array_equal(np.asarray(data.train.image(4)), np.asarray(noise(4)))
    assert (data.side, data.channels) == (224, 3)


def test_val_goes_before_test(tmp_path: Path) -> None:
    save(tmp_path / "train.parquet", structs(2), [0, 1])
    save(tmp_path / "test.parquet", structs(2, 2), [0, 1])
    save(tmp_path / "validation.parquet", structs(3, 4), [0, 1, 1])
    data = read_data(f"parquet:{tmp_path}")
    assert len(data.val) == 3
    assert data.split == "given by the files train.parquet and validation.parquet"


def test_a_file_alone_is_split_and_plain_bytes_and_string_labels_do(tmp_path: Path) -> None:
    labels = ["dog", "cat"] * 10
    data = read_data(f"parquet:{save(tmp_path / 'all.parquet', images(20), labels)}")
    assert data.classes == ("cat", "dog")
    assert np.bincount(data.train.labels).tolist() == [8, 8]
    assert np.bincount(data.val.labels).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("image", "label", "names", "message"),
    [
        (structs(2), [0, 3], ["x", "y"], r"bad\.parquet: column label: label 3 at index 1"),
        (structs(2), [0, -1], ["x", "y"], r"column label: label -1 at index 1"),
        (structs(2), [1, 2], None, r"column label: labels 1, 2\. .* Renumber"),
        (structs(2), [0, None], None, "column label is int64 with 1 empty rows"),
        (structs(2), [0.5, 1.0], None, "column label is double"),
        (["a.png", "b.png"], [0, 1], None, "column image is string"),
        ([None, b"x"], [0, 1], None, "column image is empty in row 0"),
        (
            [*structs(1), {"bytes": None, "path": "p"}],
            [0, 1],
            None,
            "column image is empty in row 1",
        ),
        (pyarrow.array([], pyarrow.binary()), pyarrow.array([], pyarrow.int64()), None, "no rows"),
    ],
)
def test_columns_that_do_not_fit_are_named(
    image: Any, label: Any, names: list[str] | None, message: str, tmp_path: Path
) -> None:
    path = save(tmp_path / "bad.parquet", image, label, names)
    with pytest.raises(DataError, match=message):
        read_data(f"parquet:{path}")


def test_a_string_label_that_is_not_trained_is_named(tmp_path: Path) -> None:
    save(tmp_path / "train.parquet", structs(2), ["cat", "dog"])
    save(tmp_path / "val.parquet", structs(1), ["dgo"])
    with pytest.raises(
        DataError, match=r"val\.parquet: column label: class dgo .* Did you mean dog\?"
    ):
        read_data(f"parquet:{tmp_path}")


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no train\*\.parquet inside"):
        read_data(f"parquet:{tmp_path}")
    with pytest.raises(DataError, match=r"gone\.parquet: no such file"):
        read_data(f"parquet:{tmp_path / 'gone.parquet'}")
    with pytest.raises(DataError, match=r"words\.parquet: cannot be read"):
        read_data(f"parquet:{write(tmp_path / 'words.parquet', b'words' * 9)}")
    parquet.write_table(pyarrow.table({"img": [b""], "label": [0]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"no column image, only img, label\. Did you mean"):
        read_data(f"parquet:{tmp_path / 'other.parquet'}")


def test_an_image_that_cannot_be_decoded_is_named_by_its_row(tmp_path: Path) -> None:
    save(tmp_path / "train.parquet", [*images(2), b"words"], [0, 1, 1])
    save(tmp_path / "val.parquet", images(1, 3), [0])
    data = read_data(f"parquet:{tmp_path}")
    with pytest.raises(DataError, match=r"train\.parquet row 2: not an image"):
        data.train.image(2)


@pytest.mark.long
def test_a_published_data_set_is_read() -> None:
    data = read_data(f"parquet:{shared('data/cifar10-jpeg')}")
    assert (len(data.train), len(data.val)) == (50_000, 10_000)
    assert data.classes[::9] == ("airplane", "truck")
    assert np.bincount(data.val.labels).tolist() == [1000] * 10
    assert data.val.image(0).size == (32, 32)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet: cannot be read .*a pipe, not a file"):
        read_data(f"parquet:{tmp_path / 'x.parquet'}")


def test_a_value_that_is_repeated_a_million_times_is_refused_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebear.data.sources.parquet.data_room", lambda: 50 * 2**20)
    values = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array(np.zeros(10**6, np.int32)), pyarrow.array([bytes(10**6)])
    )
    table = pyarrow.table({"image": values, "label": np.zeros(10**6, np.int64)})
    parquet.write_table(table, tmp_path / "x.parquet", store_schema=False)
    assert (tmp_path / "x.parquet").stat().st_size < 2**20  # for a terabyte
    with pytest.raises(DataError, match="its images take more than 52,428,800 bytes"):
        read_data(f"parquet:{tmp_path / 'x.parquet'}")


def test_damage_anywhere_is_an_error_of_one_line_or_the_same_rows(tmp_path: Path) -> None:
    path = save(tmp_path / "x.parquet", images(12), [0, 1] * 6)
    whole, random, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        content = bytearray(whole)
        for at in random.integers(len(content) // 2, len(content), 3):
            content[at] = random.integers(256)
        path.write_bytes(bytes(content))
        try:
            read_data(f"parquet:{path}")
        except DataError as error:
            refused += "\n" not in str(error)
    assert refused > 100


def test_class_names_must_differ(tmp_path: Path) -> None:
    path = save(tmp_path / "x.parquet", images(4), [0, 1, 0, 1], ["a", "a"])
    with pytest.raises(DataError, match="the class name 'a' is the name of two classes"):
        read_data(f"parquet:{path}")


@pytest.mark.parametrize("names", [[f"p{n // 2}" for n in range(20)], [n // 2 for n in range(20)]])
def test_a_column_of_groups_stays_on_one_side(names: list[str] | list[int], tmp_path: Path) -> None:
    columns = {"image": images(20), "label": [n // 2 % 2 for n in range(20)], "patient": names}
    path = tmp_path / "all.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    data = read_data(f"parquet:{path}", ReadOptions(group_by="patient"))
    train, val = data.groups["train"], data.groups["val"]
    assert not set(train.numbers.tolist()) & set(val.numbers.tolist())
    assert train.names == tuple(sorted({str(name) for name in names}))
    row = int(data.val.name(0).rpartition(" ")[2])
    assert val.name(0) == str(names[row])
    with pytest.raises(DataError, match="no column place, only image, label, patient.*another"):
        read_data(f"parquet:{path}", ReadOptions(group_by="place"))
    with pytest.raises(DataError, match="images in Parquet files have no paths"):
        read_data(f"parquet:{path}", ReadOptions(group_by="{group}_*"))


def test_groups_of_given_files_are_compared_and_empty_ones_refused(tmp_path: Path) -> None:
    for part, first, patients in (("train", 0, ["p", "q"]), ("val", 2, ["r", "q"])):
        columns = {"image": images(2, first), "label": [0, 1], "patient": patients}
        parquet.write_table(pyarrow.table(columns), tmp_path / f"{part}.parquet")
    data = read_data(f"parquet:{tmp_path}", ReadOptions(group_by="patient"))
    with pytest.raises(DataError, match=r"the group q is in train \(1 image, such as .* row 1\)"):
        refuse_shared_groups(data)
    columns = {"image": images(2), "label": [0, 1], "patient": ["p", None]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "val.parquet")
    with pytest.raises(DataError, match="column patient is string with 1 empty rows"):
        read_data(f"parquet:{tmp_path}", ReadOptions(group_by="patient"))
