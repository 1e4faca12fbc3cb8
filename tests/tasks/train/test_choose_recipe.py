"""`--recipe auto`: what it measures, what it chooses, and what it leaves alone."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import forebear
from forebear.tasks.train import choose_recipe as module
from forebear.tasks.train.api import train
from forebear.tasks.train.choose_recipe import WAYS, Scores
from forebear.tasks.train.recipe_files import read_recipe
from forebear.tasks.train.request import TrainConfig
from forebear.tasks.train.resolve import read_config
from forebear.tasks.train.validate import validate
from forebear.weights.native_format import save
from tests.cli.making import folder, table


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, a network, and weights of it for other classes."""
    path = tmp_path_factory.mktemp("auto")
    folder(path / "data" / "train", 12)
    folder(path / "data" / "val", 4)
    own = table(path / "tiny.toml")
    network = forebear.create(
        own, dialect="torchvision", num_classes=2, generator=torch.Generator().manual_seed(0)
    )
    save(network, path / "base.safetensors")
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of one short epoch on one fold."""
    monkeypatch.setattr(module, "SHORTEST", 1)
    monkeypatch.setattr(module, "LENGTH", 0.0)
    monkeypatch.setattr(module, "ENOUGH", 1)


def config(world: Path, out: Path, **more: Any) -> TrainConfig:
    given: dict[str, Any] = {
        "data": f"folder:{world / 'data'}",
        "network": str(world / "tiny.toml"),
        "dialect": "torchvision",
        "recipe": "auto",
        "weights": world / "base.safetensors",
        "partial": True,
        "epochs": 2,
        "out": out,
        "threads": 1,
    }
    return TrainConfig(**given | more)


def chosen(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Lets the trials choose a way."""
    monkeypatch.setattr(module, "_best", lambda *_: way)


def settings(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "settings.json").read_text())
    return found


def test_without_weights_there_is_nothing_to_tune() -> None:
    with pytest.raises(ValueError, match=r"recipe=auto without weights: .* Pass --weights FILE"):
        TrainConfig(data="digits", recipe="auto")


def test_every_way_fits_the_recipe() -> None:
    asked = read_config(TrainConfig(data="digits", recipe="auto", weights=Path("w.pth"), epochs=5))
    for values in WAYS.values():
        assert asked.suggest("measurement", **values).recipe.head_init == "logistic"
    assert read_recipe("auto").head_init == "logistic"


def test_a_way_that_changes_less_must_be_clearly_better() -> None:
    """Two standard errors of 8 and 12 in 16 images are 3.7; of 200 and 220 in 400 they are 20."""
    assert Scores({"head-only": 11, "gentle": 8, "full": 8}, 16).best == "full"
    assert Scores({"head-only": 8, "gentle": 12, "full": 8}, 16).best == "gentle"
    assert Scores({"head-only": 12, "gentle": 8, "full": 7}, 16).best == "head-only"
    assert Scores({"head-only": 7, "gentle": 7, "full": 9}, 16).best == "full"
    assert Scores({"head-only": 219, "gentle": 210, "full": 200}, 400).best == "full"
    assert Scores({"head-only": 221, "gentle": 210, "full": 200}, 400).best == "gentle"


def test_few_errors_vary_less() -> None:
    """Of 50 images, 45 against 39 is clear, and 32 against 27 is not."""
    assert Scores({"head-only": 45, "full": 39}, 50).best == "head-only"
    assert Scores({"head-only": 32, "full": 27}, 50).best == "full"


def test_a_way_that_was_not_tried_is_not_chosen() -> None:
    assert Scores({"head-only": 9, "full": 9}, 16).best == "full"
    assert Scores({"head-only": 50, "full": 0}, 50).best == "head-only"


def test_the_line_says_what_was_chosen_and_why() -> None:
    line = Scores({"head-only": 5, "gentle": 9, "full": 6}, 10).line
    assert line == (
        "auto: gentle, by 10 held-out training images: head-only 50.0%, gentle 90.0%, full 60.0%"
    )
    line = Scores({"head-only": 5, "gentle": 7, "full": 6}, 10).line
    assert line.startswith("auto: full, as none is clearly better by 10 held-out training images:")


def test_the_line_of_multi_label_images_has_map() -> None:
    line = Scores({"head-only": 8.5, "gentle": 4, "full": 4}, 10, multi_label=True).line
    assert line.startswith(
        "auto: head-only, by mAP of 10 held-out training images: head-only 85.0%"
    )


