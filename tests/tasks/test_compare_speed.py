from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
import torch

from forebear.tasks import compare_speed
from forebear.tasks.compare_speed import (
    Comparison,
    Contender,
    block_shares,
    compare,
    peak_rate,
    rounds,
    warm_up,
)
from tests.network.making import make, table


def contender(name: str, *seconds: float) -> Contender:
    return Contender(name=name, seconds=seconds, warm_up=3, memory=0)


def test_ratios_are_of_the_rounds() -> None:
    """A machine that is slower in one round is slower for both."""
    found = Comparison(
        network="n", batch=1, size=8, what="forward", multiply_adds=10, peak=1.0,
        contenders=(contender("a", 1, 2, 1, 4, 1), contender("b", 2, 4, 2, 8, 2)),
    )  # fmt: skip
    assert found.ratio(found.contenders[1]) == (2, 2, 2)
    assert found.ratio(found.contenders[0]) == (1, 1, 1)
    noisy = contender("c", 1, 3, 1.5, 4, 0.5)
    middle, low, high = found.ratio(noisy)
    assert low <= middle <= high
    assert low < high


def test_contenders_take_turns() -> None:
    order: list[str] = []
    steps: Any = {name: partial(order.append, name) for name in "abc"}
    times = rounds(steps, seconds=0)
    assert "".join(order) == "abcbcacababcbca"
    assert all(len(one) == 5 for one in times.values())


def test_warm_up_ends_when_it_is_no_longer_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    durations = iter([8.0, 4.0, 2.0, 1.0, 1.0, 1.0])

    def step() -> None:
        now[0] += next(durations)

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert warm_up(step) == 5
    endless = iter([1 / 2**n for n in range(20)])
    durations = endless
    assert warm_up(step, most=7) == 7


def test_the_parts_of_a_network_add_up() -> None:
    shares = dict(block_shares(make(table("basic"), "torchvision", num_classes=3), 2, 64))
    assert list(shares) == ["root", "block1", "block2", "block3", "block4", "pool", "logits"]
    assert sum(shares.values()) == pytest.approx(1)
    assert peak_rate(64, 2) > 1e6


def test_engines_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    lines: list[str] = []
    engines: Any = ("torch", "onnxruntime")
    monkeypatch.setattr(compare_speed, "ROUNDS", 5)
    found = compare(
        "paper/resnet20", batch=2, engines=engines, peers=("no_such_peer",), seconds=0.1,
        say=lines.append,
    )  # fmt: skip
    assert [one.name for one in found.contenders] == ["forebear torch", "forebear onnxruntime"]
    assert all(len(one.seconds) == 5 for one in found.contenders)
    assert lines == ["no_such_peer left out: no_such_peer is not installed; run pip install "
                     "no_such_peer"]  # fmt: skip
    assert 4.0e7 < found.multiply_adds < 4.2e7  # table 6 of the paper: 0.27 M parameters
    assert found.size == 32


def test_training_steps_leave_the_network_alone() -> None:
    engines: Any = ("torch", "onnxruntime")
    found = compare("paper/resnet20", batch=2, backward=True, engines=engines, seconds=0.1)
    assert [one.name for one in found.contenders] == ["forebear torch"]
    assert found.what == "forward-backward"
    assert found.blocks == ()
    assert torch.is_grad_enabled()


def test_no_contender_at_all() -> None:
    with pytest.raises(ValueError, match="no contender can run"):
        compare("paper/resnet20", batch=1, engines=(), peers=("no_such_peer",))
