from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from forebear.tasks.train.loss import hits, label_losses, loss, plain_loss, soft
from forebear.tasks.train.recipe import Recipe

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])
LABELS = torch.tensor([0, 1])


def recipe(kind: str, smoothing: float = 0.0) -> Recipe:
    return Recipe(lr=0.1, schedule="constant", loss=kind, label_smoothing=smoothing)  # type: ignore[arg-type]


def crossed(shares: np.ndarray) -> np.ndarray:
    """-sum q log softmax, by hand."""
    logits = LOGITS.double().numpy()
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    total: np.ndarray = -(shares * logs).sum(1)
    return total


def binary(shares: np.ndarray) -> np.ndarray:
    """Mean over classes of -q log s - (1 - q) log (1 - s), s = sigmoid, by hand."""
    s = 1 / (1 + np.exp(-LOGITS.double().numpy()))
    total: np.ndarray = (-shares * np.log(s) - (1 - shares) * np.log(1 - s)).mean(1)
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_labels_smoothed(kind: str, smoothing: float) -> None:
    shares = np.eye(3)[LABELS] * (1 - smoothing) + smoothing / 3
    expected = crossed(shares) if kind == "ce" else binary(shares)
    assert loss(LOGITS, LABELS, recipe(kind, smoothing)).numpy() == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_mixed_targets_count_by_their_shares(kind: str, smoothing: float) -> None:
    mixed = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.5, 0.5]])
    shares = mixed.double().numpy() * (1 - smoothing) + smoothing / 3
    expected = crossed(shares) if kind == "ce" else binary(shares)
    assert loss(LOGITS, mixed, recipe(kind, smoothing)).numpy() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_labels_and_their_shares_have_the_same_loss(kind: str) -> None:
    shares = soft(LABELS, 3)
    assert shares.tolist() == [[1, 0, 0], [0, 1, 0]]
    chosen = recipe(kind, 0.1)
    assert torch.allclose(loss(LOGITS, shares, chosen), loss(LOGITS, LABELS, chosen))


def test_indifferent_logits_cost_the_logarithm_of_the_classes() -> None:
    even = torch.zeros(1, 10)
    label = torch.tensor([4])
    assert float(loss(even, label, recipe("ce"))) == pytest.approx(math.log(10))
    assert float(loss(even, label, recipe("bce"))) == pytest.approx(math.log(2))


WEIGHTS = torch.tensor([0.5, 4.0, 1.5])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_an_image_has_its_loss_times_the_weight_of_its_class(kind: str, smoothing: float) -> None:
    chosen = recipe(kind, smoothing)
    expected = torch.tensor([0.5, 4.0]) * loss(LOGITS, LABELS, chosen)
    assert torch.equal(loss(LOGITS, LABELS, chosen, WEIGHTS), expected)
    assert torch.allclose(loss(LOGITS, soft(LABELS, 3), chosen, WEIGHTS), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_a_mixed_image_has_the_mixture_of_the_weighted_losses_of_its_parts(
    kind: str, smoothing: float
) -> None:
    chosen, other = recipe(kind, smoothing), torch.tensor([2, 0])
    mixed = 0.7 * soft(LABELS, 3) + 0.3 * soft(other, 3)
    parts = [loss(LOGITS, labels, chosen, WEIGHTS) for labels in (LABELS, other)]
    expected = 0.7 * parts[0] + 0.3 * parts[1]
    assert torch.allclose(loss(LOGITS, mixed, chosen, WEIGHTS), expected)


def test_mixed_targets_are_weighted_as_torch_does_it() -> None:
    mixed = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.5, 0.5]])
    expected = F.cross_entropy(LOGITS, mixed, weight=WEIGHTS, reduction="none")
    assert torch.allclose(loss(LOGITS, mixed, recipe("ce"), WEIGHTS), expected)


SEVERAL = torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=torch.uint8)


def test_the_loss_of_several_labels_is_the_sum_of_their_binary_cross_entropies() -> None:
    found = label_losses(LOGITS, SEVERAL)
    log = F.logsigmoid
    wanted = -(log(LOGITS[0, 0]) + log(-LOGITS[0, 1]) + log(LOGITS[0, 2])), -log(-LOGITS[1]).sum()
    torch.testing.assert_close(found, torch.stack(wanted))
    torch.testing.assert_close(plain_loss(LOGITS, SEVERAL), found.sum())


def test_the_gradient_of_a_label_is_its_probability_minus_its_target() -> None:
    logits = LOGITS.clone().requires_grad_()
    label_losses(logits, SEVERAL).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(logits.grad, LOGITS.sigmoid() - SEVERAL.float())


def test_labels_are_smoothed_one_by_one_and_their_positives_weighted() -> None:
    smoothed = torch.tensor([[0.95, 0.05, 0.95], [0.05, 0.05, 0.05]])
    found = label_losses(LOGITS, SEVERAL, smoothing=0.1)
    torch.testing.assert_close(found, label_losses(LOGITS, smoothed))
    weights = torch.tensor([3.0, 5.0, 1.0])
    more = label_losses(LOGITS, SEVERAL, weights=weights) - label_losses(LOGITS, SEVERAL)
    wanted = torch.tensor([2 * float(F.softplus(-LOGITS[0, 0])), 0.0])
    torch.testing.assert_close(more, wanted)


def test_hits_are_right_classes_or_exact_matches() -> None:
    assert int(hits(LOGITS, LABELS)) == 1
    assert int(hits(LOGITS, torch.tensor([[1, 1, 0], [1, 1, 0]], dtype=torch.uint8))) == 1


def test_labels_are_soft_targets_already() -> None:
    found = soft(SEVERAL, 3)
    assert found.dtype == torch.float32
    assert found.tolist() == SEVERAL.tolist()
