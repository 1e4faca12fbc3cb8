from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import ForebearError
from forebear.settings import settings
from forebear.tables.files import resolve
from forebear.tables.registry import NETWORKS
from forebear.tasks.train.optim.lr_schedule import rate
from forebear.tasks.train.recipe import RENAMED, Recipe
from forebear.tasks.train.recipe_files import network_of, read_recipe, recipes, show


def test_all_that_were_promised_are_shipped() -> None:
    assert recipes() == (
        "auto",
        "cifar-fast",
        "cifar-modern",
        "cifar-paper",
        "default",
        "finetune",
        "head-only",
        "imagenet-fast",
        "imagenet-paper",
        "imagenet-paper-alexnet",
        "imagenet-paper-resnext",
        "imagenet-rsb-a2",
        "imagenet-rsb-a3",
        "imagenette-20",
        "imagenette-5",
        "keras-table",
    )


@pytest.mark.parametrize("name", recipes())
def test_every_shipped_recipe_is_read_and_says_what_it_is(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.summary
    assert recipe.source
    if recipe.dialect:  # a table of forebear's own
        assert resolve(network_of(recipe), recipe.dialect)[0].classes == 10
    else:
        assert recipe.network in NETWORKS or not recipe.network
    length = recipe.length or 40
    assert 0 <= rate(recipe, 1.0, length) <= 1


@pytest.mark.parametrize("name", recipes())
def test_a_shown_recipe_saved_is_the_same_recipe(name: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(show(name), encoding="utf-8")
    assert read_recipe(str(file)) == read_recipe(name)
    assert all(len(line) <= 100 for line in show(name).splitlines())


def rates(name: str, *places: float) -> list[float]:
    recipe = read_recipe(name)
    return [recipe.lr * rate(recipe, at / recipe.length, recipe.length) for at in places]


def test_the_rates_are_the_published_ones() -> None:
    paper = rates("cifar-paper", 0, 31_999, 32_000, 48_000, 63_999)
    assert paper == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.001])
    assert rates("cifar-modern", 0, 8, 16, 48, 80) == pytest.approx([0.04, 0.12, 0.2, 0.1, 0])
    assert rates("imagenet-paper-resnext", 29, 30, 60, 90) == pytest.approx([0.1, 0.01, 1e-3, 1e-4])
    assert rates("imagenet-fast", 0, 2, 9, 16) == pytest.approx([5e-5, 0.5, 0.25, 0])
    assert rates("imagenet-rsb-a3", 0, 5, 52.5, 100) == pytest.approx([8e-7, 8e-3, 4.0005e-3, 1e-6])
    assert rates("imagenet-rsb-a2", 5, 300) == pytest.approx([5e-3, 1e-6])


@pytest.mark.parametrize(
    ("word", "field", "value"),
    [
        ("lr=0.2", "lr", 0.2),
        ("lr = 1", "lr", 1.0),
        ("batch=1_024", "batch", 1024),
        ("batch=64.0", "batch", 64),
        ("nesterov=false", "nesterov", False),
        ("optimizer=lamb", "optimizer", "lamb"),
        ('optimizer="lamb"', "optimizer", "lamb"),
        ("network=paper/resnet56", "network", "paper/resnet56"),
        ("milestones=[10, 20.5]", "milestones", (10.0, 20.5)),
        ("growth=[0.2,0.8]", "growth", (0.2, 0.8)),
    ],
)
def test_a_field_is_set(word: str, field: str, value: Any) -> None:
    sets = ["nesterov=false", word]
    recipe = read_recipe("cifar-modern", sets)
    found = getattr(recipe, field)
    assert found == value
    assert type(found) is type(value)
    assert recipe.label_smoothing == read_recipe("cifar-modern").label_smoothing


