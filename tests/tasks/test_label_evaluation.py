from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from forebear.data.sources.read_options import ReadOptions
from forebear.data.sources.registry import read_data
from forebear.errors import DataError
from forebear.network.multi_label import MultiLabel
from forebear.tasks.evaluate import evaluate_on
from forebear.tasks.evaluation_set import ClassMatch, matched
from forebear.tasks.label_evaluation import (
    LabelEvaluation,
    evaluate_labels,
    evaluate_labels_on,
    in_order,
    joined_labels,
)
from tests.cli.making import folder
from tests.tasks.labels_making import multi_network, multi_table

LABELS = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], np.uint8)
LOGITS = np.array([[2, -1, -3], [1, -0.5, -3], [-2, -2, 0.5], [-1, 3, -3]], np.float32)


class Fixed:
    """Batches of two images whose pixels are their logits."""

    device = torch.device("cpu")

    def in_order(self):  # type: ignore[no-untyped-def]
        for at in (0, 2):
            yield torch.from_numpy(LOGITS[at : at + 2]), torch.from_numpy(LABELS[at : at + 2])


def measured(*thresholds: float) -> LabelEvaluation:
    several = MultiLabel(thresholds=thresholds) if thresholds else None
    return evaluate_labels(
        nn.Identity(), Fixed(), ("a", "b", "c"), precision="fp32", several=several
    )


def test_measures_of_a_case_worked_by_hand() -> None:
    found = measured()
    assert found.images == 4
    assert found.predicted.astype(int).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert found.faults.tolist() == [0, 1, 1, 0]
    assert found.exact_match == 0.5
    assert found.micro_f1 == pytest.approx(2 * 3 / (4 + 4))
    assert found.macro_f1 == pytest.approx((1 + 2 / 3) / 2)  # c has no image
    assert found.mean_ap == 1
    wanted = np.logaddexp(0, np.where(LABELS > 0, -LOGITS, LOGITS)).sum(1)
    np.testing.assert_allclose(found.losses, wanted, rtol=1e-6)
    assert found.loss == pytest.approx(wanted.mean())


def test_thresholds_decide_which_labels_an_image_is_given() -> None:
    found = measured(0.5, 0.3, 0.9)
    assert found.exact_match == 1
    rows = found.per_label()
    assert [row.threshold for row in rows] == [0.5, 0.3, 0.9]
    assert [row.images for row in rows] == [2, 2, 0]
    assert (rows[1].f1, rows[1].recall) == (1, 1)
    assert np.isnan(rows[2].average_precision)


def test_the_worst_images_have_faults_and_come_by_falling_loss() -> None:
    found = measured()
    order = found.worst(4).tolist()
    assert set(order[:2]) == {1, 2}
    assert found.losses[order[0]] > found.losses[order[1]]


def test_parts_of_several_processes_are_joined_in_the_order_of_the_set() -> None:
    whole = measured()
    parts = [in_order(whole, np.arange(rank, 4, 2)) for rank in range(2)]
    again = joined_labels(parts)
    assert again.labels.tolist() == LABELS.tolist()
    assert again.logits.tolist() == LOGITS.tolist()


def test_no_images_are_an_evaluation_too() -> None:
    empty = in_order(measured(), np.empty(0, np.int64))
    values = (empty.loss, empty.mean_ap, empty.micro_f1, empty.macro_f1, empty.exact_match)
    assert values == (0.0,) * 5
    assert empty.intervals().mAP == (0.0, 1.0)


def test_labels_are_put_in_the_order_of_the_logits_and_missing_ones_are_absent() -> None:
    match = ClassMatch(np.array([2, 0]), "")
    found = matched(np.array([[1, 0], [1, 1]], np.uint8), match, 4)
    assert found.tolist() == [[0, 0, 1, 0], [1, 0, 1, 0]]
    assert matched(np.array([1, 0]), match, 4).tolist() == [0, 2]


def test_data_and_network_must_be_of_one_kind(tmp_path: Path) -> None:
    network, file = multi_network(), multi_table(tmp_path)
    found = evaluate_labels_on(network, f"csv:{file}", part="all", device="cpu")
    assert found.images == 24
    network.card = multi_network(several=False).card
    with pytest.raises(DataError, match="the images have several labels, the network has one"):
        evaluate_on(network, f"csv:{file}", part="all", device="cpu")
    plain = folder(tmp_path / "plain", 8)
    with pytest.raises(DataError, match="one class each, the network is multi-label"):
        evaluate_labels_on(multi_network(), f"folder:{plain}", part="all", device="cpu")


def test_a_table_is_read_as_the_network_needs_it(tmp_path: Path) -> None:
    file, said = multi_table(tmp_path, columns=False), list[str]()
    network = multi_network()
    found = evaluate_labels_on(network, f"csv:{file}", part="all", device="cpu", say=said.append)
    assert found.labels.sum() == 36
    assert not any("thresholds were chosen" in line for line in said)
    data = read_data(f"csv:{file}", ReadOptions(multi_label=True))
    own = MultiLabel(thresholds=(0.4,) * 3, images=4, fingerprint=data.fingerprint)
    network.card = replace(network.card, multi_label=own)
    evaluate_labels_on(network, f"csv:{file}", part="val", device="cpu", say=said.append)
    assert said[-1].startswith("the thresholds were chosen on these images, so F1 and exact")
