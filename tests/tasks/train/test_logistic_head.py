"""The logistic regression of the logits: its optimum, its penalty, and its place in a network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from forebear.tasks.train import logistic_head
from forebear.tasks.train.logistic_head import (
    FOLDS,
    PENALTIES,
    choose_penalty,
    fit,
    folds_of,
    start_logits,
)
from forebear.tasks.train.recipe import Recipe


def clouds(count: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Features [N, 6] of three classes, whose means lie 1 apart, and their labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    values = np.eye(6)[labels] + noise * random.normal(size=(count, 6)) + 5
    return torch.from_numpy(values).float(), labels


def test_the_fit_is_the_optimum_of_the_penalised_loss() -> None:
    features, labels = clouds(60, 0.5)
    weight, bias = fit(features, labels, 3, 0.03)
    scale = float(features.std(0, correction=0).mean())
    free = [(weight * scale).requires_grad_(True), bias.clone().requires_grad_(True)]
    logits = nn.functional.linear(features / scale, free[0], free[1])
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels))
    gradients = torch.autograd.grad(loss + 0.015 * free[0].square().sum(), free)
    assert max(float(one.abs().max()) for one in gradients) < 1e-3


def test_the_fit_is_that_of_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    features, labels = clouds(60, 0.5)
    scale = float(features.std(0, correction=0).mean())
    weight, bias = fit(features, labels, 3, 0.03)
    strength = 1 / (0.03 * len(labels) * scale**2)
    theirs = linear.LogisticRegression(C=strength, max_iter=2000, tol=1e-8)
    theirs.fit(features.numpy(), labels)
    ours = nn.functional.linear(features, weight, bias).softmax(1).numpy()
    np.testing.assert_allclose(ours, theirs.predict_proba(features.numpy()), atol=5e-3)


def test_a_warm_start_leads_to_the_same_fit() -> None:
    features, labels = clouds(60, 0.5)
    cold = fit(features, labels, 3, 0.01)
    warm = fit(features, labels, 3, 0.01, fit(features, labels, 3, 1.0))
    for one, other in zip(cold, warm, strict=True):
        torch.testing.assert_close(one, other, atol=0.02, rtol=0.02)


def test_noise_asks_for_a_larger_penalty() -> None:
    clear, _ = choose_penalty(*clouds(90, 0.05), 3, seed=0)
    noisy, accuracy = choose_penalty(*clouds(90, 1.5), 3, seed=0)
    assert clear < noisy
    assert noisy in PENALTIES
    assert 0 < accuracy < 1


def test_the_accuracy_is_of_images_that_were_not_fitted() -> None:
    """Random labels are learned by heart, but not predicted."""
    features, labels = clouds(60, 1.0)
    shuffled = np.random.default_rng(1).permutation(labels)
    assert choose_penalty(features, shuffled, 3, seed=0)[1] < 0.6


def test_every_fold_has_its_share_of_each_class() -> None:
    labels = np.repeat(np.arange(5), 10)
    folds = folds_of(labels, 0)
    for label in range(5):
        assert np.bincount(folds[labels == label], minlength=FOLDS).tolist() == [2] * FOLDS
    assert not np.array_equal(folds, folds_of(labels, 1))


def test_labels_are_fitted_one_by_one_as_by_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    features, classes = clouds(90, 0.5)
    labels = np.stack([classes == 0, classes != 1], 1).astype(np.uint8)
    scale = float(features.std(0, correction=0).mean())
    weight, bias = fit(features, labels, 2, 0.03)
    strength = 1 / (0.03 * len(labels) * scale**2)
    ours = nn.functional.linear(features, weight, bias).sigmoid().numpy()
    for label in range(2):
        theirs = linear.LogisticRegression(C=strength, max_iter=2000, tol=1e-8)
        theirs.fit(features.numpy(), labels[:, label])
        expected = theirs.predict_proba(features.numpy())[:, 1]
        np.testing.assert_allclose(ours[:, label], expected, atol=5e-3)


def test_the_penalty_of_labels_comes_with_their_map() -> None:
    features, classes = clouds(90, 0.05)
    labels = np.stack([classes == 0, classes != 1, np.arange(90) == 0], 1).astype(np.uint8)
    penalty, quality = choose_penalty(features, labels, 3, seed=0)
    assert penalty in PENALTIES
    assert 0.6 < quality <= 1  # a label of one image cannot be learned
    assert sorted(set(folds_of(labels, 0).tolist())) == list(range(FOLDS))


def test_the_logits_start_scaled_and_name_the_same_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    values, labels = clouds(60, 0.5)
    found = SimpleNamespace(values=[values], labels=labels)
    monkeypatch.setattr(logistic_head, "features", lambda *_: found)
    lines, logits = [], []
    for scale in (1.0, 0.25):
        network: Any = nn.ModuleDict({"logits": nn.Linear(6, 3)})
        recipe = Recipe(lr=0.1, schedule="constant", head_init="logistic", head_scale=scale)
        lines.append(start_logits(network, None, recipe))  # type: ignore[arg-type]
        logits.append(network["logits"](values).detach())
    torch.testing.assert_close(logits[1], logits[0] / 4)
    assert (logits[1].argmax(1).numpy() == labels).mean() > 0.8
    assert "of 60 images: " in lines[0]
    assert "of 60 images, times 0.25: " in lines[1]