def test_the_last_of_a_field_counts_and_fields_that_hang_together_are_judged_together() -> None:
    assert read_recipe("cifar-paper", ["lr=1", "lr=2"]).lr == 2
    sets = ["epochs=164", "iterations=0", "milestones=[82,123]"]
    assert read_recipe("cifar-paper", sets).length == 164


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("lr", "'lr' sets nothing. Expected field=value, as in lr=0.2."),
        ("=3", "'=3' sets nothing."),
        ("learning_rate=1", "the field 'learning_rate' is unknown. Expected one of summary,"),
        ("weight_deccay=1", "Did you mean weight_decay?"),
        ("lr=fast", "lr='fast': expected a number."),
        ("lr=true", "lr=True: expected a number."),
        ("lr=0", "lr=0.0: expected a number above 0."),
        ("batch=1.5", "batch=1.5: expected a whole number."),
        ("batch=nan", "batch=nan: expected a whole number."),
        ("nesterov=1", "nesterov=1: expected true or false."),
        ("optimizer=sdg", "optimizer='sdg': expected one of sgd, caffe,"),
        ("optimizer=3", "optimizer=3: expected one of sgd, caffe,"),
        ("network=3", "network=3: expected text."),
        ("milestones=30", "milestones=30: expected numbers, as in [30, 60]."),
        ("crop_scale=[1,2,3]", "crop_scale=[1.0, 2.0, 3.0]: expected two numbers"),
        ("crop_scale=1", "crop_scale=1: expected two numbers, as in [0.5, 1.0]."),
        ("optimizer=adam", "nesterov with optimizer='adam' and momentum=0.9: expected sgd or muon"),
        ("momentum=0", "nesterov with optimizer='sgd' and momentum=0.0"),
        ("epochs=10", "warmup=16: the run ends after 10 epochs. Expected less. Set warmup too"),
        ("iterations=9", "epochs=80 and iterations=9: expected one of them."),
    ],
)
def test_what_does_not_fit_is_refused(word: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read_recipe("cifar-modern", [word])


def test_a_milestone_after_the_end_is_refused() -> None:
    with pytest.raises(ValueError, match=r"milestones=60: the run ends after 45 epochs"):
        read_recipe("imagenet-paper", ["epochs=45"])


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"recipe 'cifar-papre' is unknown.*Did you mean cifar-pap"
    ):
        read_recipe("cifar-papre")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr = 0.1\nschedul = 'step'", "the field 'schedul' is unknown. Expected one of"),
        ("lr = 'much'\nschedule = 'step'", "lr='much': expected a number."),
        ("lr = 0.1", "schedule is missing. Expected a line schedule = ... in every recipe."),
        ("lr = -1\nschedule = 'step'", "lr=-1.0: expected a number above 0."),
        ("lr 0.1", "no TOML"),
        ("[lr]\npeak = 1", "lr={'peak': 1}: expected a number."),
    ],
)
def test_a_file_that_holds_no_recipe_is_refused_by_name(
    text: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ForebearError, match=re.escape(said)) as caught:
        read_recipe(str(file))
    assert str(caught.value).startswith(f"{file}: ")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ForebearError, match=r"none\.toml: cannot be read"):
        read_recipe(str(tmp_path / "none.toml"))


def test_a_mistake_among_the_words_is_not_laid_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("lr = 0.1\nschedule = 'constant'", encoding="utf-8")
    assert read_recipe(str(file)) == Recipe(lr=0.1, schedule="constant")
    with pytest.raises(ValueError, match=r"^lr=-1\.0: expected a number above 0"):
        read_recipe(str(file), ["lr=-1"])
    file.write_text("lr = 0.1\nschedule = 'no'", encoding="utf-8")
    with pytest.raises(ForebearError, match="mine"):
        read_recipe(str(file), ["lr=1"])


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_of_a_field_works_and_names_the_new_one(
    old: str, new: str, caplog: pytest.LogCaptureFixture
) -> None:
    value = getattr(Recipe(lr=1.0, schedule="constant"), new)
    text = str(list(value) if isinstance(value, tuple) else value)
    text = text.lower() if isinstance(value, bool) else text
    assert read_recipe("finetune", [f"{old}={text}"]) == read_recipe("finetune", [f"{new}={text}"])
    assert [record.message for record in caplog.records] == [f"--set: {old} is now {new}"]


def test_the_old_and_the_new_name_of_one_field_are_refused_together() -> None:
    with pytest.raises(ValueError, match="smoothing and label_smoothing are the same field"):
        read_recipe("finetune", ["smoothing=0.1", "label_smoothing=0.2"])


def test_every_setting_has_help_and_fits_its_own_default() -> None:
    known = settings(Recipe)
    assert [field.name for field in fields(Recipe)] == list(known)
    assert all(one.help and not one.help.endswith(".") for one in known.values())
    assert {one.needs[0] for one in known.values() if one.needs} <= known.keys()
