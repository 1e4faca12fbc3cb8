"""What is timed, and what follows from the seconds."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from forebear.errors import ForebearError
from forebear.network.create import create
from forebear.network.network import Network
from forebear.tasks.benchmark import Setup, Timing, benchmark


def timing(*seconds: float) -> Timing:
    return Timing(
        what="Forward",
        finished=datetime(2016, 12, 1, 12),
        seconds=seconds,
        images_per_second=1.0,
        gflops=1.0,
        peak_bytes=None,
    )


def test_the_line_is_the_ancestors() -> None:
    line = timing(0.144, 0.146).line()
    assert line == (
        "2016-12-01 12:00:00.000000: Forward across 2 steps, 0.145 +/- 0.001 sec / batch"
    )


def test_the_deviation_survives_long_steps_that_hardly_vary() -> None:
    seconds = [1e9 + step % 2 for step in range(100)]
    mean = sum(seconds) / 100
    assert sum(value * value for value in seconds) / 100 - mean * mean != 0.25  # their formula
    assert timing(*seconds).deviation == 0.5


def test_quantiles_lie_between_steps() -> None:
    found = timing(4.0, 1.0, 3.0, 2.0, 5.0)
    assert [found.quantile(share) for share in (0, 0.1, 0.5, 0.9, 1)] == [1, 1.4, 3, 4.6, 5]
    assert timing(7.0).quantile(0.9) == 7.0


def test_forward_evaluates_and_forward_backward_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[bool, bool, bool]] = []
    nets: list[Network] = []

    def watched(*args: Any, **kwargs: Any) -> Network:
        net: Network = create(*args, **kwargs)

        def look(module: nn.Module, _: object) -> None:
            bare = all(parameter.grad is None for parameter in net.parameters())
            calls.append((module.training, torch.is_inference_mode_enabled(), bare))

        net.register_forward_pre_hook(look)
        nets.append(net)
        return net

    monkeypatch.setattr("forebear.tasks.benchmark.create", watched)
    shown: list[tuple[str, int, int]] = []
    setup = Setup(batch=2, steps=4, device="cpu")
    found = benchmark("paper/resnet20", setup, progress=lambda *step: shown.append(step))
    each = 3 + 4
    assert found.warm_up == 3
    assert calls == [(False, True, True)] * each + [(True, False, True)] * each
    moved = nets[0].get_buffer("root.conv1.norm.running_mean")
    assert float(moved.abs().max()) > 0  # the batches went through its norms while training
    assert shown == [
        (what, step, 4) for what in ("Forward", "Forward-backward") for step in range(4)
    ]


def test_speeds_follow_from_the_seconds() -> None:
    found = benchmark("paper/resnet20", Setup(batch=2, steps=3, size=16, device="cpu"))
    forward, both = found.timings
    assert found.multiply_adds < 40_551_040 / 3  # of the published 32x32
    for one, passes in ((forward, 1), (both, 3)):
        assert len(one.seconds) == 3
        assert math.isclose(one.images_per_second, 2 / one.mean)
        wanted = 2 * passes * found.multiply_adds * one.images_per_second / 1e9
        assert math.isclose(one.gflops, wanted)
        assert one.peak_bytes is None or one.peak_bytes > 2**20


def test_a_full_gpu_is_reported_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(functional, "cross_entropy", full)
    with pytest.raises(ForebearError, match=r"batch=2: out of memory .* Try a batch of 1\."):
        benchmark("paper/resnet20", Setup(batch=2, steps=1, device="cpu"))
    with pytest.raises(ForebearError, match=r"Try a smaller size\."):
        benchmark("paper/resnet20", Setup(batch=1, steps=1, device="cpu"))


def test_other_failures_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(functional, "cross_entropy", broken)
    with pytest.raises(RuntimeError, match="something else"):
        benchmark("paper/resnet20", Setup(batch=2, steps=1, device="cpu"))


@pytest.mark.gpu
def test_a_gpu_is_timed_by_its_own_clock() -> None:
    found = benchmark("torchvision/resnet50", Setup(steps=10, device="cuda", precision="bf16"))
    for one in found.timings:
        assert len(one.seconds) == 10
        assert min(one.seconds) > 1e-4
        assert one.peak_bytes is not None
        assert one.peak_bytes > 4 * found.parameters
