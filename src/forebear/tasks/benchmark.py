"""Times a network, forward and forward with backward.

The input is created once, before the clock starts, and the output of a step stays on the device. On
a GPU, events time the steps, and the host waits once at the end.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from forebear.errors import ForebearError, ran_out
from forebear.network.create import create
from forebear.network.network import Network
from forebear.network.plan.cost import Measure, measure, parameters
from forebear.network.plan.expand import expand
from forebear.tables.dialects import Dialect
from forebear.tables.files import resolve
from forebear.tables.rows import Table
from forebear.tasks.machine.device import (
    Precision,
    device_name,
    find_device,
    find_precision,
    peak_bytes,
)
from forebear.version import __version__

# Cost of a step in forward passes: for each product of the forward pass, the backward pass has two,
# for the gradients of the input and of the weights.
PASSES = {"Forward": 1, "Forward-backward": 3}
WARM_UP = 10  # most steps before the clock starts, as in the benchmarks of TensorFlow's tutorials

# Called with "Forward" or "Forward-backward", the number of steps begun, and the total.
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How to measure."""

    batch: int = 32  # images
    # Input size in pixels: the side of a square, or height and width; None: as published.
    size: int | tuple[int, int] | None = None
    steps: int = 100  # timed steps of each kind
    precision: str = "fp32"  # or "bf16", under autocast
    device: str = "auto"
    channels_last: bool = True  # memory layout of images and weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The timing of one kind of step."""

    what: str  # "Forward" or "Forward-backward"
    finished: datetime
    seconds: tuple[float, ...]  # of each step
    images_per_second: float
    gflops: float  # 10^9 floating-point operations per second, two per multiply-add
    peak_bytes: int | None  # allocated on the GPU; on the CPU, of the whole process so far

    @property
    def mean(self) -> float:
        """Mean seconds per batch."""
        return statistics.fmean(self.seconds)

    @property
    def deviation(self) -> float:
        """Standard deviation of the seconds, over all steps."""
        return statistics.pstdev(self.seconds)

    def quantile(self, fraction: float) -> float:
        """Returns a quantile of the seconds, interpolated linearly.

        Args:
            fraction: Of the steps that take less, 0 to 1.
        """
        place = fraction * (len(self.seconds) - 1)
        below, ordered = int(place), sorted(self.seconds)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    def line(self) -> str:
        """Returns the result as the timing loops of TensorFlow's tutorials printed it."""
        when = self.finished.isoformat(sep=" ", timespec="microseconds")
        spread = f"{self.mean:.3f} +/- {self.deviation:.3f}"
        return f"{when}: {self.what} across {len(self.seconds)} steps, {spread} sec / batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """The result of a benchmark, and what it was measured on."""

    network: str
    dialect: str
    parameters: int  # trainable
    multiply_adds: int  # per image, forward
    batch: int
    size: int  # height of the input in pixels
    width: int  # width of the input in pixels
    warm_up: int  # steps before the clock started
    precision: Precision
    tf32: bool  # whether fp32 convolutions round their factors to 10 bits
    channels_last: bool
    device: str
    device_name: str
    threads: int  # torch's CPU threads
    versions: tuple[tuple[str, str], ...]
    timings: tuple[Timing, ...]


def benchmark(
    network: str | Path | Table,
    setup: Setup,
    *,
    dialect: str | Dialect | None = None,
    progress: OnProgress | None = None,
) -> Benchmark:
    """Times a randomly initialised network on random images.

    Forward runs in evaluation mode without gradients. Forward-backward runs in training mode, from
    the cross-entropy with random labels to every gradient; gradients are freed between steps.

    Args:
        network: As in forebear.create.
        setup: How to measure.
        dialect: As in forebear.create.
        progress: Called before each step.

    Raises:
        ValueError: A count is below 1; network, device or precision are unknown; or images are too
            small, or too few for batch norm.
        ForebearError: Memory ran out; the message says which batch to try.
    """
    _check(setup)
    device = find_device(setup.device)
    precision = find_precision(setup.precision, device)
    table, chosen = resolve(network, dialect)
    planned = expand(table, chosen, num_classes=table.classes)
    size = table.image_size if setup.size is None else setup.size
    height, width = (size, size) if isinstance(size, int) else size
    rows = measure(planned, height, width)
    _check_norms(rows, setup.batch, (height, width))
    inside = {unit.path for unit in planned.units()}
    multiply_adds = sum(row.multiply_adds for row in rows if row.path not in inside)
    with _memory(setup.batch, f"{device} at {height}x{width} in {precision}"):
        layout = torch.channels_last if setup.channels_last else torch.contiguous_format
        net = create(table, dialect=chosen)
        net.to(device).to(memory_format=layout)  # type: ignore[call-overload]
        images = torch.randn(setup.batch, planned.in_channels, height, width, device=device)
        images = images.contiguous(memory_format=layout)
        labels = torch.randint(table.classes, (setup.batch,), device=device)
        steps = _steps(net, images, labels, precision)
        timings = tuple(
            _timed(what, step, setup, device, multiply_adds, progress) for what, step in steps
        )
    return Benchmark(
        network=network if isinstance(network, str) else table.name,
        dialect=chosen.name,
        parameters=parameters(planned)[0],
        multiply_adds=multiply_adds,
        batch=setup.batch,
        size=height,
        width=width,
        warm_up=_warm_up(setup),
        precision=precision,
        tf32=precision == "fp32" and device.type == "cuda" and torch.backends.cudnn.allow_tf32,
        channels_last=setup.channels_last,
        device=str(device),
        device_name=device_name(device),
        threads=torch.get_num_threads(),
        versions=tuple(_versions()),
        timings=timings,
    )


def _check(setup: Setup) -> None:
    for name in ("batch", "size", "steps"):
        value = getattr(setup, name)
        least = min(value) if isinstance(value, tuple) else value
        if least is not None and least < 1:
            raise ValueError(
                f"{name}={least}: expected a whole number of at least 1. Pass 1 or more."
            )


def _check_norms(rows: list[Measure], batch: int, shape: tuple[int, int]) -> None:
    if batch > 1:
        return
    for row in rows:
        if row.moving and row.kind != "unit" and row.shape[1] * row.shape[2] == 1:
            raise ValueError(
                f"batch=1: at {shape[0]}x{shape[1]} pixels {row.path} has one value per channel, "
                "and batch norm needs two in training. Pass a batch of 2, or larger images."
            )


def _steps(
    net: Network, images: Tensor, labels: Tensor, precision: Precision
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yields each kind of step; the network changes its mode in between."""
    lower = torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16")

    def forward() -> None:
        with torch.inference_mode(), lower:
            net(images)

    def forward_backward() -> None:
        with lower:
            loss = F.cross_entropy(net(images).float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        net.zero_grad(set_to_none=True)

    net.eval()
    yield "Forward", forward
    net.train()
    yield "Forward-backward", forward_backward


def _warm_up(setup: Setup) -> int:
    return min(WARM_UP, max(3, setup.steps // 10))


def _timed(
    what: str,
    step: Callable[[], None],
    setup: Setup,
    device: torch.device,
    multiply_adds: int,
    progress: OnProgress | None,
) -> Timing:
    for _ in range(_warm_up(setup)):
        step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def reported() -> Iterator[None]:
        for number in range(setup.steps):
            if progress is not None:
                progress(what, number, setup.steps)
            yield

    seconds = seconds_of(step, reported(), device)
    rate = setup.batch / statistics.fmean(seconds)
    return Timing(
        what=what,
        finished=datetime.now(),
        seconds=tuple(seconds),
        images_per_second=rate,
        gflops=2 * PASSES[what] * multiply_adds * rate / 1e9,
        peak_bytes=peak_bytes(device),
    )


def seconds_of(
    step: Callable[[], object], turns: Iterable[None], device: torch.device
) -> list[float]:
    """Returns the seconds of each step.

    On a GPU they are by its clock, from the end of each step to the end of the next, and the GPU
    is idle before the first one.

    Args:
        step: Does the work. Its output may stay on the device.
        turns: One for each step; the next is taken before the step begins.
        device: Of the step.
    """
    return (_gpu_seconds if device.type == "cuda" else _cpu_seconds)(step, turns, device)


def _cpu_seconds(
    step: Callable[[], object], turns: Iterable[None], device: torch.device
) -> list[float]:
    seconds = []
    for _ in turns:
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return seconds


def _gpu_seconds(
    step: Callable[[], object], turns: Iterable[None], device: torch.device
) -> list[float]:
    torch.cuda.synchronize(device)
    stream = torch.cuda.current_stream(device)

    def mark() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(stream)
        return event

    marks = [mark()]
    for _ in turns:
        step()
        marks.append(mark())
    torch.cuda.synchronize(device)
    return [start.elapsed_time(end) / 1000 for start, end in pairwise(marks)]


@contextmanager
def _memory(batch: int, where: str) -> Iterator[None]:
    """Turns a failed allocation into an error that says which batch to try."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        less = f"a batch of {batch // 2}" if batch > 1 else "a smaller size"
        raise ForebearError(
            f"batch={batch}: out of memory on {where}. Expected a batch that fits. Try {less}."
        ) from error


def _versions() -> Iterator[tuple[str, str]]:
    yield "forebear", __version__
    yield "torch", torch.__version__
    yield "python", platform.python_version()
    if torch.version.cuda is not None:
        yield "cuda", torch.version.cuda
