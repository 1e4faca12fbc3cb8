from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import forebear
from forebear import Block, Conv, Table
from forebear.errors import RunError
from forebear.tasks.machine.distributed import ALONE
from forebear.tasks.train.loss import label_losses, loss
from forebear.tasks.train.recipe import Optimizer, Recipe
from forebear.tasks.train.step import Stepper

TABLE = Table("tiny", (Conv("conv1", 8, 3),), "basic", (Block("block1", 2, 8, 8, 2),))
OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "caffe", "adam", "adamw", "lamb", "muon")
CPU = torch.device("cpu")
WRONG = (float("nan"), float("inf"), float("-inf"))


def stepper(optimizer: Optimizer = "sgd", **more: Any) -> Stepper:
    """A tiny network about to be trained, its average with it."""
    draws = torch.Generator().manual_seed(0)
    net = forebear.create(TABLE, dialect="torchvision", num_classes=3, generator=draws).train()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    given: dict[str, Any] = {"lr": 0.01, "schedule": "constant", "epochs": 1, "ema": 0.9}
    recipe = Recipe(**given | {"optimizer": optimizer, "weight_decay": 1e-3} | more)
    return Stepper(net, net, recipe, CPU, ALONE)


def take(one: Stepper, number: int, spoil: Callable[[Tensor], object] | None = None) -> Tensor:
    """One step with images of its own."""
    draws = torch.Generator().manual_seed(number)
    images = torch.randn(8, 3, 16, 16, generator=draws).to(memory_format=torch.channels_last)
    labels = torch.randint(3, (8,), generator=draws)
    if spoil is not None:
        spoil(images)
    return one(images, labels, labels, total=8, share=1.0)


def bits(one: Stepper) -> dict[str, bytes]:
    """All that a checkpoint has, and every buffer, as bytes."""
    found: dict[str, bytes] = {}

    def walk(path: str, tree: Any) -> None:
        if isinstance(tree, dict):
            for key, value in tree.items():
                walk(f"{path}/{key}", value)
        elif isinstance(tree, Tensor):
            found[path] = tree.detach().contiguous().numpy().tobytes()
        else:
            found[path] = repr(tree).encode()

    walk("", one.state())
    return found


def spoil_image(value: float) -> Callable[[Tensor], None]:
    def spoil(images: Tensor) -> None:
        images[3, 1, 5, 5] = value

    return spoil


def add_to_loss(value: float, patch: pytest.MonkeyPatch) -> None:
    def spoiled(logits: Tensor, targets: Tensor, recipe: Recipe, weights: Tensor | None) -> Tensor:
        return loss(logits, targets, recipe, weights) + value

    patch.setattr("forebear.tasks.train.step.losses_of", spoiled)