def trials_of(images: int, budget: float | None, *, step: float) -> module.Trials | None:
    """The trials of a run of 40 epochs in batches of 20, whose steps take so many seconds."""
    setup: Any = SimpleNamespace(
        resolved=SimpleNamespace(recipe=SimpleNamespace(epochs=40, batch=20, size=64)),
        data=SimpleNamespace(train=range(images)),
        config=SimpleNamespace(budget=budget),
        times=SimpleNamespace(seconds=lambda batch, size: step),
    )
    plan: Any = SimpleNamespace(count=4)
    return module.plan_trials(setup, plan)


def test_without_a_budget_all_ways_are_tried_for_half_of_the_epochs() -> None:
    assert trials_of(200, None, step=1.0) == module.Trials(("gentle", "full"), 20, 200)


def test_trials_take_a_third_of_the_budget() -> None:
    """Of 200 images, an epoch of a fold has 7.5 steps, and there are 4 folds of 2 ways."""
    assert trials_of(200, 1e6, step=0.1) == module.Trials(("gentle", "full"), 20, 200)
    assert trials_of(200, 240.0, step=0.1) == module.Trials(("gentle", "full"), 14, 200)


def test_a_short_budget_compares_full_with_the_logits_alone() -> None:
    """One fold of 50 images, for a quarter of the epochs: 7.5 seconds."""
    assert trials_of(200, 120.0, step=0.1) == module.Trials(("full",), 10, 50)
    assert trials_of(200, 22.0, step=0.1) == module.Trials(("full",), 10, 50)
    assert trials_of(200, 21.0, step=0.1) is None


@pytest.mark.usefixtures("quick")
@pytest.mark.long
def test_the_trials_choose_by_training_images_alone(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config(world, tmp_path / "run"))
    lines = capsys.readouterr().err
    assert "auto: trials of 1 epochs on fold 1 of 4" in lines
    assert "by 9 held-out training images: head-only " in lines  # a quarter of 36


@pytest.mark.long
def test_trials_that_are_too_short_to_tell_anything_are_left_out(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "plan_trials", lambda *_: None)
    train(config(world, tmp_path / "run", epochs=5))
    lines = capsys.readouterr().err
    assert "auto: full, as the budget is too short for trials as well" in lines
    assert "auto: trials" not in lines
    assert settings(tmp_path / "run")["recipe"]["lr"] == 7e-4


@pytest.mark.parametrize(
    ("right", "line"),
    [
        (7, "auto: full, as head-only has 77.8% on 9"),
        (8, "auto: full, by 36 held-out training images"),
    ],
)
@pytest.mark.long
def test_short_trials_are_made_only_if_the_logits_alone_are_good(
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    right: int,
    line: str,
) -> None:
    """A fold has 9 images, of which 80 % are 7.2."""
    short = module.Trials(("full",), 1, module.FEW)
    monkeypatch.setattr(module, "plan_trials", lambda *_: short)
    monkeypatch.setattr(module, "_trials", lambda *_: [("head-only", right), ("full", 9)])
    train(config(world, tmp_path / "run", epochs=1))
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("share", "line"),
    [
        (0.35, "by 36 held-out training images: head-only 22.2%, gentle 55.6%, full 66.7%"),
        (0.02, "by 9 held-out training images: head-only 22.2%, full 66.7%"),  # of 60 seconds
    ],
)
@pytest.mark.long
def test_gentle_is_left_out_if_the_trial_of_full_takes_longer_than_planned(
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    share: float,
    line: str,
) -> None:
    monkeypatch.setattr(module, "SHARE", share)
    both = module.Trials(("gentle", "full"), 1, module.ENOUGH)
    monkeypatch.setattr(module, "plan_trials", lambda *_: both)

    def trials(*_: object) -> Iterator[tuple[str, int]]:
        yield "head-only", 2
        time.sleep(0.7)
        yield "full", 6
        yield "gentle", 5

    monkeypatch.setattr(module, "_trials", trials)
    train(config(world, tmp_path / "run", epochs=None, budget=60.0, sets=("epochs=3",)))
    assert line in capsys.readouterr().err


@pytest.mark.long
def test_a_trial_evaluates_once(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "plan_trials", lambda *_: module.Trials(("full",), 3, 1))
    validations: list[object] = []

    def counted(*given: Any, **more: Any) -> Any:
        validations.append(given)
        return validate(*given, **more)

    monkeypatch.setattr("forebear.tasks.train.loop.validate", counted)
    train(config(world, tmp_path / "run", epochs=2))
    assert len(validations) == 1 + 2  # of the trial, and of the run's epochs


