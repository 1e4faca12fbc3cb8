from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forebear.data.dataset import ArrayImages, Dataset
from forebear.tasks.train.optim.lr_schedule import side
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.request import TrainConfig
from forebear.tasks.train.resolve import ResolvedRecipe, read_config, resolve_recipe

CPU = torch.device("cpu")


def data(count: int, size: int = 16, *, mirror: bool = True, channels: int = 3) -> Dataset:
    pixels = np.zeros((count, size, size, channels), np.uint8)
    part = ArrayImages(pixels, np.arange(count) % 2, "zeros")
    return Dataset(
        spec="zeros",
        classes=("a", "b"),
        train=part,
        val=part.take(np.arange(2)),
        side=64,
        mirror=mirror,
        split="",
        fingerprint="",
    )


def resolved(
    config: TrainConfig,
    count: int = 320,
    *,
    mirror: bool = True,
    norms: bool = True,
    checkpoint_size: tuple[int, int] = (0, 0),
) -> ResolvedRecipe:
    asked = read_config(config, checkpoint_size=checkpoint_size)
    return resolve_recipe(asked, config, data(count, mirror=mirror), norms=norms, device=CPU)


def recipe_of(config: TrainConfig, count: int = 320, *, mirror: bool = True) -> Recipe:
    return resolved(config, count, mirror=mirror).recipe


def test_what_nobody_asked_for_is_chosen_by_the_data() -> None:
    recipe = recipe_of(TrainConfig(data="zeros"), mirror=False)
    assert (recipe.size, recipe.eval_size, recipe.shift) == (16, 16, 2)
    assert (recipe.batch, recipe.epochs, recipe.mirror) == (16, 15, "none")
    assert (recipe.optimizer, recipe.crop) == ("muon", "shift")
    assert recipe.precision in ("fp32", "bf16")


def test_trained_weights_see_images_of_their_own_size_unless_told_otherwise() -> None:
    request = TrainConfig(data="zeros", weights=Path("trained.safetensors"))
    for given, size in ((None, 48), (32, 32)):
        asked = replace(request, size=given)
        recipe = resolved(asked, checkpoint_size=(48, 48)).recipe
        assert (recipe.size, recipe.eval_size) == (size, size)


def test_photographs_are_cut_at_random() -> None:
    assert recipe_of(TrainConfig(data="zeros", size=95)).crop == "shift"
    assert recipe_of(TrainConfig(data="zeros", size=96)).crop == "resized"
    assert recipe_of(TrainConfig(data="zeros", size=96, sets=("crop=middle",))).crop == "middle"


def test_randaugment_is_for_images_that_are_mirrored_and_have_colours() -> None:
    asked = TrainConfig(data="zeros", sets=("policy=auto",))
    assert recipe_of(replace(asked, mirror=True)).policy == "randaugment"
    assert recipe_of(replace(asked, mirror=False)).policy == "none"
    five = data(320, channels=5)
    found = resolve_recipe(read_config(asked), asked, five, norms=True, device=CPU)
    assert found.recipe.policy == "none"


@pytest.mark.parametrize(("norms", "lr"), [(True, 0.1), (False, 0.01)])
def test_sgd_moves_what_muon_would_spoil(norms: bool, lr: float) -> None:
    request = TrainConfig(data="zeros", weights=Path("trained.safetensors") if norms else None)
    recipe = resolved(request, norms=norms).recipe
    assert recipe.optimizer == "sgd"
    assert recipe.lr == pytest.approx(lr * 16 / 128)
    assert not recipe.rescale


@pytest.mark.parametrize("beside", [{"epochs": 3}, {"deterministic": True}])
def test_a_budget_is_refused_beside_what_it_would_have_ignored(beside: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"budget=90 seconds and (epochs=3|deterministic): "):
        TrainConfig(data="zeros", budget=90.0, **beside)


