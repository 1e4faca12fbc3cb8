from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from forebear.cli.main import main
from forebear.errors import StopError
from forebear.tasks.train.balance import (
    balance_line,
    choose_balance,
    class_weights,
    imbalance,
    label_odds,
    label_weights,
)
from forebear.tasks.train.events import Event, StepStart, observe
from forebear.tasks.train.loss import loss
from forebear.tasks.train.recipe import BalanceWeights, Recipe
from forebear.weights.native_format import digest, load_file
from tests.cli.making import folder, table
from tests.tasks.train.processes import Processes

LABELS = np.repeat([0, 1, 3], [60, 12, 5])  # class 2 has no image


@pytest.mark.parametrize("kind", ["effective", "inverse"])
def test_the_mean_weight_of_the_training_images_is_1(kind: BalanceWeights) -> None:
    weights = class_weights(LABELS, 5, kind)
    assert weights[LABELS].mean() == pytest.approx(1, abs=1e-12)
    assert weights[3] > weights[1] > weights[0] > 0
    assert weights[2] == weights[4] == 1  # not a division by zero


def test_weights_are_in_proportion_to_the_inverse_and_to_the_inverse_effective_number() -> None:
    inverse = class_weights(LABELS, 4, "inverse")
    assert inverse * [60, 12, 1, 5] == pytest.approx(np.array([77 / 3, 77 / 3, 1, 77 / 3]))
    beta = 76 / 77
    numbers = np.array([(1 - beta**n) / (1 - beta) for n in (60, 12, 5)])
    effective = class_weights(LABELS, 4)[[0, 1, 3]]
    assert effective * numbers == pytest.approx(np.full(3, effective[0] * numbers[0]))
    assert effective[2] / effective[0] < inverse[3] / inverse[0]


def test_equal_classes_weigh_1() -> None:
    for kind in ("effective", "inverse"):
        assert class_weights(np.arange(30) % 3, 3, kind) == pytest.approx(np.ones(3))


def test_the_weighted_loss_is_torch_s_with_the_images_as_divisor() -> None:
    weights = torch.from_numpy(class_weights(LABELS, 4).astype(np.float32))
    logits = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 0, 1, 3, 0, 1, 0])
    recipe = Recipe(lr=0.1, schedule="constant")
    ours = loss(logits, labels, recipe, weights)
    assert torch.equal(ours, F.cross_entropy(logits, labels, weight=weights, reduction="none"))
    mean = F.cross_entropy(logits, labels, weight=weights)  # divides by the sum of the weights
    assert float(ours.sum() / 8) == pytest.approx(float(mean * weights[labels].sum() / 8))


@pytest.mark.parametrize(
    ("counts", "chosen"), [([10, 10], "none"), ([15, 10], "none"), ([16, 10, 0], "sampler")]
)
def test_nothing_is_done_about_classes_of_like_size(counts: list[int], chosen: str) -> None:
    assert choose_balance(np.repeat(np.arange(len(counts)), counts)) == chosen


def test_empty_classes_do_not_count() -> None:
    assert imbalance(LABELS) == 12
    assert imbalance(np.zeros(0, np.int64)) == 1


def test_a_line_says_what_was_chosen_and_why() -> None:
    assert balance_line("sampler", "data", LABELS) == (
        "balance: sampler, as the largest class has 12 times the images of the smallest"
    )
    assert balance_line("loss", "user", LABELS[:72]) == (
        "balance: loss, as asked for; the largest class has 5.0 times the images of the smallest"
    )
    assert balance_line("loss", "recipe", LABELS).startswith("balance: loss, as the recipe says; ")


