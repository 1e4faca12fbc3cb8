"""Times several contenders in one run: engines of a network, and the same network elsewhere.

The contenders take turns, round after round, so that a change of the machine's speed meets all of
them, and each round gives one ratio for each pair. Warm-up ends when a contender stops getting
faster. On a GPU, events time each step, which begins on an idle GPU.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from forebear.engines.engine import EngineName
from forebear.engines.open import check_bf16
from forebear.network.create import create
from forebear.network.network import Network
from forebear.network.plan.cost import check_size, measure
from forebear.tasks.benchmark import seconds_of
from forebear.tasks.machine.device import (
    Precision,
    device_name,
    find_device,
    find_precision,
    has_bf16,
    peak_bytes,
)
from forebear.tasks.speed_contenders import (
    Conditions,
    Step,
    engine_step,
    full_name,
    peer_step,
    reason,
)

ROUNDS = 30  # at most
SECONDS = 20.0  # for all rounds of one comparison
WARM_UP = 10  # steps at most, for each contender
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """The figures of one contender."""

    name: str
    seconds: tuple[float, ...]  # of each round
    warm_up: int  # steps before
    memory: int  # bytes by which the peak grew while it was made and ran, see Comparison.device
    fault: str = ""  # why it did not run

    def quantile(self, share: float) -> float:
        """Returns a quantile of the seconds; nan without any."""
        return float(np.quantile(self.seconds, share)) if self.seconds else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All contenders at one batch size, the first one first."""

    network: str
    batch: int
    size: int  # height of the input in pixels
    width: int  # width of the input in pixels
    what: str  # "forward" or "forward-backward"
    device: str  # cpu: memory is that of the process; cuda: that of torch's tensors on the GPU
    device_name: str
    precision: Precision
    multiply_adds: int  # per image, forward
    peak: float  # multiply-adds per second of a matrix product in the precision
    contenders: tuple[Contender, ...]
    blocks: tuple[tuple[str, float], ...] = field(default=())  # share of the eager network's time

    def ratio(self, other: Contender) -> tuple[float, float, float]:
        """Returns the time of a contender divided by that of the first, and its 95 % interval.

        The medians of the rounds' ratios; the interval is a bootstrap over the rounds.
        """
        first = np.array(self.contenders[0].seconds)
        pairs = np.array(other.seconds)[: len(first)] / first[: len(other.seconds)]
        draws = np.random.default_rng(0).integers(0, len(pairs), (1000, len(pairs)))
        medians = np.median(pairs[draws], axis=1)
        low, high = np.quantile(medians, (0.025, 0.975))
        return float(np.median(pairs)), float(low), float(high)


