"""Times several contenders in one run: engines of a network, and the same network elsewhere.

The contenders take turns, round after round, so that a change of the machine's speed meets all of
them, and each round gives one ratio for each pair. Warm-up ends when a contender stops getting
faster.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from forebear.engines.choose import TIE, TOLERANCES
from forebear.engines.compare import difference
from forebear.engines.engine import EngineName, missing_library
from forebear.engines.make import EngineMaker, reference
from forebear.network.create import create
from forebear.network.network import Network
from forebear.network.plan.cost import measure
from forebear.tasks.machine.device import peak_bytes

ROUNDS = 30  # at most
SECONDS = 20.0  # for all rounds of one comparison
WARM_UP = 10  # steps at most, for each contender
ENGINES: tuple[EngineName, ...] = ("torch", "compile", "onnxruntime", "openvino")
PEERS = ("torchvision", "timm", "keras")
# Names of the same networks in other libraries, by the end of forebear's name.
SAME = {
    "resnet_v1_50": "resnet50",
    "resnet_v1_101": "resnet101",
    "resnet_v1_152": "resnet152",
    "ResNet50": "resnet50",
    "ResNet101": "resnet101",
    "ResNet152": "resnet152",
    "resnet_v2_50": "resnetv2_50",
    "ResNet50V2": "resnetv2_50",
    "resnetv2_50": "resnetv2_50",
    "alexnet_v2": "alexnet",
}
KERAS = {"resnet50": "ResNet50", "resnet101": "ResNet101", "resnet152": "ResNet152",
         "resnetv2_50": "ResNet50V2"}  # fmt: skip

Step = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """The figures of one contender."""

    name: str
    seconds: tuple[float, ...]  # of each round
    warm_up: int  # steps before
    memory: int  # bytes by which the largest memory of the process grew while it was made and ran
    fault: str = ""  # why it did not run

    def quantile(self, share: float) -> float:
        """Returns a quantile of the seconds; nan without any."""
        return float(np.quantile(self.seconds, share)) if self.seconds else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All contenders at one batch size, the first one first."""

    network: str
    batch: int
    size: int
    what: str  # "forward" or "forward-backward"
    multiply_adds: int  # per image, forward
    peak: float  # multiply-adds per second of a matrix product in float32
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
    size: int | None = None,
    backward: bool = False,
    engines: Sequence[EngineName] = ("torch",),
    peers: Sequence[str] = (),
    seconds: float = SECONDS,
    say: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Times a network of forebear's by its engines, and the same network of other libraries.

    Args:
        name: Of a published network.
        batch: Images at a time.
        size: Input size in pixels; None is the published one.
        backward: Whether the steps are those of training, from the images to all gradients. Only
            PyTorch and the peers on it can do that.
        engines: Of forebear's.
        peers: torchvision, timm or keras.
        seconds: For all rounds together.
        say: Takes a line for each contender that cannot run.

    Raises:
        ValueError: The network is unknown, or no contender can run.
    """
    network = create(name).eval()
    side = size or network.preprocessing.size
    makers: list[tuple[str, Callable[[], Step]]] = []
    for engine in engines:
        makers.append((f"forebear {engine}", _engine(network, engine, batch, side, backward)))
    for peer in peers:
        makers.append((peer, _peer(peer, name, batch, side, backward)))
    steps: dict[str, Step] = {}
    grown: dict[str, int] = {}
    faults: dict[str, str] = {}
    warm: dict[str, int] = {}
    for label, make in makers:
        before = _largest()
        try:
            steps[label] = make()
            warm[label] = warm_up(steps[label])
        except Exception as error:  # every library has exceptions of its own
            faults[label] = str(error)
            steps.pop(label, None)
            say(f"{label} left out: {error}")
            continue
        grown[label] = _largest() - before
    if not steps:
        raise ValueError(
            f"{name}: no contender can run ({'; '.join(faults.values())}). Expected one at least. "
            "Pass another --engine."
        )
    times = rounds(steps, seconds=seconds)
    return Comparison(
        network=name,
        batch=batch,
        size=side,
        what="forward-backward" if backward else "forward",
        multiply_adds=_multiply_adds(network, side),
        peak=peak_rate(),
        contenders=tuple(
            Contender(
                name=label,
                seconds=tuple(times[label]),
                warm_up=warm[label],
                memory=grown[label],
            )
            for label in steps
        ),
        blocks=() if backward else tuple(block_shares(network, batch, side)),
    )


def warm_up(step: Step, most: int = WARM_UP) -> int:
    """Runs a step until it is no longer 5 % faster than before, and returns how often."""
    last = float("inf")
    for number in range(1, most + 1):
        begun = time.perf_counter()
        step()
        taken = time.perf_counter() - begun
        if number >= 3 and taken > 0.95 * last:
            return number
        last = min(last, taken)
    return most


def rounds(steps: dict[str, Step], *, seconds: float) -> dict[str, list[float]]:
    """Returns the seconds of each step in each round. The order changes from round to round."""
    times: dict[str, list[float]] = {label: [] for label in steps}
    labels = list(steps)
    begun = time.perf_counter()
    for number in range(ROUNDS):
        if number >= 5 and time.perf_counter() - begun > seconds:
            break
        turn = number % len(labels)
        for label in labels[turn:] + labels[:turn]:
            start = time.perf_counter()
            steps[label]()
            times[label].append(time.perf_counter() - start)
    return times


def peak_rate(side: int = 1024, repeats: int = 5) -> float:
    """Returns the multiply-adds per second of a product of two square matrices in float32."""
    left, right = torch.randn(side, side), torch.randn(side, side)
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        left @ right
        taken.append(time.perf_counter() - start)
    return float(side**3 / min(taken))


def block_shares(network: Network, batch: int, side: int) -> list[tuple[str, float]]:
    """Returns the share of each top-level part in the time of an eager forward pass."""
    begun: dict[str, float] = {}
    taken: dict[str, list[float]] = {}
    hooks = []
    for part, module in network.named_children():

        def before(_: Any, __: Any, part: str = part) -> None:
            begun[part] = time.perf_counter()

        def after(_: Any, __: Any, ___: Any, part: str = part) -> None:
            taken.setdefault(part, []).append(time.perf_counter() - begun[part])

        hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    images = torch.randn(batch, network.plan.in_channels, side, side)
    try:
        with torch.inference_mode():
            for _ in range(4):
                network(images)
    finally:
        for hook in hooks:
            hook.remove()
    medians = {part: statistics.median(times[1:]) for part, times in taken.items()}
    whole = sum(medians.values())
    return [(part, share / whole) for part, share in medians.items()]


def _engine(
    network: Network, engine: EngineName, batch: int, side: int, backward: bool
) -> Callable[[], Step]:
    def make() -> Step:
        missing = missing_library(engine)
        if missing:
            raise ValueError(missing)
        if backward:
            if engine not in ("torch", "compile"):
                raise ValueError(f"{engine} has no backward pass")
            return _training(
                network, batch, side, compiled=engine == "compile",
                channels=network.plan.in_channels, classes=network.plan.num_classes or 1,
            )  # fmt: skip
        draws = np.random.default_rng(0)
        shape = (batch, side, side, network.preprocessing.channels)
        pixels: NDArray[np.uint8] = draws.integers(0, 256, shape, np.uint8)
        sized = _sized(network, side)
        given, wanted = reference(sized)
        with EngineMaker(sized, "fp32") as maker:
            run = maker.make(engine)
            apart = difference(run(given), wanted, TIE)
        if not apart.within(*TOLERANCES["fp32"]):
            raise ValueError(f"its logits differ by {apart.largest:.1e} of the largest logit")
        return lambda: run(pixels)

    return make


def _sized(network: Network, side: int) -> Network:
    import copy
    from dataclasses import replace

    if side == network.preprocessing.size:
        return network
    found = copy.copy(network)
    rule = replace(network.preprocessing, size=side, side=side, resize="square")
    found.card = replace(network.card, preprocessing=rule)
    return found


def _training(
    model: Any,
    batch: int,
    side: int,
    *,
    compiled: bool = False,
    channels: int = 3,
    classes: int = 1000,
) -> Step:
    import copy

    model = copy.deepcopy(model).train().to(memory_format=torch.channels_last)
    run = torch.compile(model) if compiled else model
    images = torch.randn(batch, channels, side, side)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(classes, (batch,))

    def step() -> None:
        F.cross_entropy(run(images), labels).backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)

    return step


def _peer(peer: str, name: str, batch: int, side: int, backward: bool) -> Callable[[], Step]:
    last = name.rpartition("/")[2]
    same = SAME.get(last, last)

    def make() -> Step:
        module = "keras" if peer == "keras" else peer
        if importlib.util.find_spec(module) is None:
            raise ValueError(f"{peer} is not installed; run pip install {peer}")
        if peer == "keras":
            return _keras(same, batch, side, backward)
        model = _model_of(peer, same)
        if backward:
            return _training(model, batch, side)
        model = model.eval().to(memory_format=torch.channels_last)
        images = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)

        def step() -> None:
            with torch.inference_mode():
                model(images)

        return step

    return make


def _model_of(peer: str, same: str) -> Any:
    if peer == "timm":
        import timm

        return timm.create_model(same)
    for operator in ("nms", "qnms"):  # torchvision without its own operators
        with_schema = f"torchvision::{operator}"
        try:
            torch.library.define(with_schema, "(Tensor a, Tensor b, float c) -> Tensor")
        except RuntimeError:
            continue  # they are there
    import torchvision

    return getattr(torchvision.models, same)(weights=None)


def _keras(same: str, batch: int, side: int, backward: bool) -> Step:
    import keras

    if same not in KERAS or backward:
        raise ValueError(f"keras.applications has no {same} to compare with")
    model = getattr(keras.applications, KERAS[same])(weights=None)
    images = np.random.default_rng(0).standard_normal((batch, side, side, 3)).astype(np.float32)
    model.predict(images, verbose=0)
    return lambda: model.predict_on_batch(images)


def _multiply_adds(network: Network, side: int) -> int:
    inside = {unit.path for unit in network.plan.units()}
    rows = measure(network.plan, side)
    return sum(row.multiply_adds for row in rows if row.path not in inside)


def _largest() -> int:
    """Returns the largest memory of the process so far, in bytes."""
    return peak_bytes(torch.device("cpu")) or 0
