from __future__ import annotations

import pytest

from forebear.data.sources.part_names import is_part, part_of, parts_among


@pytest.mark.parametrize(
    ("names", "part"),
    [
        ("train Train TRAIN training training_set Training-Set trainset train_images", "train"),
        ("train2017 ILSVRC2012_img_train trainData imagenet-train", "train"),
        ("val valid Valid validation validation_set dev devset val2017 ILSVRC2012_img_val", "val"),
        ("test Test testing test_set testset test2014", "test"),
    ],
)
def test_the_usual_names_of_parts_are_known_in_any_case(names: str, part: str) -> None:
    for name in names.split():
        assert part_of(name) == (part, ""), name
        assert is_part(name)


@pytest.mark.parametrize(
    "name",
    ["cat", "trainer", "validator", "detest", "devil", "testudo", "protest", "2017", "trains"],
)
def test_other_names_are_no_parts(name: str) -> None:
    assert part_of(name) is None
    assert not is_part(name)


def test_what_else_a_name_says_is_kept_apart() -> None:
    assert part_of("seg_train") == ("train", "seg")
    assert part_of("test tube") == ("test", "tube")
    assert part_of("train_and_test") is None
    assert not is_part("seg_train")


def test_the_parts_among_files_are_found() -> None:
    found = parts_among(["train-000", "valid-000", "train-001", "notes"])
    assert found == {"train": ["train-000", "train-001"], "val": ["valid-000"], "test": []}