def spoil_gradient(one: Stepper, value: float) -> Any:
    """Puts a value into one weight's gradient; the handle takes it out again."""
    parameter = next(iter(one.network.parameters()))

    def spoil(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[3, 1, 0, 2] = value
        return gradient

    return parameter.register_hook(spoil)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("where", ["loss", "gradient", "image"])
def test_a_step_that_is_not_finite_changes_no_bit_and_is_counted(
    where: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = stepper()
    skipped = 0
    for number in range(1, 12):
        if number not in (1, 7, 8, 9, 11):
            take(one, number)
            assert int(one.guard.in_row) == 0
            continue
        before = bits(one)
        with monkeypatch.context() as patch:
            handle = spoil_gradient(one, value) if where == "gradient" else None
            if where == "loss":
                add_to_loss(value, patch)
            take(one, number, spoil_image(value) if where == "image" else None)
            if handle is not None:
                handle.remove()
        skipped += 1
        assert int(one.guard.skipped) == skipped
        assert bits(one) == before
        one.guard.check(number, one.recipe)  # up to three in a row are let pass
    take(one, 12)
    assert bits(one) != before
    assert int(one.guard.in_row) == 0


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_optimizer_moves_in_a_step_that_is_not_finite(optimizer: Optimizer) -> None:
    one, other = stepper(optimizer), stepper(optimizer)
    for number in (1, 2, 3, 4, 5):
        if number in (1, 3):
            before = bits(one)
            take(one, number, spoil_image(float("nan")))
            assert bits(one) == before
        else:
            take(one, number)
            take(other, number)
    assert bits(one) == bits(other)  # as if the bad ones had never been


def test_a_part_of_a_step_spoils_all_of_it() -> None:
    one = stepper(accumulate=4)
    take(one, 1)
    before = bits(one)
    take(one, 2, spoil_image(float("inf")))
    assert bits(one) == before
    assert int(one.guard.skipped) == 1


def test_a_variance_that_overflows_while_the_loss_is_finite_is_not_kept() -> None:
    one = stepper()
    take(one, 1)
    before = bits(one)
    seen = take(one, 2, lambda images: images.mul_(1e25))
    assert bool(seen.isfinite().all())
    assert bits(one) == before
    assert int(one.guard.skipped) == 1


def test_the_fourth_step_in_a_row_ends_the_run_with_its_state_as_before_the_first() -> None:
    one = stepper()
    take(one, 1)
    before = bits(one)
    for number in (2, 3, 4):
        take(one, number, spoil_image(float("nan")))
        one.guard.check(number, one.recipe)
    take(one, 5, spoil_image(float("nan")))
    with pytest.raises(RunError, match=r"not finite at 4 steps in a row, up to step 5\."):
        one.guard.check(5, one.recipe)
    assert bits(one) == before


def test_the_number_in_a_row_goes_on_where_a_run_does() -> None:
    one = stepper()
    one.guard.count(skipped=6, in_row=3)
    take(one, 1, spoil_image(float("nan")))
    assert int(one.guard.skipped) == 7
    with pytest.raises(RunError, match="4 steps in a row"):
        one.guard.check(1, one.recipe)


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("which", ["weight", "running", "average"])
def test_no_state_is_given_away_that_is_not_finite(which: str, value: float) -> None:
    one = stepper()
    take(one, 1)
    assert one.average is not None
    tensor = {
        "weight": next(one.network.parameters()),
        "running": one.guard.running[0],
        "average": next(iter(one.average.state_dict()["values"].values())),
    }[which]
    with torch.no_grad():
        tensor[(0,) * tensor.ndim] = value
    with pytest.raises(RunError, match="no longer finite, and are not saved"):
        one.state()


def test_weights_of_classes_scale_the_gradients_in_any_number_of_parts() -> None:
    weights = torch.tensor([0.2, 1.0, 3.0])
    draws = torch.Generator().manual_seed(1)
    images = torch.randn(8, 3, 16, 16, generator=draws).to(memory_format=torch.channels_last)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 0])
    found = []
    for parts in (1, 3):
        one = stepper(ema=0.0, weight_decay=0.0, accumulate=parts)
        one.weights = weights
        one.network.eval()  # statistics of a part are not those of the batch
        one(images, labels, labels, total=8, share=0.0)
        found.append([p.grad for p in one.network.parameters() if p.grad is not None])
    network = stepper().network.eval()
    losses = nn.functional.cross_entropy(network(images), labels, weight=weights, reduction="none")
    losses.mean().backward()  # type: ignore[no-untyped-call]
    expected = [p.grad for p in network.parameters() if p.grad is not None]
    for gradients in found:
        for ours, wanted in zip(gradients, expected, strict=True):
            torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-6)


def test_a_step_on_several_labels_counts_exact_matches_and_the_plain_loss() -> None:
    one = stepper(label_smoothing=0.2, loss="bce")
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 16, 16, generator=draws)
    labels = torch.randint(2, (8, 3), generator=draws).to(torch.uint8)
    with torch.no_grad():
        logits = one.network(images)
    seen = one(images, labels, labels, total=8, share=1.0)
    torch.testing.assert_close(seen[0], label_losses(logits, labels).sum())
    assert float(seen[1]) == float(((logits >= 0) == (labels > 0)).all(1).sum())
    first = float(seen[0])
    for _ in range(20):
        seen = one(images, labels, labels, total=8, share=1.0)
    assert float(seen[0]) < first
