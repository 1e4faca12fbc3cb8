from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from forebear.network.calibration import Calibration
from forebear.tasks.runs.examples import Example
from forebear.tasks.runs.page_sections import (
    calibration_sentence,
    cards,
    check_command,
    class_balance,
    class_names,
    stored_calibration,
)
from forebear.tasks.runs.read import read_run
from tests.tasks.making import Made, write_run

FITTED = Calibration(
    temperature=1.5, threshold=0.3, unknown_rate=0.05, images=60, ece_before=0.2, ece_after=0.04
)


def test_the_class_with_the_most_training_images_comes_first_and_bars_are_of_each_part() -> None:
    found = class_balance({"training": [5, 20], "test": [4, 1]}, ["cat", "dog"])
    assert found is not None
    assert found.parts == ("training", "test")
    assert [row.name for row in found.rows] == ["dog", "cat"]
    assert found.rows[0].cells == (("20", 100.0), ("1", 25.0))
    assert found.rows[1].cells == (("5", 25.0), ("4", 100.0))
    assert found.hidden == 0
    assert found.unlabelled == ()


def test_images_without_any_label_are_counted_in_each_part() -> None:
    parts = {"training": [5, 20], "test": [4, 1]}
    found = class_balance(parts, ["cat", "dog"], {"training": 1200, "test": 0})
    assert found is not None
    assert found.unlabelled == ("1,200", "0")


def test_of_many_classes_the_largest_and_the_smallest_are_shown() -> None:
    found = class_balance({"training": list(range(100))}, [f"c{at}" for at in range(100)])
    assert found is not None
    names = [row.name for row in found.rows]
    assert (names[0], names[14], names[15], names[-1]) == ("c99", "c85", "c14", "c0")
    assert (len(names), found.hidden) == (30, 70)


def test_counts_that_are_not_those_of_the_classes_give_no_table() -> None:
    assert class_balance({}, ["cat"]) is None
    assert class_balance({"training": [1, 2]}, ["cat"]) is None
    assert class_balance({"training": []}, []) is None


@pytest.mark.parametrize(
    ("temperature", "end"),
    [(1.5, "is overconfident."), (0.5, "is underconfident."), (1.02, "was not fitted on.")],
)
def test_the_calibration_is_one_of_both_errors(temperature: float, end: str) -> None:
    found = Calibration(**{**FITTED.as_dict(), "temperature": temperature})
    said = calibration_sentence(found)
    assert "(ECE) is 20.00% without a temperature, and 4.00% with the temperature" in said
    assert f"{temperature:.3f}, which was fitted on 60 validation images" in said
    assert said.endswith(end)
    assert calibration_sentence(None) == ""


def test_the_calibration_is_read_from_the_weights_of_a_finished_run(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    assert stored_calibration(run) is None
    path = tmp_path / "run" / "model.safetensors"
    save_file({"w": np.zeros(1)}, path, {"calibration": json.dumps(FITTED.as_dict())})
    assert stored_calibration(run) == FITTED
    for damaged in ("1", "{}", "null", "x"):
        save_file({"w": np.zeros(1)}, path, {"calibration": damaged})
        assert stored_calibration(run) is None
    path.unlink()
    assert stored_calibration(run) is None


def test_a_card_names_the_image_both_classes_and_their_probabilities() -> None:
    one = Example(
        name="/a/b/c/d.jpg", label="n01440764", predicted="dog", label_probability=0.00123,
        probability=0.98, image="data:1", map="data:2",
    )  # fmt: skip
    (card,) = cards([one])
    assert (card.name, card.label, card.predicted) == ("c/d.jpg", "tench, 0.12%", "dog, 98.0%")
    assert card.images == ("data:1", "data:2")
    assert cards(None) == []


def test_the_command_quotes_the_data_and_the_run(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a run", Made(data={"spec": "folder:my data"})))
    assert check_command(run) == f"forebear check 'folder:my data' --model '{run.path}'"


def test_class_names_are_those_of_a_list() -> None:
    assert class_names({"classes": ["a", 1]}) == ["a", "1"]
    assert class_names({"classes": "ab"}) == class_names({}) == []