def test_what_is_asked_for_stands_before_the_recipe() -> None:
    asked = TrainConfig(data="zeros", batch=40, lr=0.7, size=12, seed=9, mirror=False, epochs=2)
    recipe = recipe_of(asked)
    assert (recipe.batch, recipe.lr, recipe.size, recipe.seed) == (40, 0.7, 12, 9)
    assert (recipe.mirror, recipe.epochs) == ("none", 2)


def test_a_longer_run_stretches_its_schedule() -> None:
    paper = recipe_of(TrainConfig(data="zeros", recipe="imagenet-paper", epochs=9))
    assert paper.milestones == pytest.approx((3, 6))
    steps = recipe_of(TrainConfig(data="zeros", recipe="cifar-paper", epochs=64))
    assert (steps.iterations, steps.epochs) == (0, 64)
    assert steps.milestones == pytest.approx((32, 48))


@pytest.mark.parametrize(
    ("count", "batch", "epochs", "norms"),
    [(120, 15, 40, "frozen"), (128, 16, 40, "own"), (2000, 64, 40, "own")],
)
def test_a_trained_network_is_finetuned_by_the_number_of_images(
    count: int, batch: int, epochs: int, norms: str
) -> None:
    recipe = recipe_of(TrainConfig(data="zeros", recipe="finetune"), count)
    assert (recipe.batch, recipe.epochs, recipe.batch_norm) == (batch, epochs, norms)


@pytest.mark.parametrize(("count", "scale"), [(120, 1.0), (128, 0.25), (2000, 0.25)])
def test_a_logistic_regression_is_scaled_if_norms_use_other_statistics_than_it_was_fitted_with(
    count: int, scale: float
) -> None:
    weights = Path("trained.safetensors")
    for sets, expected in (
        ((), scale),
        (("head_scale=0.5",), 0.5),
        (("batch_norm=frozen",), 1.0),
    ):
        asked = TrainConfig(data="zeros", recipe="auto", weights=weights, sets=sets)
        assert recipe_of(asked, count).head_scale == expected
    assert recipe_of(TrainConfig(data="zeros", recipe="finetune"), count).head_scale == 1.0


def test_a_few_images_are_seen_often_enough_for_300_steps() -> None:
    recipe = recipe_of(TrainConfig(data="zeros", recipe="finetune"), 24)
    assert recipe.batch == 4
    assert recipe.epochs * 24 / recipe.batch >= 300 - 6


def test_images_grow_in_steps_between_two_places_of_the_run() -> None:
    recipe = Recipe(lr=1, schedule="constant", size=128, size_from=96, growth=(0.2, 0.8), epochs=1)
    sides = [side(recipe, place) for place in (0.0, 0.2, 0.36, 0.5, 0.66, 0.8, 1.0)]
    assert sides == [96, 96, 112, 112, 128, 128, 128]
    assert side(Recipe(lr=1, schedule="constant", size=50), 0.3) == 50


