from __future__ import annotations

import numpy as np

from forebear.data.groups import grouped


def test_parts_share_sorted_names_and_count_their_own_groups() -> None:
    parts = grouped("patient", {"train": ["p2", "p1", "p2"], "val": ["p3"]})
    train, val = parts["train"], parts["val"]
    assert train.names == val.names == ("p1", "p2", "p3")
    assert train.numbers.tolist() == [1, 0, 1]
    assert (train.by, train.count, val.count) == ("patient", 2, 1)
    assert [train.name(index) for index in range(3)] == ["p2", "p1", "p2"]
    taken = train.take(np.array([2, 0]))
    assert (taken.numbers.tolist(), taken.names) == ([1, 1], train.names)
