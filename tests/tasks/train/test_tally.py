from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from forebear.network.multi_label import MultiLabel
from forebear.tasks.evaluate import Evaluation
from forebear.tasks.label_evaluation import LabelEvaluation
from forebear.tasks.machine.distributed import ALONE
from forebear.tasks.train.state import TrainState
from forebear.tasks.train.tally import PARTS, Tally


def evaluation(correct: int = 3, images: int = 4) -> Evaluation:
    labels = np.zeros(images, np.int64)
    guesses = np.array([0] * correct + [1] * (images - correct))
    return Evaluation(
        classes=("a", "b"),
        labels=labels,
        guesses=guesses,
        in_top5=np.ones(images, np.bool_),
        losses=np.full(images, 0.5, np.float32),
        confidences=np.ones(images, np.float32),
    )


def tally(*steps: tuple[float, float, int, float]) -> Tally:
    """Steps of (sum of losses, hits, images, learning rate), not yet on the CPU."""
    made = Tally(state=TrainState(step=len(steps), trained=2.0, skipped=1), world=ALONE)
    for loss, hits, images, lr in steps:
        made.add(torch.tensor([loss, hits]), images=images, lr=lr)
    return made


def test_an_epoch_has_the_means_over_images_not_over_steps() -> None:
    made = tally((8.0, 2, 4, 0.1), (1.0, 1, 2, 0.2))
    made.unite()
    epoch = made.epoch(evaluation(), steps=2, seconds=9.0, memory=7.0)
    assert (epoch.epoch, epoch.step, epoch.lr) == (1, 2, 0.2)
    assert epoch.loss == pytest.approx(9 / 6)
    assert epoch.accuracy == pytest.approx(3 / 6)
    assert epoch.images_per_second == pytest.approx(6 / 2.0)
    assert (epoch.val_loss, epoch.val_accuracy, epoch.val_images) == (0.5, 0.75, 4)
    assert epoch.val_balanced == 0.75
    assert epoch.val_macro_f1 == pytest.approx(6 / 7)
    assert (epoch.seconds, epoch.memory, epoch.skipped) == (9.0, 7.0, 1)
    assert (epoch.losses, epoch.lrs) == ((2.0, 0.5), (0.1, 0.2))


def test_steps_that_were_skipped_do_not_count() -> None:
    made = tally((4.0, 1, 2, 0.1), (math.nan, 2, 2, 0.2), (2.0, 0, 2, 0.3))
    assert made.so_far() == pytest.approx((6 / 4, 1 / 4))
    made.unite()
    epoch = made.epoch(evaluation(), steps=6, seconds=1.0, memory=0.0)
    assert epoch.epoch == 0.5
    assert (epoch.loss, epoch.accuracy) == pytest.approx((6 / 4, 1 / 4))
    assert epoch.losses == (2.0, 1.0)


def test_if_all_steps_were_skipped_the_epoch_says_so_by_nan() -> None:
    made = tally((math.nan, 0, 2, 0.1))
    made.unite()
    assert math.isnan(made.epoch(evaluation(), steps=1, seconds=1.0, memory=0.0).loss)


def test_curves_have_at_most_twenty_parts() -> None:
    made = tally(*((float(n), 0, 1, float(n)) for n in range(100)))
    made.unite()
    epoch = made.epoch(evaluation(), steps=100, seconds=1.0, memory=0.0)
    assert len(epoch.losses) == len(epoch.lrs) == PARTS
    assert epoch.losses[0] == pytest.approx(2.0)  # the mean of 0, 1, 2, 3 and 4
    assert epoch.lrs[0] == 4.0  # the last one of them


def test_nothing_is_in_the_state_before_the_processes_are_united() -> None:
    made = tally((8.0, 2, 4, 0.1))
    assert made.state.losses == []
    made.pull()
    assert made.state.losses == []
    made.unite()
    assert (made.state.losses, made.state.hits) == ([8.0], [2.0])
    made.unite()  # a second time adds nothing
    assert made.state.losses == [8.0]
    made.clear()
    assert (made.state.losses, made.state.counts, made.state.trained) == ([], [], 0.0)


def test_an_epoch_of_several_labels_has_map_f1_and_exact_matches() -> None:
    made = tally((8.0, 2, 4, 0.1))
    made.unite()
    labels = np.array([[1, 0], [1, 1]], np.uint8)
    measured = LabelEvaluation(
        classes=("a", "b"),
        labels=labels,
        logits=np.array([[1, 2], [2, 1]], np.float32),
        losses=np.full(2, 0.5, np.float32),
        several=MultiLabel.of(2),
    )
    epoch = made.epoch(measured, steps=1, seconds=9.0, memory=7.0)
    assert (epoch.val_loss, epoch.val_accuracy, epoch.val_images) == (0.5, 0.5, 2)
    assert epoch.val_map == pytest.approx((1 + 1 / 2) / 2)
    assert epoch.val_micro_f1 == pytest.approx(6 / 7)
    assert epoch.val_macro_f1 == pytest.approx((1 + 2 / 3) / 2)
    assert epoch.val_balanced is None
