from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
import torch

from forebear.engines import open as opening
from forebear.hardware import Processor
from forebear.tasks import compare_speed
from forebear.tasks.compare_speed import (
    Comparison,
    Contender,
    block_shares,
    compare,
    peak_rate,
    rounds,
    timed,
    warm_up,
)
from forebear.tasks.machine import device as machine
from forebear.tasks.speed_contenders import Conditions
from tests.network.making import make, table

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def contender(name: str, *seconds: float) -> Contender:
    return Contender(name=name, seconds=seconds, warm_up=3, memory=0)


def test_ratios_are_of_the_rounds() -> None:
    """A machine that is slower in one round is slower for both."""
    found = Comparison(
        network="n", batch=1, size=8, width=8, what="forward", multiply_adds=10, peak=1.0,
        device="cpu", device_name="a processor", precision="fp32",
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


class Gpu:
    """Stands for CUDA: it logs what is asked of it, and its clock says 5 ms."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.allocated = self.peak = 100
        log, gpu = self.log, self

        class Event:
            def __init__(self, *, enable_timing: bool) -> None:
                assert enable_timing

            def record(self, stream: object) -> None:
                assert stream == "the stream"
                log.append("record")

            def elapsed_time(self, end: Event) -> float:
                log.append("read")
                return 5.0

        def reset(_: torch.device) -> None:
            gpu.peak = gpu.allocated

        cuda = torch.cuda
        monkeypatch.setattr(cuda, "Event", Event)
        monkeypatch.setattr(cuda, "synchronize", lambda _: log.append("wait"))
        monkeypatch.setattr(cuda, "current_stream", lambda _: "the stream")
        monkeypatch.setattr(cuda, "reset_peak_memory_stats", reset)
        monkeypatch.setattr(cuda, "max_memory_allocated", lambda _: gpu.peak)

    def take(self, size: int) -> None:
        """Allocates memory and frees half of it."""
        self.log.append("step")
        self.peak = max(self.peak, self.allocated + size)
        self.allocated += size // 2


def test_a_gpu_times_a_step_by_events(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(monkeypatch)
    assert timed(partial(gpu.take, 1), CUDA) == 0.005
    assert gpu.log == ["wait", "record", "step", "record", "wait", "read"]
    times = rounds({"a": partial(gpu.take, 1)}, seconds=0, device=CUDA)
    assert times == {"a": [0.005] * 5}
    assert warm_up(partial(gpu.take, 1), device=CUDA) == 3


def test_the_memory_of_a_gpu_is_that_of_each_contender(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak of a GPU begins again at what the contenders before have kept."""
    gpu = Gpu(monkeypatch)

    def made(size: int) -> Any:
        gpu.take(size)
        return lambda: None

    assert compare_speed._ready(partial(made, 1000), CUDA)[1:] == (3, 1000)
    assert gpu.allocated == 600
    assert compare_speed._ready(partial(made, 10), CUDA)[1:] == (3, 10)


def test_fp32_on_a_gpu_is_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "allow_tf32", True)
    with compare_speed._without_tf32(CUDA):
        assert not cudnn.allow_tf32
    assert cudnn.allow_tf32
    with compare_speed._without_tf32(CPU):
        assert cudnn.allow_tf32


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("backward", [False, True])
def test_a_comparison_on_a_gpu(precision: str, backward: bool) -> None:
    lines: list[str] = []
    engines: Any = ("torch", "compile", "onnxruntime")
    found = compare(
        "torchvision/resnet50", batch=8, backward=backward, engines=engines, device="cuda",
        precision=precision, seconds=2, say=lines.append,
    )  # fmt: skip
    assert [one.name for one in found.contenders] == ["forebear torch", "forebear compile"]
    assert all(one.memory > 2**20 for one in found.contenders)
    assert (found.device, found.precision) == ("cuda", precision)
    assert len(lines) == 1


def test_the_parts_of_a_network_add_up() -> None:
    conditions = Conditions(batch=2, side=64, backward=False, device=CPU, precision="bf16")
    network = make(table("basic"), "torchvision", num_classes=3)
    shares = dict(block_shares(network, conditions))
    assert next(network.parameters()).dtype == torch.float32
    assert not any(module._forward_hooks for module in network.modules())
    assert list(shares) == ["root", "block1", "block2", "block3", "block4", "pool", "logits"]
    assert sum(shares.values()) == pytest.approx(1)


