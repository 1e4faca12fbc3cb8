from __future__ import annotations

import numpy as np

from forebear.data.strata import stratified


def test_every_beginning_holds_each_class_in_proportion_to_one_image() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    order = stratified(labels, seed=3)
    assert sorted(order.tolist()) == list(range(100))
    for count in (1, 7, 20, 50, 99):
        found = np.bincount(labels[order[:count]], minlength=3)
        assert np.abs(found - count * np.array([0.6, 0.3, 0.1])).max() <= 1.5


def test_the_order_follows_from_the_labels_and_the_seed() -> None:
    labels = np.arange(40) % 4
    assert stratified(labels, 1).tolist() == stratified(labels, 1).tolist()
    assert stratified(labels, 1).tolist() != stratified(labels, 2).tolist()


def test_without_images_there_is_no_order() -> None:
    assert stratified(np.empty(0, np.int64), 0).tolist() == []