@pytest.mark.long
def test_a_budget_times_a_step_before_it_plans_trials(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[int] = []
    plan = module.plan_trials

    def planned(setup: Any, folds: Any) -> module.Trials | None:
        known.append(len(setup.times.known))
        return plan(setup, folds)

    monkeypatch.setattr(module, "plan_trials", planned)
    train(config(world, tmp_path / "run", epochs=None, budget=60.0, sets=("epochs=3",)))
    assert known == [1]


@pytest.mark.long
def test_head_only_keeps_the_logistic_regression(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen(monkeypatch, "head-only")
    train(config(world, tmp_path / "run", epochs=None))
    found = settings(tmp_path / "run")
    assert found["recipe"]["head_only"] is True
    assert found["chosen_by"]["head_only"] == "measurement"
    assert found["chosen_by"]["optimizer"] == "recipe"
    network = forebear.load(tmp_path / "run" / "model.safetensors")
    base = forebear.load(world / "base.safetensors")
    same = {name for name, value in network.state_dict().items() if "logits" not in name}
    assert all(torch.equal(network.state_dict()[n], base.state_dict()[n]) for n in same)
    bias = network.get_submodule("logits").get_parameter("bias")
    assert float(bias.detach().abs().max()) > 0
    assert found["recipe"]["head_scale"] == 1.0


@pytest.mark.slow
def test_full_fine_tuning_starts_from_the_logistic_regression(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen(monkeypatch, "full")
    train(config(world, tmp_path / "run"))
    found = settings(tmp_path / "run")
    assert found["recipe"]["lr"] == 7e-4
    assert found["recipe"]["epochs"] == 2
    assert "the logits start as a logistic regression on the features of 36 images: " in (
        capsys.readouterr().err
    )


@pytest.mark.long
def test_what_the_user_sets_stays(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen(monkeypatch, "gentle")
    train(config(world, tmp_path / "run", lr=0.002, sets=("policy=trivialaugment",)))
    found = settings(tmp_path / "run")
    assert found["recipe"]["lr"] == 0.002
    assert found["recipe"]["policy"] == "trivialaugment"


def test_a_class_of_one_image_leaves_the_logits_alone(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "data" / "train", 1)
    folder(tmp_path / "data" / "val", 1)
    train(config(world, tmp_path / "run", data=f"folder:{tmp_path / 'data'}", epochs=None))
    assert "auto: head-only, as a class has too few images to hold some out" in (
        capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_budget_with_room_to_spare_is_no_reason_to_train_longer(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen(monkeypatch, "gentle")
    result = train(config(world, tmp_path / "run", epochs=None, budget=600.0, sets=("epochs=3",)))
    assert settings(tmp_path / "run")["recipe"]["epochs"] == 3
    assert np.isfinite(result.validation.loss)


def several(world: Path, file: Path, *, rare: bool = False) -> str:
    """The training images as a multi-label table, with labels of two kinds; a rare one as well."""
    rows = ["image,labels"]
    for number, path in enumerate(sorted((world / "data" / "train").rglob("*.png"))):
        kind = "plain" if path.parent.name == "grey" else "stripes"
        rows.append(f"{path},{kind}{';odd' if number % 2 else ''}")
    rows[1] += ";rare" if rare else ""
    file.write_text("\n".join(rows) + "\n")
    return f"csv:{file}"


@pytest.mark.usefixtures("quick")
@pytest.mark.long
def test_multi_label_images_are_measured_by_map(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = several(world, tmp_path / "table.csv")
    train(config(world, tmp_path / "run", data=data, multi_label=True))
    lines = capsys.readouterr().err
    assert re.search(r"by mAP of \d+ held-out training images: head-only \d", lines)
    assert "the logits start as a logistic regression on the features of " in lines
    assert "mAP" in lines.partition("the logits start as")[2].partition("in cross-validation")[0]
    found = settings(tmp_path / "run")
    assert found["chosen_by"]["crop"] == "measurement"
    assert found["recipe"]["crop"] in ("middle", "shift")
    assert forebear.load(tmp_path / "run" / "model.safetensors").multi_label


@pytest.mark.usefixtures("quick")
def test_multi_label_photographs_are_not_cropped_at_random_sizes(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen(monkeypatch, "full")
    data = several(world, tmp_path / "table.csv")
    train(config(world, tmp_path / "run", data=data, multi_label=True, epochs=1))
    found = settings(tmp_path / "run")["recipe"]
    assert (found["crop"], found["loss"], found["head_scale"]) == ("shift", "bce", 1.0)
    data = several(world, tmp_path / "rare.csv", rare=True)
    capsys.readouterr()
    monkeypatch.undo()
    train(config(world, tmp_path / "rare", data=data, multi_label=True, epochs=1))
    assert "auto: head-only, as a label has too few images to hold some out" in (
        capsys.readouterr().err
    )
