"""Chooses an engine by measurement.

Every installed engine answers the same images. An engine whose logits are too far from the
network's is left out. The fastest of the others is chosen, and the choice is kept for this machine,
these weights, this batch size and precision.

torch.compile is measured only if it is asked for by name: it compiles again in every process, which
takes longer than the other engines need for thousands of images.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib import metadata
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from forebear.engines.compare import difference
from forebear.engines.engine import Engine, EngineName, EnginePrecision, Pixels
from forebear.errors import WeightsError
from forebear.hardware import processor
from forebear.text import one_line, truncated

# Largest difference of a logit, relative to the largest logit, and the share of the images that
# must have the same class. Eager PyTorch in fp32 is the reference.
TOLERANCES: dict[EnginePrecision, tuple[float, float]] = {
    "fp32": (1e-4, 1.0),
    "bf16": (5e-2, 0.9),
    "int8": (2.5e-1, 0.8),
}
TIE = 1e-5  # of the largest logit: nearer logits may change places by rounding
SECONDS = 4.0  # for all rounds of the measurement
ROUNDS = 15
REST = 0.02  # seconds before each turn: idle threads of the engine before spin for a while
CALLS = 3  # timed calls of a turn with one image, after one that brings the weights into the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One engine's row."""

    engine: EngineName
    precision: EnginePrecision
    milliseconds: float  # median, per image; 0.0 if it did not run
    largest: float  # difference of a logit, relative to the largest logit
    same_class: int  # images with the same class
    images: int
    fault: str = ""  # why it cannot be chosen; "" if it can


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The engine that was chosen, and all that were measured."""

    engine: EngineName
    precision: EnginePrecision
    batch: int
    measured: str  # the day, as YYYY-MM-DD
    rows: tuple[Measured, ...]

    def line(self) -> str:
        """Returns which engine was chosen, and why, in one line."""
        ordered = sorted((row for row in self.rows if not row.fault), key=_speed)
        times = [f"{row.engine} {row.milliseconds:.3g} ms" for row in ordered]
        out = [f"{row.engine} left out: {row.fault}" for row in self.rows if row.fault]
        return (
            f"engine {self.engine}, {self.precision}: {', '.join(times)} per image at batch "
            f"{self.batch}, measured {self.measured}{''.join(f'; {one}' for one in out)}"
        )


def _speed(row: Measured) -> float:
    return row.milliseconds


def choice_key(precision: EnginePrecision, batch: int, threads: int | None) -> str:
    """Returns the key of a choice on this machine, with these versions of the engines."""
    versions = {name: _version(name) for name in ("torch", "onnxruntime", "openvino")}
    facts = [precision, batch, threads, processor().key, versions]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def parse_choice(data: object) -> Choice:
    """Returns a choice from a cache file.

    Raises:
        ValueError: It is not one.
    """
    try:
        assert isinstance(data, dict)
        rows = tuple(Measured(**row) for row in data["rows"])
        choice = Choice(**{**data, "rows": rows})
        assert choice.engine in get_args(EngineName)
        assert choice.precision in get_args(EnginePrecision)
        assert any(row.engine == choice.engine and not row.fault for row in rows)
        assert all(isinstance(row.milliseconds, float) for row in rows)
        assert isinstance(choice.batch, int)
        assert isinstance(choice.measured, str)
    except (AssertionError, KeyError, TypeError) as error:
        raise ValueError(f"not a choice of an engine ({error})") from error
    return choice


def choice_to_dict(choice: Choice) -> dict[str, Any]:
    """Returns a choice as data for JSON."""
    return asdict(choice)


class Maker(Protocol):
    """Makes engines, see `EngineMaker`."""

    def make(self, name: EngineName) -> Engine:
        """Returns an engine."""


def choose(
    maker: Maker,
    names: Sequence[EngineName],
    pixels: Pixels,
    wanted: NDArray[np.float32],
    *,
    batch: int,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """Measures engines in turn, so that a change of the machine's speed meets all of them.

    Args:
        maker: Makes each engine; all have the same precision.
        names: Of the engines.
        pixels: Images to compare on, [N, H, W, C].
        wanted: The network's own logits for them, [N, classes].
        batch: Images at a time that speed is measured for.
        seconds: For all rounds together.
        clock: Gives seconds.

    Raises:
        WeightsError: No engine gives the network's results.
    """
    engines: dict[EngineName, Engine] = {}
    faults: dict[EngineName, Measured] = {}
    rows: dict[EngineName, Measured] = {}
    for name in names:
        try:
            engine = maker.make(name)
            row = _compared(name, engine, pixels, wanted)
        except Exception as error:  # every runtime has exceptions of its own
            faults[name] = _failed(name, truncated(one_line(error), 120))
            continue
        if row.fault:
            faults[name] = row
        else:
            engines[name], rows[name] = engine, row
    if not engines:
        faulty = "; ".join(f"{name}: {row.fault}" for name, row in faults.items())
        raise WeightsError(
            f"no engine gives the network's results ({faulty}). Expected one at least. Run "
            "forebear doctor, or pass --engine torch."
        )
    given = np.resize(pixels, (batch, *pixels.shape[1:]))
    times = measure(engines, given, seconds=seconds, clock=clock)
    measured = [
        _timed(rows[name], statistics.median(taken) / batch * 1e3) for name, taken in times.items()
    ]
    best = min(measured, key=_speed)
    return Choice(
        engine=best.engine,
        precision=best.precision,
        batch=batch,
        measured=f"{date.today():%Y-%m-%d}",
        rows=(*measured, *faults.values()),
    )


def measure(
    engines: Mapping[EngineName, Engine],
    pixels: Pixels,
    *,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[EngineName, Sequence[float]]:
    """Returns the seconds that each engine took for a batch, in rounds, after one to warm up.

    With one image at a time, fetching the weights, which the engine before has displaced from the
    processor's cache, would be a third of the time. So each turn begins with a call that does not
    count, as in a series of images.
    """
    taken: dict[EngineName, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine(pixels)
    begun = clock()
    for done in range(ROUNDS):
        if done >= 3 and clock() - begun > seconds:
            break
        for name, engine in engines.items():
            time.sleep(REST)
            if len(pixels) > 1:
                taken[name].append(_seconds(engine, pixels, clock))
                continue
            engine(pixels)
            calls = [_seconds(engine, pixels, clock) for _ in range(CALLS)]
            taken[name].append(statistics.median(calls))
    return dict(taken)


def _seconds(engine: Engine, pixels: Pixels, clock: Callable[[], float]) -> float:
    start = clock()
    engine(pixels)
    return clock() - start


def _failed(name: EngineName, fault: str) -> Measured:
    return Measured(
        engine=name, precision="fp32", milliseconds=0.0, largest=0.0, same_class=0, images=0,
        fault=fault,
    )  # fmt: skip


def _compared(
    name: EngineName, engine: Engine, pixels: Pixels, wanted: NDArray[np.float32]
) -> Measured:
    apart = difference(engine(pixels), wanted, TIE)
    most, least = TOLERANCES[engine.precision]
    fits = apart.within(most, least)
    return Measured(
        engine=name,
        precision=engine.precision,
        milliseconds=0.0,
        largest=apart.largest if np.isfinite(apart.largest) else 1e30,
        same_class=apart.same_class,
        images=apart.images,
        fault=""
        if fits
        else f"its logits differ by {apart.largest:.1e} of the largest logit, and "
        f"{apart.same_class} of {apart.images} images have the same class",
    )


def _timed(row: Measured, milliseconds: float) -> Measured:
    return Measured(**{**asdict(row), "milliseconds": milliseconds})
