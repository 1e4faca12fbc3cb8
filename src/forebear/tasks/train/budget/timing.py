"""The time of a training step at any batch and size: measured, remembered or estimated.

A few small steps are measured, if there is time for them. The time at other batches and sizes is
estimated from the multiply-adds of the network and of the optimizer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from forebear.errors import ran_out
from forebear.hardware import processor
from forebear.network.kernels.native import version
from forebear.network.network import Network
from forebear.network.plan.cost import measure, parameters
from forebear.network.plan.plan import Plan
from forebear.tables.files import dialect_to_dict, table_to_dict
from forebear.tasks.machine.device import device_name
from forebear.tasks.train.budget.step_timing import seconds_of_step
from forebear.tasks.train.budget.timing_cache import key_of, remember, remembered
from forebear.tasks.train.recipe import Recipe

EFFICIENCY = 0.5  # speed of a step, relative to matrix products
STEPS = 3  # steps that a measurement may cost: the first one warms up and counts twice
_PRODUCT = 0.03  # seconds to measure the speed of matrix products
_ARRAY = 20  # time of an optimizer per parameter, in multiply-adds


class Measure(Protocol):
    """A function like `seconds_of_step`."""

    def __call__(
        self, recipe: Recipe, network: Network, device: torch.device, *, until: float
    ) -> float:
        """Returns the seconds of a step of the recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """Counts the multiply-adds of a training step."""

    plan: Plan
    recipe: Recipe

    def of_step(self, batch: int, size: int) -> float:
        """Returns those of the forward and backward pass, and of the optimizer."""
        return self.of_images(batch, size) + self.of_optimizer

    def of_images(self, batch: int, size: int) -> float:
        """Returns those of the forward and the backward pass."""
        return 3.0 * batch * self.of_image(size)

    def of_image(self, size: int) -> float:
        """Returns those of one image forward; of the logits only, if only they learn."""
        rows = [
            row for row in measure(self.plan, size, self.recipe.width or None) if row.kind != "unit"
        ]
        if self.recipe.head_only:
            rows = [row for row in rows if row.kind == "logits"]
        return float(sum(row.multiply_adds for row in rows))

    @property
    def of_optimizer(self) -> float:
        """Those of the optimizer, which do not depend on the batch.

        Muon makes each filter's matrix [m, n] orthogonal, with 2 m^2 n + m^3 per iteration.
        """
        arrays = _ARRAY * float(parameters(self.plan)[0])
        if self.recipe.optimizer != "muon" or self.recipe.head_only:
            return arrays
        products = 0.0
        for layer in self.plan.layers():
            if layer.kind == "conv":
                inside = layer.in_channels // layer.groups * layer.kernel**2
                m, n = sorted((layer.channels, inside))
                products += 2.0 * m * m * n + m**3
        return arrays + self.recipe.newton_schulz_steps * products


class StepTimes:
    """The time of a step of one recipe and network on this machine."""

    def __init__(
        self,
        recipe: Recipe,
        network: Network,
        device: torch.device,
        *,
        measure: Measure = seconds_of_step,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Measures nothing yet.

        Args:
            recipe: Resolved; its batch and size do not matter.
            network: Copies of it take the steps.
            device: Where they take them.
            measure: Times steps.
            clock: Returns seconds, like `time.perf_counter`.
        """
        self.recipe, self.network, self.device = recipe, network, device
        self.measure, self.clock = measure, clock
        self.operations = Operations(plan=network.plan, recipe=recipe)
        self.known: dict[
            tuple[int, int], float
        ] = {}  # (batch, size): seconds; inf: not enough memory
        self.probed = 0.0  # multiply-adds per second, forward and backward; 0: not known
        self._rate = 0.0  # multiply-adds per second of the optimizer

    def seconds(self, batch: int, size: int) -> float:
        """Returns the seconds of a step: measured, or on the line through the two nearest measured.

        Infinite if the step was tried and did not fit in memory.
        """
        if (batch, size) in self.known:
            return self.known[batch, size]
        work = self.operations.of_step(batch, size)
        points = sorted(
            (self.operations.of_step(*key), seconds)
            for key, seconds in self.known.items()
            if math.isfinite(seconds)
        )
        if not points:
            images = self.operations.of_images(batch, size) / (self.probed or self.rate)
            return images + self.operations.of_optimizer / self.rate
        points = sorted(points, key=lambda point: abs(math.log(point[0] / work)))[:2]
        (near, seconds), (far, others) = points[0], points[-1]
        slope = (others - seconds) / (far - near) if far != near else 0.0
        if slope <= 0:
            return seconds * work / near
        return max(seconds + slope * (work - near), seconds * min(1.0, work / near))

    def probe(self, batch: int, size: int, until: float) -> bool:
        """Measures the forward and the backward pass only, which is quick for a small batch.

        The time of the optimizer, which does not depend on the batch, is then estimated.

        Returns:
            Whether there was time to measure.
        """
        images = self.operations.of_images(batch, size)
        if self.clock() + STEPS * images / self.rate <= until:
            plain = replace(self.recipe, optimizer="sgd", rescale=False, batch=batch, size=size)
            self.probed = images / self._measured(plain, until)
        return self.probed > 0

    def learn(self, batch: int, size: int, until: float) -> bool:
        """Measures a step if there is time and it is not known; returns whether it is known now."""
        if (batch, size) in self.known:
            return True
        name = self._name(batch, size)
        seconds = remembered(name)
        if seconds is None:
            if self.clock() + STEPS * self.seconds(batch, size) > until:
                return False
            seconds = self._measured(replace(self.recipe, batch=batch, size=size), until)
            if math.isfinite(seconds):
                remember(name, seconds)
        self.known[batch, size] = seconds
        return True

    @property
    def rate(self) -> float:
        """Multiply-adds per second that are assumed until more is known."""
        if not self._rate:
            half = self.recipe.precision == "bf16"
            dtype = torch.bfloat16 if half else torch.float32
            self._rate = EFFICIENCY * _rate_of_products(self.device, dtype)
        return self._rate

    def _measured(self, recipe: Recipe, until: float) -> float:
        """Returns the seconds of a step; infinite if it does not fit in memory."""
        try:
            return self.measure(recipe, self.network, self.device, until=until)
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return math.inf

    def _name(self, batch: int, size: int) -> str:
        machine = processor().key if self.device.type == "cpu" else device_name(self.device)
        recipe = self.recipe
        return key_of(
            "step",
            machine,
            torch.__version__,
            [torch.get_num_threads(), version()],
            table_to_dict(self.network.table),
            dialect_to_dict(self.network.dialect),
            [
                *((recipe.width,) if recipe.width else ()),
                batch,
                size,
                recipe.precision,
                recipe.accumulate,
                recipe.head_only,
            ],
            [
                recipe.optimizer,
                recipe.other_optimizer,
                recipe.newton_schulz_steps,
                recipe.rescale,
                recipe.ema,
            ],
        )


def _rate_of_products(device: torch.device, dtype: torch.dtype) -> float:
    """Measures the multiply-adds per second of a matrix product."""
    side = 512
    matrix = torch.ones(side, side, device=device, dtype=dtype)
    float((matrix @ matrix)[0, 0])
    started, count = time.perf_counter(), 0
    while not count or time.perf_counter() - started < _PRODUCT:
        float((matrix @ matrix)[0, 0])
        count += 1
    return float(count * side**3) / (time.perf_counter() - started)
