from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from forebear.data.sources.folds import folds
from forebear.errors import DataError


def hashes(contents: NDArray[np.int64]) -> list[bytes]:
    return [hashlib.sha256(str(content).encode()).digest() for content in contents.tolist()]


def table(of: NDArray[np.int64], labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Images of each class in each fold [classes, folds]."""
    return np.array(
        [np.bincount(of[labels == label], minlength=count) for label in np.unique(labels)]
    )


@pytest.mark.parametrize("count", [2, 3, 5, 7])
def test_without_groups_each_class_is_balanced_to_within_one_image(count: int) -> None:
    labels = np.repeat([0, 1, 2], [100, 41, 7])
    chosen = folds(hashes(np.arange(148)), labels, None, count)
    assert chosen.dtype == np.int64
    assert set(chosen.tolist()) == set(range(count))  # every image has exactly one
    cells = table(chosen, labels, count)
    assert (np.ptp(cells, axis=1) <= 1).all()
    assert np.ptp(cells.sum(0)) <= 3


def test_the_rests_of_many_classes_do_not_go_to_the_same_folds() -> None:
    labels = np.repeat(np.arange(50), 7)  # 5 folds of each class: two of them get a second image
    chosen = folds(hashes(np.arange(350)), labels, None, 5)
    assert np.bincount(chosen).tolist() == [70] * 5


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [2, 5])
def test_groups_of_one_class_are_balanced_to_within_one_group(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    groups = random.choice(60, 1000, p=random.dirichlet(np.full(60, 2.0)))
    labels = groups % 3
    chosen = folds(hashes(np.arange(1000)), labels, groups, count)
    assert all(len(set(chosen[groups == group].tolist())) == 1 for group in np.unique(groups))
    for label, cells in enumerate(table(chosen, labels, count)):
        assert np.ptp(cells) <= np.bincount(groups[labels == label]).max()


def test_copies_stay_whole_within_and_across_groups() -> None:
    random = np.random.default_rng(3)
    contents, groups = random.integers(0, 900, 1000), random.integers(0, 200, 1000)
    groups = np.where(contents < 20, contents % 7 + 200, groups)
    labels = random.integers(0, 2, 1000)
    for given in (None, contents // 10):
        chosen = folds(hashes(contents), labels, given, 4)
        for content in np.unique(contents):
            assert len(set(chosen[contents == content].tolist())) == 1
    contents[:2], groups[:2] = 5000, (300, 301)  # one image in two groups
    chosen = folds(hashes(np.r_[contents[:2], 5001 + np.arange(998)]), labels, groups, 4)
    linked = np.isin(groups, groups[:2])
    assert len(set(chosen[linked].tolist())) == 1


def test_folds_do_not_depend_on_the_order_or_the_numbers_of_groups() -> None:
    random = np.random.default_rng(4)
    contents, groups = random.permutation(500), random.integers(0, 50, 500)
    labels = random.integers(0, 3, 500)
    chosen = folds(hashes(contents), labels, groups, 5)
    order, names = random.permutation(500), random.permutation(50)
    again = folds(hashes(contents[order]), labels[order], names[groups[order]], 5)
    np.testing.assert_array_equal(again, chosen[order])


def test_folds_are_as_stratified_as_those_of_scikit_learn() -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    for seed in range(5):
        random = np.random.default_rng(seed)
        groups = random.choice(80, 2000, p=random.dirichlet(np.full(80, 1.0)))
        labels = (random.random(2000) < 0.1 + 0.6 * random.random(80)[groups]).astype(np.int64)
        theirs = np.zeros(2000, np.int64)
        splitter = selection.StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        for fold, (_, val) in enumerate(splitter.split(labels, labels, groups)):
            theirs[val] = fold
        ours = folds(hashes(np.arange(2000)), labels, groups, 5)
        total = np.bincount(labels)[:, None]
        spread = [(table(of, labels, 5) / total).std(1).mean() for of in (ours, theirs)]
        assert spread[0] <= spread[1] + 0.005


def test_more_folds_than_the_smallest_class_has_images_are_refused() -> None:
    labels = np.repeat([0, 1], [10, 4])
    contents = np.r_[np.arange(13), 12]  # the last two are copies
    with pytest.raises(DataError, match="^folds=4: class dog has only 3 different images. Expect"):
        folds(hashes(contents), labels, None, 4, classes=("cat", "dog"))
    with pytest.raises(DataError, match="class 1 has only 3 .* Pass a number from 2 to 3, or add"):
        folds(hashes(contents), labels, None, 5)
    assert len(set(folds(hashes(contents), labels, None, 3)[labels == 1].tolist())) == 3


def test_more_folds_than_the_smallest_class_has_groups_are_refused() -> None:
    labels, groups = np.repeat([0, 1], [12, 12]), np.r_[np.arange(12) % 6, 6 + np.arange(12) % 2]
    with pytest.raises(DataError, match="class 1 has only 2 separate groups. Expected one or"):
        folds(hashes(np.arange(24)), labels, groups, 3)
    with pytest.raises(DataError, match="class 1 has only 1 separate .* Add images of this"):
        folds(hashes(np.arange(24)), labels, np.where(labels == 1, 6, groups), 2)
    with pytest.raises(DataError, match="the data set has only 0 different images"):
        folds([], np.zeros(0, np.int64), None, 2)


@pytest.mark.parametrize("count", [1, 0, -3])
def test_less_than_two_folds_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"folds={count}: expected 2 or more"):
        folds(hashes(np.arange(4)), np.zeros(4, np.int64), None, count)


def test_a_class_that_fits_in_one_fold_only_is_refused() -> None:
    # Three classes in pairs of three groups: two folds cannot part all of them.
    groups, labels = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 2, 0, 1, 1, 2])
    with pytest.raises(DataError, match="they fit in one fold only"):
        folds(hashes(np.arange(6)), labels, groups, 2)


def multi_labels(random: np.random.Generator, count: int, width: int) -> NDArray[np.uint8]:
    """Labels [count, width] of which some are rare; each has at least ten images."""
    labels = (random.random((count, width)) < random.beta(0.5, 3, width)).astype(np.uint8)
    for label in range(width):
        labels[random.choice(count, 10, replace=False), label] = 1
    return labels


def iterative(labels: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """Iterative stratification, as in Sechidis et al. 2011, algorithm 1; the first of equal folds.

    Images without a label are distributed like those of one more label.
    """
    rows = np.c_[labels > 0, ~labels.any(1)]
    wanted = np.tile(rows.sum(0) / count, (count, 1))
    places, found = np.full(count, len(rows) / count), np.full(len(rows), -1)
    while (found < 0).any():
        left = rows[found < 0].sum(0)
        rarest = int(np.where(left > 0, left, len(rows) + 1).argmin())
        for image in np.flatnonzero((found < 0) & rows[:, rarest]):
            fold = int(np.lexsort((-places, -wanted[:, rarest]))[0])
            found[image] = fold
            wanted[fold, rows[image]] -= 1
            places[fold] -= 1
    return found


@pytest.mark.parametrize(("count", "width"), [(60, 3), (300, 10), (800, 30)])
def test_labels_are_as_stratified_as_by_iterative_stratification(count: int, width: int) -> None:
    labels = multi_labels(np.random.default_rng(count), count, width)
    ours, theirs = folds(hashes(np.arange(count)), labels, None, 5), iterative(labels, 5)
    spreads = []
    for chosen in (ours, theirs):
        cells = np.array([labels[chosen == fold].sum(0) for fold in range(5)])
        spreads.append(float((cells / labels.sum(0)).std(0).mean()))
    assert spreads[0] <= spreads[1] + 0.005
    sizes = np.bincount(ours, minlength=5)
    assert np.ptp(sizes) <= max(3, 0.05 * count)
    assert all((labels[ours == fold].sum(0) > 0).all() for fold in range(5))


def test_groups_of_several_labels_stay_whole_and_each_fold_has_each_label() -> None:
    random = np.random.default_rng(5)
    groups, labels = random.integers(0, 120, 600), multi_labels(random, 600, 8)
    chosen = folds(hashes(np.arange(600)), labels, groups, 4)
    assert all(len(set(chosen[groups == group].tolist())) == 1 for group in np.unique(groups))
    assert all((labels[chosen == fold].sum(0) > 0).all() for fold in range(4))
    none = ~labels.any(1)  # images without a label are spread too
    assert np.ptp(np.bincount(chosen[none], minlength=4)) <= 0.2 * none.sum()


def test_a_label_with_fewer_images_or_groups_than_folds_is_named() -> None:
    labels = np.zeros((12, 2), np.uint8)
    labels[:, 0], labels[:3, 1] = 1, 1
    with pytest.raises(DataError) as caught:
        folds(hashes(np.arange(12)), labels, None, 4, classes=("car", "bike"))
    assert str(caught.value) == (
        "folds=4: label bike has only 3 different images. Expected one or more for each fold. "
        "Pass a number from 2 to 3, or add images with this label."
    )
    groups = np.r_[0, 0, 0, np.arange(1, 10)]
    with pytest.raises(DataError, match="^folds=2: label bike has only 1 separate groups. "):
        folds(hashes(np.arange(12)), labels, groups, 2, classes=("car", "bike"))
    assert len(set(folds(hashes(np.arange(12)), labels, None, 3)[:3].tolist())) == 3