# Whole runs


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 20, 20 and 4 images, and a tiny table."""
    found = tmp_path_factory.mktemp("balance")
    folder(found / "data")
    for path in sorted((found / "data" / "grey").iterdir())[4:]:
        path.unlink()
    table(found / "tiny.toml")
    return found


def words(place: Path, out: Path, *more: Any) -> list[str]:
    fixed: tuple[Any, ...] = (
        "train", "--data", f"folder:{place / 'data'}", "--network", place / "tiny.toml",
        "--dialect", "torchvision", "--out", out, "--size", 16, "--batch", 8, "--threads", 1,
        "--epochs", 3, "--save-every", 2, "--device", "cpu", "--set", "mixup=0.2",
    )  # fmt: skip
    return list(map(str, (*fixed, *more)))


def bits(run: Path) -> str:
    return digest(load_file(run / "model.safetensors").state_dict())


@pytest.mark.parametrize("balance", ["sampler", "loss"])
@pytest.mark.long
def test_a_resumed_run_ends_in_the_bits_of_an_unbroken_one(
    tmp_path: Path, place: Path, balance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, StepStart) and event.step == 8:
            raise StopError("the moon is full.", 15)

    assert main(words(place, tmp_path / "whole", "--balance", balance)) == 0
    assert f"balance: {balance}, as asked for; the largest class has" in capsys.readouterr().err
    with observe(stop):
        assert main(words(place, tmp_path / "broken", "--balance", balance)) != 0
    assert not (tmp_path / "broken" / "model.safetensors").exists()
    assert main(["train", "--resume", str(tmp_path / "broken")]) == 0
    assert bits(tmp_path / "broken") == bits(tmp_path / "whole")


@pytest.mark.long
def test_the_default_recipe_balances_and_says_so_in_the_folder(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(place, tmp_path / "auto")) == 0
    assert "balance: sampler, as the largest class has 5.7 times" in capsys.readouterr().err
    settings = json.loads((tmp_path / "auto" / "settings.json").read_text())
    assert settings["recipe"]["balance"] == "sampler"
    assert settings["chosen_by"]["balance"] == "data"
    assert "sampler" in (tmp_path / "auto" / "index.html").read_text()
    assert main(words(place, tmp_path / "none", "--balance", "none")) == 0
    assert "balance:" not in capsys.readouterr().err
    assert bits(tmp_path / "auto") != bits(tmp_path / "none")


@pytest.mark.long
def test_classes_of_equal_size_give_the_same_bits_as_without(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    even = tmp_path / "even"
    folder(even / "data", 8)
    table(even / "tiny.toml")
    runs: list[str] = []
    for given in ((), ("--balance", "auto"), ("--balance", "none")):
        out = tmp_path / f"run-{len(runs)}"
        assert main(words(even, out, *given)) == 0
        runs.append(bits(out))
        said = "balance: none, as the largest class has 1.0 times" in capsys.readouterr().err
        assert said == ("auto" in given)
    assert len(set(runs)) == 1


def losses(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [loss for line in lines for loss in json.loads(line)["losses"]]


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["sampler", "loss"])
def test_two_processes_have_the_losses_of_one(tmp_path: Path, place: Path, balance: str) -> None:
    sets = (
        "optimizer=sgd", "momentum=0.9", "rescale=false", "batch_norm=sync", "lr=0.005",
        "mixup=0", "precision=fp32",
    )  # fmt: skip
    given = ("--balance", balance, *(word for one in sets for word in ("--set", one)))
    one, two = (words(place, tmp_path / name, *given) for name in ("one", "two"))
    assert main(one) == 0
    several = Processes(2, tmp_path / "p", main, two)
    assert several.end(120) == [0, 0], several.said()
    assert len(losses(tmp_path / "one")) == 15
    found, expected = losses(tmp_path / "two"), losses(tmp_path / "one")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.long
def test_the_logits_alone_are_trained_on_balanced_features(tmp_path: Path, place: Path) -> None:
    given = ("--set", "head_only=true", "--set", "mirror=random")
    found = set()
    for balance in ("none", "sampler", "loss"):
        assert main(words(place, tmp_path / balance, *given, "--balance", balance)) == 0
        found.add(bits(tmp_path / balance))
    assert len(found) == 3


MANY = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]], np.uint8)


def test_the_weight_of_a_label_makes_both_sides_count_the_same() -> None:
    found = label_weights(MANY, "inverse")
    assert found.tolist() == [1, 3 / 2, 1]  # all images, two of five, no image
    numbers = [5 * (1 - 0.8**n) for n in (3, 2)]
    assert label_weights(MANY)[1] == pytest.approx(numbers[0] / numbers[1])


def test_odds_are_those_of_the_weighted_labels_and_finite() -> None:
    plain = label_odds(MANY, None)
    assert plain.tolist() == pytest.approx([5.5 / 0.5, 2.5 / 3.5, 0.5 / 5.5])
    assert label_odds(MANY, torch.tensor([1.0, 2.0, 3.0])).tolist() == pytest.approx(
        (plain * torch.tensor([1, 2, 3])).tolist()
    )


def test_nothing_is_done_about_labels_of_unequal_size_unless_it_is_asked_for() -> None:
    assert imbalance(MANY) == 5 / 2
    assert choose_balance(MANY) == "none"
    assert balance_line("none", "data", MANY) == "balance: none, as images have several labels"
    said = "balance: loss, as asked for; the largest label has 2.5 times the images of the smallest"
    assert balance_line("loss", "user", MANY) == said
