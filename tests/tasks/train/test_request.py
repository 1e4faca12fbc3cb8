"""What a caller may ask of a training run."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forebear.data.sources.read_options import ReadOptions
from forebear.settings import settings
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.request import TrainConfig


def test_every_field_has_a_help() -> None:
    known = settings(TrainConfig)
    assert list(known) == [field.name for field in dataclasses.fields(TrainConfig)]
    assert all(one.help and not one.help.endswith(".") for one in known.values())


def test_a_field_in_place_of_the_recipes_has_its_unit_and_its_values() -> None:
    known, recipe = settings(TrainConfig), settings(Recipe)
    for name in ("epochs", "batch", "lr", "size", "seed", "precision"):
        assert known[name].unit == recipe[name].unit
        assert known[name].choices == recipe[name].choices
        assert known[name].above == recipe[name].above
        assert known[name].least == (1 if name == "epochs" else recipe[name].least)
        assert known[name].optional
        assert known[name].default_text.startswith("the recipe's")
    for name in ("batch", "lr", "resize", "seed", "precision"):
        assert known[name].help == recipe[name].help
    assert known["mirror"].choices == ()  # true or false, in place of more possible values


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epochs": 0}, "epochs=0: expected 1 or more. Pass such a value, or leave it out."),
        ({"batch": -1}, "batch=-1: expected 0 to 1,048,576."),
        ({"lr": 0.0}, "lr=0.0: expected a number above 0."),
        ({"lr": float("nan")}, "lr=nan: expected a number above 0."),
        ({"size": -1}, "size=-1: expected 0 to 8,192."),
        ({"seed": -1}, "seed=-1: expected 0 or more."),
        ({"precision": "fp8"}, "precision='fp8': expected one of auto, fp32, fp32-strict, bf16."),
        ({"budget": 0.0}, "budget=0.0: expected a number above 0."),
        ({"hold_out": 1.0}, "hold_out=1.0: expected a fraction between 0 and 1."),
        (
            {"metric": "f1"},
            "metric='f1': expected one of auto, top1, balanced, macro-f1, mAP, loss.",
        ),
        ({"patience": 0}, "patience=0: expected 1 or more."),
        ({"bad": "warn"}, "bad='warn': expected one of fail, skip."),
        ({"threads": 0}, "threads=0: expected 1 to 1,024."),
        ({"workers": -1}, "workers=-1: expected 0 to 1,024."),
        ({"every": -1}, "every=-1: expected 0 or more."),
        ({"compile": "fast"}, "compile='fast': expected one of auto, off, on, graphs."),
    ],
)
def test_a_value_out_of_range_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 the start of the message is compared
        TrainConfig(data="zeros", **given)
    assert str(raised.value).startswith(said)
    assert str(raised.value).endswith("Pass such a value, or leave it out.")


def test_a_path_given_as_text_is_a_path() -> None:
    config = TrainConfig(data="zeros", out="runs/x", weights="~/y.pth")  # type: ignore[arg-type]
    assert (config.out, config.weights) == (Path("runs/x"), Path.home() / "y.pth")
    with pytest.raises(TypeError, match="out=5: expected a path, as text or a pathlib.Path"):
        TrainConfig(data="zeros", out=5)  # type: ignore[arg-type]


def test_how_the_data_are_read_is_part_of_a_request() -> None:
    config = TrainConfig(data="csv:x", images="~", group_by="patient")  # type: ignore[arg-type]
    assert config.reading == ReadOptions(images=Path.home(), group_by="patient")
    assert TrainConfig(data="csv:x").reading == ReadOptions()
    with pytest.raises(ValueError, match="label_column='': expected a name"):
        TrainConfig(data="csv:x", label_column="")


def test_zero_is_left_to_the_data_and_the_machine() -> None:
    TrainConfig(data="zeros", batch=0, size=0, seed=0, workers=0, every=0)


def test_it_is_frozen_and_takes_keywords_alone() -> None:
    config = TrainConfig(data="zeros")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.lr = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        TrainConfig("zeros")  # type: ignore[call-arg]


def test_it_needs_no_torch() -> None:
    program = (
        "import sys\nimport forebear.tasks.train.request\n"
        "sys.exit(str({'torch', 'numpy', 'PIL', 'rich'} & set(sys.modules) or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""


def test_a_fold_is_one_of_its_folds_and_no_second_split() -> None:
    assert TrainConfig(data="zeros", fold="3/3").fold == "3/3"
    with pytest.raises(ValueError, match=r"^fold=4: expected 1 to 3, the number of folds\."):
        TrainConfig(data="zeros", fold="4/3")
    with pytest.raises(ValueError, match=r"^hold_out=0\.2 and folds: each fold is the validation"):
        TrainConfig(data="zeros", fold="1/3", hold_out=0.2)
