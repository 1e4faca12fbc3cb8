"""Label errors of features made by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from forebear.tasks.faults.label_errors import (
    LEAST,
    Probabilities,
    judged,
    label_errors,
    label_set_errors,
    of_network,
    of_shares,
    out_of_fold,
)

pytest.importorskip("sklearn")


def made(count: int = 90) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Three clusters that overlap little, and their true labels."""
    labels = np.arange(count) % 3
    noise = np.random.default_rng(0).normal(size=(count, 6))
    return (noise + 5 * np.eye(6)[labels]).astype(np.float32), labels


def test_wrong_labels_are_found_with_their_true_class() -> None:
    pytest.importorskip("cleanlab")
    features, true = made()
    labels = true.copy()
    labels[[4, 50, 71]] = (true[[4, 50, 71]] + 1) % 3
    every = np.arange(len(labels))
    found = label_errors(labels, out_of_fold(features, labels, every, every))
    assert {4, 50, 71} <= set(found.rows.tolist())
    assert len(found.rows) <= 6
    suggested = dict(zip(found.rows.tolist(), found.suggested.tolist(), strict=True))
    assert [suggested[at] for at in (4, 50, 71)] == true[[4, 50, 71]].tolist()
    assert (np.diff(found.scores) <= 1e-9).all()
    assert set(found.rows[:3].tolist()) == {4, 50, 71}


def test_probabilities_come_from_a_model_that_did_not_see_the_image() -> None:
    features = np.random.default_rng(0).normal(size=(120, 80)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 2, 120)  # there is nothing to learn
    every = np.arange(120)
    found = out_of_fold(features, labels, every, every, strength=100.0)
    accuracy = (found.values.argmax(1) == labels).mean()
    assert 0.3 < accuracy < 0.7  # in the fold it would be 1
    assert found.values.sum(1) == pytest.approx(np.ones(120))


def test_copies_are_in_one_fold() -> None:
    random = np.random.default_rng(0)
    features = np.repeat(random.normal(size=(60, 80)), 2, axis=0).astype(np.float32)
    labels = np.repeat(random.integers(0, 2, 60), 2)
    every, pairs = np.arange(120), np.repeat(np.arange(60), 2)
    apart = out_of_fold(features, labels, every, every, strength=100.0)
    together = out_of_fold(features, labels, pairs, every, strength=100.0)
    assert (apart.values.argmax(1) == labels).mean() > 0.8
    assert (together.values.argmax(1) == labels).mean() < 0.7


def test_classes_with_few_distinct_images_are_left_out() -> None:
    labels = np.array([0] * 8 + [1] * 8 + [2] * (LEAST - 1))
    groups = np.array([*range(8), *([8] * 6), 9, 10, *range(11, 10 + LEAST)])
    rows, classes = judged(labels, groups, np.arange(len(labels)))
    assert classes.tolist() == [0]  # class 1 has 8 images, of which 3 are distinct
    assert rows.tolist() == list(range(8))
    features = np.random.default_rng(0).normal(size=(len(labels), 3)).astype(np.float32)
    found = out_of_fold(features, labels, groups, np.arange(len(labels)))
    assert len(found.rows) == 0
    assert len(label_errors(labels, found).rows) == 0


def test_only_the_rows_that_are_asked_for_are_judged() -> None:
    features, labels = made()
    every = np.arange(90)
    assert out_of_fold(features, labels, every, every[30:]).rows.tolist() == list(range(30, 90))


def test_the_networks_probabilities_are_those_of_the_classes_of_the_data() -> None:
    logits = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    labels = np.repeat([0, 2], 6)
    numbers = np.array([4, 1, 3])  # logits of the three classes of the data; class 1 has no images
    found = of_network(logits, numbers, labels, np.arange(12), np.arange(12))
    assert found.classes.tolist() == [0, 2]
    odds = np.exp(logits[:, [4, 3]].astype(np.float64))
    assert found.values == pytest.approx(odds / odds.sum(1, keepdims=True))


def test_large_logits_give_finite_probabilities() -> None:
    logits = np.array([[1e4, 0.0]] * 10, np.float32)
    labels, every = np.repeat([0, 1], 5), np.arange(10)
    values = of_network(logits, np.array([0, 1]), labels, every, every).values
    assert values.tolist() == [[1.0, 0.0]] * 10


