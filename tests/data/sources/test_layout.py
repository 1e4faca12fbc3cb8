"""Each rule of the table of layouts, and what is never a class."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebear.data.sources.layout import Layout, is_output, recognise
from forebear.errors import DataError
from tests.data.making import write


def laid_out(root: Path, *files: str) -> Path:
    for name in files:
        write(root / name, b"x")
    return root


def classes(layout: Layout) -> dict[str, list[str]]:
    return {part: [name for name, _ in found] for part, found in layout.parts.items()}


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Training", "Validation", "Testing"),
        ("training_set", "dev_set", "test_set"),
        ("seg_train", "seg_val", "seg_test"),
        ("ILSVRC2012_img_train", "ILSVRC2012_img_val", "ILSVRC2012_img_test"),
    ],
)
def test_parts_are_known_by_name(names: tuple[str, ...], tmp_path: Path) -> None:
    laid_out(tmp_path, *(f"{name}/{kind}/1.png" for name in names for kind in ("cat", "dog")))
    layout = recognise(tmp_path)
    assert classes(layout) == {part: ["cat", "dog"] for part in ("train", "val", "test")}
    assert layout.origins == dict(
        zip(("train", "val", "test"), (f"{name}/" for name in names), strict=True)
    )


def test_lone_folders_around_the_rest_are_stepped_into(tmp_path: Path) -> None:
    laid_out(tmp_path, "a/b/early/1.png", "a/b/late/1.png", "a/readme.txt")
    layout = recognise(tmp_path)
    assert classes(layout) == {"train": ["early", "late"]}
    assert layout.origins == {"train": "a/b/"}


def test_lone_folders_inside_parts_are_stepped_into(tmp_path: Path) -> None:
    laid_out(tmp_path, *(f"seg_{p}/seg_{p}/{c}/1.png" for p in ("train", "test") for c in "ab"))
    layout = recognise(tmp_path)
    assert classes(layout) == {"train": ["a", "b"], "test": ["a", "b"]}
    assert layout.origins["train"] == "seg_train/seg_train/"


def test_a_folder_with_images_is_never_stepped_into(tmp_path: Path) -> None:
    laid_out(tmp_path, "only/1.png", "only/more/2.png")
    assert classes(recognise(tmp_path)) == {"train": ["only"]}


def test_parts_inside_the_classes_are_parts(tmp_path: Path) -> None:
    laid_out(tmp_path, *(f"{c}/{p}/1.png" for c in ("cat", "dog") for p in ("train", "valid")))
    layout = recognise(tmp_path)
    assert classes(layout) == {"train": ["cat", "dog"], "val": ["cat", "dog"]}
    assert layout.parts["val"][0][1] == tmp_path / "cat" / "valid"


def test_a_folder_beside_parts_is_named_as_not_used(tmp_path: Path) -> None:
    laid_out(tmp_path, "train/a/1.png", "val/a/1.png", "unlabeled/1.png")
    layout = recognise(tmp_path)
    assert set(layout.parts) == {"train", "val"}
    assert layout.notes == ("the folder unlabeled/ is not used, as it is no part by its name",)


def test_names_of_parts_are_classes_among_other_classes(tmp_path: Path) -> None:
    laid_out(tmp_path, "train/1.png", "bus/1.png")
    assert classes(recognise(tmp_path)) == {"train": ["bus", "train"]}
    laid_out(tmp_path / "lab", "test_tube/1.png", "train_set_box/1.png", "flask/1.png")
    found = classes(recognise(tmp_path / "lab"))
    assert found == {"train": ["flask", "test_tube", "train_set_box"]}


def test_parts_without_class_folders_are_unlabelled(tmp_path: Path) -> None:
    laid_out(tmp_path, "train/a/1.png", "train/b/1.png", "test/1.png", "test/2.png")
    layout = recognise(tmp_path)
    assert set(layout.parts) == {"train"}
    assert layout.unlabelled == {"test": tmp_path / "test"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("train/a/1.png", "Training/a/1.png"), "are both names of the train part"),
        (("valid/a/1.png", "test/a/1.png"), "and none for training"),
        (
            ("cat_train/x/1.png", "cat_test/x/1.png", "dog_train/x/1.png", "dog_test/x/1.png"),
            "name parts and classes at once",
        ),
        (("fold1/a/1.png", "fold2/a/1.png"), "are folds, not classes"),
        (("images/1.png", "labels/1.txt"), "data set for detection or segmentation"),
    ],
)
def test_layouts_that_would_be_misread_are_refused(
    files: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    laid_out(tmp_path, *files)
    with pytest.raises(DataError, match=said):
        recognise(tmp_path)


def test_the_same_folders_in_every_class_are_noted(tmp_path: Path) -> None:
    laid_out(tmp_path, *(f"{year}/{c}/1.png" for year in (2019, 2020) for c in ("cat", "dog")))
    layout = recognise(tmp_path)
    assert classes(layout) == {"train": ["2019", "2020"]}
    assert layout.notes == (
        "every class folder contains the folders cat, dog, whose names are not used",
    )


def test_outputs_and_folders_of_systems_are_never_classes(tmp_path: Path) -> None:
    laid_out(
        tmp_path,
        "cat/1.png",
        "dog/1.png",
        "first/settings.json",
        "first/metrics.jsonl",
        "first/pictures.png",
        "runs/second/settings.json",
        "runs/second/model.safetensors",
        "wandb/run-1/files/config.yaml",
        "wandb/run-1/files/media.png",
        "mlflow/mlflow.db",
        "mlflow/artifacts/1/artifacts/curves.png",
        "trackio/forebear.db",
        "__MACOSX/cat/1.png",
        "@eaDir/1.png",
    )
    layout = recognise(tmp_path)
    assert classes(layout) == {"train": ["cat", "dog"]}
    assert layout.notes == tuple(
        f"{name}/ is not used, as it contains the outputs of training runs"
        for name in ("first", "mlflow", "runs", "trackio", "wandb")
    )


def test_a_class_called_runs_stays_one(tmp_path: Path) -> None:
    laid_out(tmp_path, "runs/1.png", "walks/1.png")
    assert classes(recognise(tmp_path)) == {"train": ["runs", "walks"]}
    assert not is_output(tmp_path / "runs")


def test_a_class_called_as_a_tracker_stays_one(tmp_path: Path) -> None:
    laid_out(tmp_path, "wandb/1.png", "mlflow/1.png", "trackio/1.png")
    assert classes(recognise(tmp_path)) == {"train": ["mlflow", "trackio", "wandb"]}


def test_an_offline_run_of_weights_and_biases_is_an_output(tmp_path: Path) -> None:
    laid_out(tmp_path, "wandb/offline-run-1/run-1.wandb", "wandb/offline-run-1/files/page.png")
    assert is_output(tmp_path / "wandb")
