"""The fastest way is measured once for each shape, kept, and the same for every process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from forebear.network.kernels import measured_choice
from forebear.network.kernels.conv_geometry import Window
from forebear.network.kernels.measured_choice import ROUNDS, SMALL, WORK, fastest, kept, summary
from tests.network.kernels.making import draw

WINDOW = Window(3, 1, 1, 1, 16, 16)
BY_TORCH = 0.01  # seconds of torch's own convolution, on the clock of the tests


class Clock:
    """Tells a time that only the ways advance: how busy the machine is does not matter."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


clock = Clock()


def way(name: str, seconds: float) -> tuple[type[torch.autograd.Function], list[int]]:
    """Makes a way that takes so long, and a list that grows with each of its calls."""
    calls: list[int] = []

    class Made(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, weight: Tensor, window: Window) -> Tensor:
            calls.append(len(x))
            clock.now += seconds
            ctx.shapes = x.shape, weight.shape
            return x.new_zeros(len(x), len(weight), window.height, window.width)

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
            return dy.new_zeros(ctx.shapes[0]), dy.new_zeros(ctx.shapes[1]), None

    Made.__name__ = name
    return Made, calls


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(measured_choice, "_known", {})
    monkeypatch.setattr(measured_choice, "perf_counter", clock)
    plain = measured_choice._by_torch

    def by_torch(window: Window, x: Tensor, weight: Tensor) -> Tensor:
        clock.now += BY_TORCH
        return plain(window, x, weight)

    monkeypatch.setattr(measured_choice, "_by_torch", by_torch)
    return tmp_path / "home"


def of(channels: int = 16, images: int = 8) -> tuple[Tensor, Tensor]:
    return draw(images, channels, 16, 16), draw(channels, channels, 3, 3)


def test_the_faster_way_is_taken_and_measured_once(home: Path) -> None:
    (quick, quick_calls), (slow, slow_calls) = way("Quick", 0), way("Slow", 0.02)
    x, weight = of()
    assert fastest([slow, quick], WINDOW, x, weight) is quick
    counts = len(quick_calls), len(slow_calls)
    assert counts == (1 + ROUNDS, 1 + ROUNDS)
    assert fastest([slow, quick], WINDOW, x, weight) is quick
    assert (len(quick_calls), len(slow_calls)) == counts
    assert summary() == "1 by quick"


def test_torchs_own_convolution_takes_part() -> None:
    slow, _ = way("Slow", 0.05)
    assert fastest([slow], WINDOW, *of()) is None
    assert summary() == "1 by torch"


def test_another_process_takes_what_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    (quick, calls), (slow, _) = way("Quick", 0), way("Slow", 0.02)
    assert fastest([slow, quick], WINDOW, *of()) is quick
    assert list(kept().values()) == ["Quick"]
    monkeypatch.setattr(measured_choice, "_known", {})  # as in a new process
    calls.clear()
    assert fastest([slow, quick], WINDOW, *of()) is quick
    assert calls == []


def test_other_kernels_are_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    quick, calls = way("Quick", 0.001)
    fastest((quick,), WINDOW, *of())
    monkeypatch.setattr(measured_choice, "_known", {})
    monkeypatch.setattr(measured_choice, "version", lambda: "0123456789ab")
    before = len(calls)
    fastest((quick,), WINDOW, *of())
    assert len(calls) > before
    assert len(kept()) == 1


def test_each_shape_is_measured_with_few_images(home: Path) -> None:
    quick, calls = way("Quick", 0)
    fastest([quick], WINDOW, *of(images=8))
    fastest([quick], WINDOW, *of(images=4))
    fastest([quick], WINDOW, *of(channels=32))
    assert len(json.loads((home / "convolutions.json").read_text())) == 3
    calls.clear()
    x, weight = draw(1, 256, 16, 16).expand(64, -1, -1, -1), draw(256, 256, 3, 3)
    fastest([quick], WINDOW, x, weight)
    assert set(calls) == {int(WORK / (16 * 16 * weight.numel()))}


def test_a_small_convolution_is_not_measured(home: Path) -> None:
    quick, calls = way("Quick", 0)
    x, weight = draw(1, 4, 16, 16), draw(4, 4, 3, 3)
    assert 16 * 16 * weight.numel() < SMALL
    assert fastest([quick], WINDOW, x, weight) is quick
    assert calls == []
    assert not home.exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', "\x00"])
def test_a_damaged_file_is_written_again(home: Path, content: str) -> None:
    home.mkdir(mode=0o700)
    (home / "convolutions.json").write_text(content)
    quick, _ = way("Quick", 0)
    assert fastest([quick], WINDOW, *of()) is quick
    assert list(json.loads((home / "convolutions.json").read_text()).values()) == ["Quick"]


def test_a_home_that_cannot_be_written_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path / "file"))
    quick, _ = way("Quick", 0)
    assert fastest([quick], WINDOW, *of()) is quick


def test_measuring_leaves_the_random_numbers_alone() -> None:
    quick, _ = way("Quick", 0)
    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)
    fastest([quick], WINDOW, *of())
    assert torch.equal(torch.rand(1), wanted)


def test_fewer_ways_are_a_choice_of_their_own() -> None:
    """A run without Winograd must not decide for those with it."""
    (quick, _), (slow, _) = way("Quick", 0), way("Slow", 0.02)
    assert fastest([slow], WINDOW, *of()) is None
    assert fastest([quick, slow], WINDOW, *of()) is quick
    assert len(kept()) == 2