def test_the_peak_of_a_matrix_product(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak_rate(64, 2) > 1e6
    dtypes: list[torch.dtype] = []

    def seconds_of(step: Any, turns: Any, device: torch.device) -> list[float]:
        dtypes.append(step().dtype)
        return [2.0, 0.5]

    monkeypatch.setattr(compare_speed, "seconds_of", seconds_of)
    assert peak_rate(8, dtype=torch.bfloat16) == 2 * 8**3
    assert dtypes == [torch.bfloat16]


def test_engines_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    lines: list[str] = []
    engines: Any = ("torch", "onnxruntime")
    monkeypatch.setattr(compare_speed, "ROUNDS", 5)
    found = compare(
        "paper/resnet20", batch=2, engines=engines, peers=("timm",), seconds=0.1, device="cpu",
        say=lines.append,
    )  # fmt: skip
    assert [one.name for one in found.contenders] == ["forebear torch", "forebear onnxruntime"]
    assert all(len(one.seconds) == 5 for one in found.contenders)
    assert lines == [
        "timm left out: paper/resnet20 has no equal network in torchvision, timm or keras"
    ]
    assert (found.device, found.precision) == ("cpu", "fp32")
    assert found.device_name
    assert 4.0e7 < found.multiply_adds < 4.2e7  # table 6 of the paper: 0.27 M parameters
    assert found.size == 32


def test_training_steps_leave_the_network_alone() -> None:
    engines: Any = ("torch", "onnxruntime")
    found = compare(
        "paper/resnet20", batch=2, backward=True, engines=engines, seconds=0.1, device="cpu"
    )
    assert [one.name for one in found.contenders] == ["forebear torch"]
    assert found.what == "forward-backward"
    assert found.blocks == ()
    assert torch.is_grad_enabled()


def test_no_contender_at_all() -> None:
    engines: Any = ("onnxruntime",)
    wanted = (
        r"paper/resnet20: no contender can run \(forebear onnxruntime left out: onnxruntime has no "
        r"backward pass; timm left out: paper/resnet20 has no equal network .*; keras left out: .*"
        r"\)\. Expected one at least\. Pass another --engine or --against\."
    )
    with pytest.raises(ValueError, match=wanted):
        compare(
            "paper/resnet20", batch=1, engines=engines, peers=("timm", "keras"), backward=True,
            device="cpu",
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"no contender can run \(none was named\)"):
        compare("paper/resnet20", batch=1, engines=(), device="cpu")


def quick(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Comparison:
    monkeypatch.setattr(compare_speed, "ROUNDS", 5)
    return compare("resnet20", batch=2, size=16, device="cpu", seconds=0.1, **options)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.long
def test_bf16_where_the_processor_has_it(backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "processor", partial(chip, amx=True))
    monkeypatch.setattr(machine, "processor", partial(chip, amx=True))
    lines: list[str] = []
    engines: Any = ("torch", "onnxruntime")
    found = quick(
        monkeypatch, engines=engines, backward=backward, precision="auto", say=lines.append
    )
    assert (found.network, found.precision) == ("paper/resnet20", "bf16")
    assert [one.name for one in found.contenders] == ["forebear torch"]
    assert len(lines) == 1


def chip(*, amx: bool = False) -> Processor:
    return Processor(
        name="Zen 3", architecture="x86_64", level="x86-64-v3", amx=amx, cores=2, memory=0
    )


def test_bf16_where_the_processor_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "processor", chip)
    monkeypatch.setattr(machine, "processor", chip)
    wanted = "^precision=bf16: Zen 3 .* has no bfloat16 arithmetic.* Pass --precision fp32\\.$"
    with pytest.raises(ValueError, match=wanted):
        quick(monkeypatch, precision="bf16")
    assert quick(monkeypatch, precision="auto").precision == "fp32"


def test_bf16_where_the_gpu_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_speed, "has_bf16", lambda device: False)
    monkeypatch.setattr(compare_speed, "device_name", lambda device: "Tesla T4")
    wanted = "precision=bf16: Tesla T4 has no bfloat16 arithmetic. Expected a GPU of compute cap"
    with pytest.raises(ValueError, match=wanted):
        compare_speed._check_bf16(CUDA)
