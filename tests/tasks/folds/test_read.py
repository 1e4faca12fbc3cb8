"""A cross-validation that is read back for its data set, and refused for another one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forebear.data.dataset import ArrayImages, Dataset
from forebear.data.sources.read_options import ReadOptions
from forebear.data.sources.registry import read_data
from forebear.errors import DataError, RunError
from forebear.tasks.faults.observe import all_images
from forebear.tasks.folds.read import is_cross_validation, read_folds, shares_of
from tests.cli import making as images_making
from tests.cli.test_check import parts
from tests.tasks.folds.making import saved_folds
from tests.tasks.labels_making import multi_table


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return read_data(f"folder:{images_making.folder(tmp_path / 'data', 8)}")


def test_each_image_has_the_probabilities_of_its_row(tmp_path: Path, data: Dataset) -> None:
    plan = saved_folds(tmp_path / "cv", data, lambda at: 2 if at == 3 else -1)
    assert is_cross_validation(tmp_path / "cv")
    assert not is_cross_validation(tmp_path / "cv/fold-1")
    shares = shares_of(read_folds(tmp_path / "cv"), data)
    images = all_images(data)
    assert shares.shape == (24, 3)
    assert shares.sum(1) == pytest.approx(np.ones(24), abs=1e-4)
    wrong = [at for at in range(24) if shares[at].argmax() != images.labels[at]]
    assert [images.name(at) for at in wrong] == [plan.images.name(3)]


def test_groups_give_the_images_another_order(tmp_path: Path, data: Dataset) -> None:
    saved_folds(tmp_path / "cv", data, lambda at: 2 if at == 3 else -1)
    plain = shares_of(read_folds(tmp_path / "cv"), data)
    by_name = dict(zip(map(all_images(data).name, range(24)), plain.tolist(), strict=True))
    grouped = read_data(data.spec, ReadOptions(group_by="{group}.png"))
    shares = shares_of(read_folds(tmp_path / "cv"), grouped)
    names = list(map(all_images(grouped).name, range(24)))
    assert names != list(by_name)
    assert shares.tolist() == [by_name[name] for name in names]


def test_arrays_have_numbers_for_names_and_are_matched_by_content(tmp_path: Path) -> None:
    data = read_data("digits")
    plan = saved_folds(tmp_path / "cv", data, lambda at: 7 if at == 5 else -1)
    shares = shares_of(read_folds(tmp_path / "cv"), data)
    images = all_images(data)
    (wrong,) = np.flatnonzero(shares.argmax(1) != images.labels)
    assert wrong != 5
    assert images.digest(int(wrong)) == plan.images.digest(5)


def test_a_validation_set_of_the_data_has_no_out_of_fold_probabilities(tmp_path: Path) -> None:
    data = read_data(f"folder:{parts(tmp_path / 'set', 6)}")
    assert not data.splits_off
    saved_folds(tmp_path / "cv", data)
    shares = shares_of(read_folds(tmp_path / "cv"), data)
    assert shares.shape == (24, 3)
    assert (shares[:18].argmax(1) == data.train.labels).all()
    assert np.isnan(shares[18:]).all()


def test_images_of_several_labels_have_one_probability_a_label(tmp_path: Path) -> None:
    data = read_data(f"csv:{multi_table(tmp_path / 'data', 32)}")
    saved_folds(tmp_path / "cv", data)
    shares = shares_of(read_folds(tmp_path / "cv"), data)
    assert ((shares > 0.5) == (all_images(data).labels > 0)).all()


def test_an_image_that_was_not_decoded_has_none(tmp_path: Path, data: Dataset) -> None:
    saved_folds(tmp_path / "cv", data)
    table = tmp_path / "cv/out_of_fold.csv"
    lines = table.read_text().splitlines()
    cells = lines[5].split(",")
    lines[5] = ",".join([*cells[:4], *[""] * (len(cells) - 4)])
    table.write_text("\n".join(lines) + "\n")
    shares = shares_of(read_folds(tmp_path / "cv"), data)
    (left,) = np.flatnonzero(np.isnan(shares).any(1))
    assert all_images(data).name(int(left)) == cells[1]


def lacking(root: Path) -> None:
    (root / "grey/0.png").unlink()
    (root / "down/1.png").unlink()


def adding(root: Path) -> None:
    shutil.copy(root / "grey/0.png", root / "grey/new.png")


def changing(root: Path) -> None:
    shutil.copy(root / "grey/0.png", root / "grey/1.png")


def another_class(root: Path) -> None:
    (root / "grey").rename(root / "gray")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lacking, r"2 of 24 images of out_of_fold\.csv are not in the data, such as .*down/1\.png"),
        (adding, r"1 of 25 images are not in out_of_fold\.csv, such as .*new\.png\. Expected the"),
        (changing, r"the contents of some of the 24 images have changed"),
        (another_class, r"1 of its 3 classes are not in out_of_fold\.csv"),
    ],
)
def test_another_data_set_is_refused_with_counts(
    tmp_path: Path, data: Dataset, change: Callable[[Path], None], message: str
) -> None:
    saved_folds(tmp_path / "cv", data)
    change(tmp_path / "data")
    with pytest.raises(DataError, match=message) as error:
        shares_of(read_folds(tmp_path / "cv"), read_data(data.spec))
    assert f"which is {data.spec}. Pass that data set, or train the folds" in str(error.value)


def test_other_labels_are_counted(tmp_path: Path) -> None:
    file = multi_table(tmp_path / "data", 32)
    saved_folds(tmp_path / "cv", read_data(f"csv:{file}"))
    head, *rows = file.read_text().splitlines()
    turned = [f"{row[:-1]}{1 - int(row[-1])}" for row in rows[:3]]
    file.write_text("\n".join([head, *turned, *rows[3:]]))
    with pytest.raises(DataError, match=r"3 of 32 images have other labels now, such as"):
        shares_of(read_folds(tmp_path / "cv"), read_data(f"csv:{file}"))


def test_one_class_an_image_and_several_labels_are_told_apart(
    tmp_path: Path, data: Dataset
) -> None:
    saved_folds(tmp_path / "cv", data)
    several = np.eye(3, dtype=np.uint8)
    pixels = np.zeros((3, 16, 16, 3), np.uint8)
    other = replace(
        data, train=ArrayImages(pixels, several, "x"), val=ArrayImages(pixels, several, "x"),
        whole=None,
    )  # fmt: skip
    with pytest.raises(DataError, match=r"it has several labels an image, and out_of_fold\.csv ha"):
        shares_of(read_folds(tmp_path / "cv"), other)


def test_a_cross_validation_that_is_not_finished_says_how_to_go_on(
    tmp_path: Path, data: Dataset
) -> None:
    saved_folds(tmp_path / "cv", data)
    note = json.loads((tmp_path / "cv/folds.json").read_text())
    (tmp_path / "cv/out_of_fold.csv").rename(tmp_path / "table")
    with pytest.raises(RunError, match=r"not finished\. Expected out_of_fold\.csv in its folder"):
        read_folds(tmp_path / "cv")
    (tmp_path / "table").rename(tmp_path / "cv/out_of_fold.csv")
    del note["out_of_fold"]
    (tmp_path / "cv/folds.json").write_text(json.dumps(note))
    with pytest.raises(RunError, match=r"not finished"):
        read_folds(tmp_path / "cv")
    for text in ("{", "[]", '{"folds": 1, "request": {"data": "x"}, "fingerprint": "f"}'):
        (tmp_path / "cv/folds.json").write_text(text)
        with pytest.raises(RunError, match=r"its folds\.json cannot be read \(.*\)\. Expected"):
            read_folds(tmp_path / "cv")


def test_a_run_of_other_images_is_refused(tmp_path: Path, data: Dataset) -> None:
    saved_folds(tmp_path / "cv", data)
    note = json.loads((tmp_path / "cv/folds.json").read_text())
    (tmp_path / "cv/folds.json").write_text(json.dumps(note | {"fingerprint": "other"}))
    with pytest.raises(RunError, match=r"its fold-1 was trained on other images than folds\.json"):
        read_folds(tmp_path / "cv")


def test_every_damaged_table_gives_one_clear_error(tmp_path: Path, data: Dataset) -> None:
    saved_folds(tmp_path / "cv", data)
    saved, path = read_folds(tmp_path / "cv"), tmp_path / "cv/out_of_fold.csv"
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    cuts = random.integers(0, len(whole) - 2, 60).tolist()
    mutated = [whole[:cut] for cut in cuts]
    lines = whole.split(b"\n")
    for cell in (b"nan", b"-1", b"1e999", b"9" * 5000, b"", b"\xff", b'"', b"x,y"):
        for column in (0, 3, 6):
            row = lines[4].split(b",")
            row[column] = cell
            mutated.append(b"\n".join([*lines[:4], b",".join(row), *lines[5:]]))
    for content in mutated:
        path.write_bytes(content)
        with pytest.raises((RunError, DataError), match="Expected"):
            shares_of(saved, data)