def compare(
    name: str,
    *,
    batch: int,
    size: int | tuple[int, int] | None = None,
    backward: bool = False,
    engines: Sequence[EngineName] = ("torch",),
    peers: Sequence[str] = (),
    precision: str = "fp32",
    device: str = "auto",
    seconds: float = SECONDS,
    say: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Times a network of forebear's by its engines, and the same network of other libraries.

    Args:
        name: Of a published network.
        batch: Images at a time.
        size: Input size in pixels: the side of a square, or height and width. None is the
            published one.
        backward: Whether the steps are those of training, from the images to all gradients. Only
            PyTorch and the peers on it can do that.
        engines: Of forebear's.
        peers: torchvision, timm or keras.
        precision: fp32, bf16, or auto for bf16 where the device has its arithmetic. On a GPU, fp32
            is without TF32, so that engines agree with eager PyTorch.
        device: auto, cpu or cuda; auto is the GPU if there is one.
        seconds: For all rounds together.
        say: Takes a line for each contender that cannot run.

    Raises:
        ValueError: The network, the device or the precision is unknown, the images are too small,
            the device has no bf16 arithmetic, or no contender can run.
    """
    name = full_name(name, say)
    where = find_device(device)
    network = create(name).eval()
    shape = network.preprocessing.shape if size is None else size
    height, width = (shape, shape) if isinstance(shape, int) else shape
    check_size(network.plan, height, width)
    conditions = Conditions(
        batch=batch,
        side=height,
        width=width,
        backward=backward,
        device=where,
        precision=find_precision(precision, where),
    )
    if conditions.precision == "bf16":
        _check_bf16(where)
    makers: dict[str, Callable[[], Step]] = {
        f"forebear {engine}": partial(engine_step, network, engine, conditions)
        for engine in engines
    }
    makers |= {peer: partial(peer_step, network, peer, name, conditions) for peer in peers}
    with _without_tf32(where):
        return _compared(name, network, makers, conditions, seconds, say)


def _check_bf16(device: torch.device) -> None:
    if device.type == "cpu":
        check_bf16("fp32")
    elif not has_bf16(device):
        raise ValueError(
            f"precision=bf16: {device_name(device)} has no bfloat16 arithmetic. Expected a GPU of "
            "compute capability 8.0 or higher. Pass --precision fp32."
        )


@contextmanager
def _without_tf32(device: torch.device) -> Iterator[None]:
    """Lets float32 convolutions on a GPU keep all bits of their factors, as products do."""
    cudnn, before = torch.backends.cudnn, torch.backends.cudnn.allow_tf32
    cudnn.allow_tf32 = before and device.type != "cuda"
    try:
        yield
    finally:
        cudnn.allow_tf32 = before


def _compared(
    name: str,
    network: Network,
    makers: dict[str, Callable[[], Step]],
    conditions: Conditions,
    seconds: float,
    say: Callable[[str], None],
) -> Comparison:
    steps: dict[str, Step] = {}
    ready: dict[str, tuple[int, int]] = {}
    faults: list[str] = []
    for label, make in makers.items():
        try:
            step, warm, grown = _ready(make, conditions.device)
        except Exception as error:  # every library has exceptions of its own
            faults.append(f"{label} left out: {reason(error)}")
            say(faults[-1])
            continue
        steps[label], ready[label] = step, (warm, grown)
    if not steps:
        raise ValueError(
            f"{name}: no contender can run ({'; '.join(faults) or 'none was named'}). Expected one "
            "at least. Pass another --engine or --against."
        )
    times = rounds(steps, seconds=seconds, device=conditions.device)
    return Comparison(
        network=name,
        batch=conditions.batch,
        size=conditions.shape[0],
        width=conditions.shape[1],
        what="forward-backward" if conditions.backward else "forward",
        device=conditions.device.type,
        device_name=device_name(conditions.device),
        precision=conditions.precision,
        multiply_adds=_multiply_adds(network, conditions.shape),
        peak=peak_rate(device=conditions.device, dtype=conditions.dtype),
        contenders=tuple(
            Contender(name=label, seconds=tuple(times[label]), warm_up=warm, memory=grown)
            for label, (warm, grown) in ready.items()
        ),
        blocks=() if conditions.backward else tuple(block_shares(network, conditions)),
    )


def _ready(make: Callable[[], Step], device: torch.device) -> tuple[Step, int, int]:
    """Returns a step after its warm-up, how many steps that took, and the growth of the peak."""
    before = _start_memory(device)
    step = make()
    steps = warm_up(step, device=device)
    return step, steps, (peak_bytes(device) or 0) - before


def _start_memory(device: torch.device) -> int:
    """Returns the peak so far in bytes. That of a GPU begins again at what is allocated."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    return peak_bytes(device) or 0


def timed(step: Step, device: torch.device) -> float:
    """Returns the seconds of one step that begins on an idle device."""
    return seconds_of(step, [None], device)[0]


def warm_up(step: Step, most: int = WARM_UP, device: torch.device = CPU) -> int:
    """Runs a step until it is no longer 5 % faster than before, and returns how often."""
    last = float("inf")
    for number in range(1, most + 1):
        taken = timed(step, device)
        if number >= 3 and taken > 0.95 * last:
            return number
        last = min(last, taken)
    return most


def rounds(
    steps: dict[str, Step], *, seconds: float, device: torch.device = CPU
) -> dict[str, list[float]]:
    """Returns the seconds of each step in each round. The order changes from round to round."""
    times: dict[str, list[float]] = {label: [] for label in steps}
    labels = list(steps)
    begun = time.perf_counter()
    for number in range(ROUNDS):
        if number >= 5 and time.perf_counter() - begun > seconds:
            break
        turn = number % len(labels)
        for label in labels[turn:] + labels[:turn]:
            times[label].append(timed(steps[label], device))
    return times


def peak_rate(
    side: int | None = None,
    repeats: int = 5,
    *,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
) -> float:
    """Returns the multiply-adds per second of a product of two square matrices.

    Args:
        side: Rows of each; None is large enough for the device.
        repeats: The fastest counts.
        device: Where they are multiplied.
        dtype: Of the matrices.
    """
    side = side or (8192 if device.type == "cuda" else 1024)
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    taken = seconds_of(lambda: left @ right, [None] * repeats, device)
    return float(side**3 / min(taken))


def block_shares(network: Network, conditions: Conditions) -> list[tuple[str, float]]:
    """Returns the share of each top-level part in the time of an eager forward pass."""
    device = conditions.device
    network = copy.deepcopy(network).to(device, conditions.dtype)
    begun: dict[str, float] = {}
    taken: dict[str, list[float]] = {}

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    for part, module in network.named_children():

        def before(_: Any, __: Any, part: str = part) -> None:
            begun[part] = now()

        def after(_: Any, __: Any, ___: Any, part: str = part) -> None:
            taken.setdefault(part, []).append(now() - begun[part])

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)
    shape = (conditions.batch, network.plan.in_channels, *conditions.shape)
    images = torch.randn(shape, device=device, dtype=conditions.dtype)
    with torch.inference_mode():
        for _ in range(4):
            network(images)
    medians = {part: statistics.median(times[1:]) for part, times in taken.items()}
    whole = sum(medians.values())
    return [(part, share / whole) for part, share in medians.items()]


def _multiply_adds(network: Network, shape: tuple[int, int]) -> int:
    inside = {unit.path for unit in network.plan.units()}
    rows = measure(network.plan, *shape)
    return sum(row.multiply_adds for row in rows if row.path not in inside)