def test_suggestions_are_of_the_numbers_of_the_classes() -> None:
    pytest.importorskip("cleanlab")
    given = np.repeat([3, 8], 20)
    values = np.full((40, 2), 0.05)
    values[np.arange(40), (given == 8).astype(int)] = 0.95
    values[5] = values[5, ::-1]
    labels = np.concatenate([[0, 0], given])
    found = label_errors(labels, Probabilities(np.arange(2, 42), np.array([3, 8]), values))
    assert (found.rows.tolist(), found.suggested.tolist()) == ([7], [8])
    assert found.scores.tolist() == pytest.approx([0.95])


def test_given_probabilities_are_those_of_the_classes_that_are_judged() -> None:
    shares = np.array([[0.5, 0.3, 0.2]] * 12)
    shares[0], shares[1] = [0.0, 1.0, 0.0], [0.25, 0.0, 0.75]
    labels = np.repeat([0, 2], 6)
    found = of_shares(shares, labels, np.arange(12), np.arange(12))
    assert found.classes.tolist() == [0, 2]
    assert found.values[0].tolist() == [0.5, 0.5]  # nothing is known of these two
    assert found.values[1:3] == pytest.approx(np.array([[0.25, 0.75], [5 / 7, 2 / 7]]))


def label_sets() -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.bool_]]:
    """Labels of which 3 % are turned, the probabilities of the true ones, and which are turned."""
    random = np.random.default_rng(0)
    true = random.random((400, 4)) < [0.5, 0.3, 0.2, 0.1]
    logits = 5.6 * true - 2.8 + random.normal(0, 1.2, true.shape)
    turned = random.random(true.shape) < 0.03
    return (true ^ turned).astype(np.uint8), 1 / (1 + np.exp(-logits)), turned


def test_wrong_and_missing_labels_of_several_are_found() -> None:
    pytest.importorskip("cleanlab")
    labels, shares, turned = label_sets()
    found = label_set_errors(labels, shares, np.arange(400))
    doubted = np.zeros(labels.shape, bool)
    doubted[found.rows] = found.suggested != labels[found.rows]
    assert doubted[found.rows].any(1).all()
    assert (doubted & turned).sum() >= 0.7 * turned.sum()
    assert (doubted & turned).sum() >= 0.9 * doubted.sum()
    assert (np.diff(found.scores) <= 0).all()
    own = np.where(labels[found.rows] > 0, 1 - shares[found.rows], shares[found.rows])
    assert found.scores == pytest.approx(np.where(doubted[found.rows], own, 0).max(1))
    assert found.judged == 4


def test_they_are_nearly_those_of_cleanlab() -> None:
    filters = pytest.importorskip("cleanlab.multilabel_classification.filter")
    labels, shares, _ = label_sets()
    found = label_set_errors(labels, shares, np.arange(400))
    given = [np.flatnonzero(row).tolist() for row in labels]
    with warnings.catch_warnings():  # cleanlab's, about its own call
        warnings.simplefilter("ignore", DeprecationWarning)
        wanted = filters.find_label_issues(given, shares, filter_by="low_self_confidence", n_jobs=1)
    ours = np.isin(np.arange(400), found.rows)
    assert (ours & wanted).sum() >= 0.9 * (ours | wanted).sum()


def test_rare_labels_and_images_without_probabilities_are_not_judged() -> None:
    pytest.importorskip("cleanlab")
    labels, shares, _ = label_sets()
    labels[:, 3] = 0
    labels[: LEAST - 1, 3] = 1  # of distinct images
    labels[LEAST - 1 : 20, 3] = 1  # copies of one of them
    groups = np.arange(400)
    groups[LEAST - 1 : 20] = 0
    shares[:, 3] = 1 - labels[:, 3]
    shares[50:60] = np.nan
    found = label_set_errors(labels, shares, groups)
    assert found.judged == 3
    assert (found.suggested[:, 3] == labels[found.rows, 3]).all()
    assert not set(range(50, 60)) & set(found.rows.tolist())
    nothing = label_set_errors(labels[:0], shares[:0], groups[:0])
    assert (len(nothing.rows), nothing.judged) == (0, 0)