def test_every_value_says_who_chose_it() -> None:
    config = TrainConfig(data="zeros", lr=0.05, sets=("momentum=0.8", "crop=auto"))
    found = resolved(config, mirror=False)
    assert set(found.origins) == {one.name for one in fields(Recipe)}
    expected = {
        "lr": "user", "momentum": "user",  # a flag, and --set
        "optimizer": "recipe", "beta2": "recipe",
        "decay_on": "default",
        "size": "data", "batch": "data", "eval_size": "data", "mirror": "data", "crop": "data",
        "precision": "machine",
    }  # fmt: skip
    assert {name: found.origins[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("given", "balance", "by"),
    [
        ({}, "sampler", "data"),
        ({"balance": "loss"}, "loss", "user"),
        ({"sets": ("balance=none",)}, "none", "user"),
        ({"recipe": "finetune"}, "none", "default"),  # as every recipe but the default one
        ({"recipe": "cifar-modern", "balance": "auto"}, "sampler", "data"),
    ],
)
def test_classes_of_unequal_size_are_balanced_by_default_alone(
    given: dict[str, Any], balance: str, by: str
) -> None:
    config = TrainConfig(data="zeros", **given)
    even = data(320)
    assert isinstance(even.train, ArrayImages)
    uneven = replace(even, train=replace(even.train, labels=np.arange(320) // 200))
    asked = read_config(config)
    found = resolve_recipe(asked, config, uneven, norms=True, device=CPU)
    assert (found.recipe.balance, found.origins["balance"]) == (balance, by)
    found = resolve_recipe(asked, config, even, norms=True, device=CPU)
    assert found.recipe.balance == (balance if by == "user" else "none")


def test_a_checkpoint_and_a_network_without_norms_choose_too() -> None:
    config = TrainConfig(data="zeros", weights=Path("trained.safetensors"), lr=0.05)
    found = resolved(config, checkpoint_size=(48, 48))
    assert (found.recipe.size, found.origins["size"]) == (48, "weights")
    assert (found.recipe.optimizer, found.origins["optimizer"]) == ("sgd", "weights")
    assert (found.recipe.lr, found.origins["lr"]) == (0.05, "user")
    found = resolved(TrainConfig(data="zeros"), norms=False)
    assert (found.recipe.optimizer, found.origins["optimizer"]) == ("sgd", "network")


def test_a_value_that_stays_keeps_its_origin() -> None:
    found = resolved(TrainConfig(data="zeros"))
    same = found.choose("budget", epochs=found.recipe.epochs)
    assert same.origins == found.origins
    other = found.choose("budget", epochs=found.recipe.epochs + 1)
    changed = {name for name, origin in other.origins.items() if origin != found.origins[name]}
    assert changed == {"epochs"}
    assert found.suggest("budget", lr=0.5).recipe.lr == 0.5
    asked = resolved(TrainConfig(data="zeros", lr=0.1))
    assert asked.suggest("budget", lr=0.5) == asked


def test_an_input_can_be_a_rectangle_and_a_later_square_replaces_it() -> None:
    request = TrainConfig(data="zeros", size=(24, 48))
    assert recipe_of(request).shape == (24, 48)
    assert recipe_of(replace(request, size=24)).shape == (24, 24)
    trained = replace(request, size=None, weights=Path("trained.safetensors"))
    assert resolved(trained, checkpoint_size=(32, 64)).recipe.shape == (32, 64)
    assert resolved(trained, checkpoint_size=(32, 32)).recipe.width == 0
    square = replace(trained, size=40)
    assert resolved(square, checkpoint_size=(32, 64)).recipe.shape == (40, 40)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (("width=48",), "width=48 without size: expected the height too. Pass --size HEIGHTx48"),
        (("size=24", "width=48", "size_from=16"), "size_from=16 with an input of 24x48 pixels"),
        (("size=24", "width=48", "eval_size=32"), "eval_size=32 with an input of 24x48 pixels"),
    ],
)
def test_what_only_a_square_can_do_is_refused(sets: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        recipe_of(TrainConfig(data="zeros", sets=sets))


@pytest.mark.parametrize("size", [(0, 32), (32, 10_000), (32,), (32, "64")])
def test_a_rectangle_out_of_range_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match=r"expected height and width, each from 1 to 8,192 pix"):
        TrainConfig(data="zeros", size=size)


@pytest.mark.parametrize("resize", ["pad", "squash"])
def test_whole_images_are_not_cut_unless_the_user_says_so(resize: str) -> None:
    request = TrainConfig(data="zeros", size=128, resize=resize)
    assert recipe_of(request).crop == "middle"
    assert recipe_of(replace(request, recipe="finetune")).crop == "middle"
    assert recipe_of(replace(request, sets=("crop=shift",))).crop == "shift"
    assert recipe_of(replace(request, resize="crop")).crop == "resized"
