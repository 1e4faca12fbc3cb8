from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forebear.tasks.evaluate import Evaluation, combined, evaluate, kept_images, sorted_by

CLASSES = ("cat", "dog", "owl")


class Logits(nn.Module):
    """Gives its input as the logits, and remembers the mode that it ran in."""

    def forward(self, logits: Tensor) -> Tensor:
        self.ran_in_training = self.training
        return logits


class Given:
    """Batches of logits in place of images; `rank` of `ranks` takes every ranks-th."""

    device = torch.device("cpu")

    def __init__(self, logits: Tensor, labels: Tensor, rank: int = 0, ranks: int = 1) -> None:
        self.logits, self.labels = logits[rank::ranks], labels[rank::ranks]

    def in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        if len(self.labels):
            yield from zip(torch.split(self.logits, 4), torch.split(self.labels, 4), strict=True)


def measured(logits: Tensor, labels: Tensor, rank: int = 0, ranks: int = 1) -> Evaluation:
    batches = Given(logits, labels, rank, ranks)
    return evaluate(Logits(), batches, CLASSES, precision="fp32")


def drawn(count: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(count)
    logits = 3 * torch.randn(count, classes, generator=draws)
    return logits, torch.randint(0, classes, (count,), generator=draws)


def of(labels: list[int], guesses: list[int], losses: list[float]) -> Evaluation:
    return Evaluation(
        classes=CLASSES,
        labels=np.array(labels, np.int64),
        guesses=np.array(guesses, np.int64),
        in_top5=np.ones(len(labels), bool),
        losses=np.array(losses, np.float32),
        confidences=np.ones(len(labels), np.float32),
    )


def test_every_image_has_its_guess_loss_and_confidence_in_the_order_of_the_set() -> None:
    logits, labels = drawn(11)
    got = measured(logits, labels)
    shares = logits.double().softmax(1)
    assert got.images == 11
    np.testing.assert_array_equal(got.labels, labels)
    np.testing.assert_array_equal(got.guesses, logits.argmax(1))
    np.testing.assert_allclose(got.losses, -shares[torch.arange(11), labels].log(), rtol=1e-5)
    np.testing.assert_allclose(got.confidences, shares.amax(1), rtol=1e-5)
    assert got.losses.dtype == got.confidences.dtype == np.float32
    assert got.loss == pytest.approx(got.losses.astype(float).mean(), rel=1e-12)
    assert got.top1 == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    assert got.confusion.sum() == 11
    assert got.confusion.trace() == round(11 * got.top1)


def test_the_best_five_of_ten_classes_are_counted() -> None:
    logits = torch.arange(10.0).repeat(10, 1)  # class 9 is the best guess for all
    batches = Given(logits, torch.arange(10))
    got = evaluate(Logits(), batches, tuple("abcdefghij"), precision="fp32")
    assert got.in_top5.tolist() == [False] * 5 + [True] * 5
    assert (got.top1, got.top5) == (0.1, 0.5)


def test_a_network_is_evaluated_in_evaluation_mode_and_left_in_its_own() -> None:
    network, batches = Logits().train(), Given(*drawn(5))
    evaluate(network, batches, CLASSES, precision="fp32")
    assert not network.ran_in_training
    assert network.training


def test_macro_f1_is_the_mean_over_the_classes_that_have_images() -> None:
    # cat: 2 hits, 3 images, 2 named so; dog: 1, 1, 2; no owl, and none named so
    got = of([0, 0, 0, 1], [0, 0, 1, 1], [0.1] * 4)
    assert got.macro_f1 == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert of([0, 1, 2], [0, 1, 2], [0.0] * 3).macro_f1 == 1


def test_each_class_counts_the_same_in_balanced_accuracy() -> None:
    got = of([0, 0, 0, 1], [0, 0, 1, 1], [0.1] * 4)
    assert got.top1 == 0.75
    assert got.balanced == pytest.approx((2 / 3 + 1) / 2)  # no owl


def test_a_set_without_images_has_no_hits_and_the_widest_intervals() -> None:
    got = of([], [], [])
    assert (got.top1, got.balanced, got.macro_f1) == (0, 0, 0)
    assert got.intervals() == ((0, 1), (0, 1), (0, 1))


def test_intervals_surround_what_was_measured() -> None:
    labels = [0] * 30 + [1] * 20 + [2] * 10
    got = of(labels, [0] * 35 + [1] * 15 + [2, 0] * 5, [0.1] * 60)
    for name, (low, high) in got.intervals()._asdict().items():
        assert 0 < low < getattr(got, name) < high < 1
    assert got.intervals() == got.intervals()  # the seed is fixed
    for row in got.per_class():
        assert row.recall_interval.low <= row.recall <= row.recall_interval.high
    names = [row.name for row in got.per_class()]
    assert (names, got.per_class()[2].images) == (list(CLASSES), 10)
    assert of([0], [0], [0.1]).per_class()[2].recall_interval == (0, 1)  # no owl


@pytest.mark.parametrize(("count", "ranks"), [(11, 2), (12, 4), (2, 3), (5, 1)])
def test_parts_of_several_processes_make_the_whole_to_the_last_bit(count: int, ranks: int) -> None:
    logits, labels = drawn(count)
    whole = measured(logits, labels)
    parts = [measured(logits, labels, rank, ranks) for rank in range(ranks)]
    got = combined(parts)
    columns: list[tuple[NDArray[np.generic], NDArray[np.generic]]] = [
        (got.labels, whole.labels),
        (got.guesses, whole.guesses),
        (got.in_top5, whole.in_top5),
        (got.losses, whole.losses),
        (got.confidences, whole.confidences),
        (got.confusion, whole.confusion),
    ]
    for mine, theirs in columns:
        np.testing.assert_array_equal(mine, theirs, strict=True)
    assert (got.loss, got.top1, got.macro_f1) == (whole.loss, whole.top1, whole.macro_f1)


def test_shares_that_bad_images_made_shorter_are_counted_all_the_same() -> None:
    got = combined([of([0, 1], [0, 0], [0.0, 2.0]), of([2, 2, 1, 0], [2, 2, 1, 0], [0.0] * 4)])
    assert got.images == 6
    assert got.top1 == pytest.approx(5 / 6)
    assert got.labels.tolist() == [0, 2, 1, 2, 1, 0]


def test_parts_of_other_classes_are_refused() -> None:
    logits, labels = drawn(5)
    with pytest.raises(ValueError, match="0 evaluations, which are not of the same classes"):
        combined([])
    other = evaluate(Logits(), Given(logits, labels), ("a", "b", "c"), precision="fp32")
    with pytest.raises(ValueError, match="2 evaluations, which are not of the same classes"):
        combined([measured(logits, labels), other])


def test_the_worst_are_mistakes_by_their_loss_and_then_the_narrowly_right() -> None:
    got = of([0, 1, 2, 0], [1, 1, 0, 0], [2.0, 0.9, 5.0, 0.1])
    assert got.worst(3).tolist() == [2, 0, 1]
    assert got.worst(9).tolist() == [2, 0, 1, 3]


@pytest.mark.parametrize(("count", "ranks"), [(11, 1), (11, 2), (12, 4), (2, 3)])
def test_kept_logits_are_those_of_the_same_images_at_any_number_of_processes(
    count: int, ranks: int
) -> None:
    logits, labels = drawn(count)
    keep = np.arange(count) % 3 != 1
    parts = [
        evaluate(
            Logits(),
            Given(logits, labels, rank, ranks),
            CLASSES,
            precision="fp32",
            keep=keep[rank::ranks],
        )
        for rank in range(ranks)
    ]
    kept = combined(parts).kept
    assert kept is not None
    assert kept.rows.tolist() == np.flatnonzero(keep).tolist()
    np.testing.assert_array_equal(kept.logits, logits[keep])


def test_kept_logits_follow_their_images_into_the_order_of_the_set() -> None:
    logits, labels = drawn(6)
    keep = np.array([True, True, False, True, True, False])
    got = evaluate(Logits(), Given(logits, labels), CLASSES, precision="fp32", keep=keep)
    places = np.array([5, 0, 1, 4, 2, 3])
    whole = sorted_by(got, places)
    assert whole.kept is not None
    order = np.argsort(places)
    np.testing.assert_array_equal(whole.labels, labels[order])
    np.testing.assert_array_equal(whole.kept.rows, np.flatnonzero(keep[order]))
    np.testing.assert_array_equal(whole.kept.logits, logits[order][keep[order]])
    assert measured(logits, labels).kept is None


def test_the_kept_part_is_bounded_and_fixed() -> None:
    assert kept_images(1_000, 10).all()
    part = kept_images(50_000, 1_000)
    assert part.sum() == 4_000
    assert 0.4 < part[:25_000].sum() / 4_000 < 0.6
    np.testing.assert_array_equal(part, kept_images(50_000, 1_000))


def test_a_temperature_changes_the_confidences_alone() -> None:
    logits, labels = drawn(9)
    plain = measured(logits, labels)
    batches = Given(logits, labels)
    got = evaluate(Logits(), batches, CLASSES, precision="fp32", temperature=2.0)
    shares = (logits.double() / 2).softmax(1).amax(1)
    np.testing.assert_allclose(got.confidences, shares, rtol=1e-5)
    for name in ("labels", "guesses", "in_top5", "losses"):
        np.testing.assert_array_equal(getattr(got, name), getattr(plain, name))
