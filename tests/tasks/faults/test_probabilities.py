"""Which probabilities label errors are found with."""

from __future__ import annotations

import numpy as np
import pytest

from forebear.tasks.check import check
from forebear.tasks.faults.find import find_faults
from tests.tasks.faults import making

pytest.importorskip("imagehash")
pytest.importorskip("cleanlab")


def methods_of(train: making.Rows, val: making.Rows, **metrics: object) -> tuple[str, ...]:
    data = making.dataset(train, val)
    return find_faults(making.network(**metrics), data, check(data)).methods


def test_the_network_judges_only_validation_images_of_the_data_that_it_was_trained_on() -> None:
    train, val = making.rows(10), making.rows(6, first=10)
    for key in ("fingerprint", "data_fingerprint"):
        methods = methods_of(train, val, **{key: "f"})
        assert methods[0].startswith("label errors of 30 images: 5-fold cross-validated")
        assert methods[1].startswith("label errors of 18 images: the network's own probabilities")
    assert len(methods_of(train, val, fingerprint="other")) == 3


def test_the_probabilities_of_a_cross_validation_decide_where_there_are_some() -> None:
    train, val = making.rows(10), making.rows(6, first=10)
    data = making.dataset(train, val)
    shares = np.full((48, 3), 0.05)
    shares[np.arange(48), np.concatenate([data.train.labels, data.val.labels])] = 0.9
    shares[4] = [0.01, 0.02, 0.97]  # an image of class 0
    faults = find_faults(making.network(), data, check(data), shares=shares)
    assert [(one.place, one.label, one.suggested) for one in faults.of("label")] == [
        (4, "across", "grey")
    ]
    assert faults.of("label")[0].score == pytest.approx(0.99)
    said = "label errors of 48 images: the out-of-fold probabilities of the cross-validation"
    assert faults.methods[0].startswith(said)
    shares[30:] = np.nan  # a validation set of its own
    methods = find_faults(making.network(), data, check(data), shares=shares).methods
    assert methods[0].startswith("label errors of 30 images: the out-of-fold probabilities")
    assert methods[1].startswith("label errors of 18 images: the network's own probabilities")
