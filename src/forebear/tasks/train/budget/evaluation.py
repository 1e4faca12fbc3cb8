"""Evaluations of a run on a budget: how many images to take, and when to end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from forebear.data.loader import Batch, Loader
from forebear.tasks.evaluation_batches import InOrder
from forebear.tasks.train.budget.deadlines import Deadlines
from forebear.tasks.train.budget.plan import evaluated
from forebear.tasks.train.input_pipeline import MIN_EVALUATION_BATCH
from forebear.tasks.train.out_of_memory import explain_evaluation
from forebear.tasks.train.setup import RunSetup

BATCHES = 4  # batches to time; the fastest counts, as the first one warms up
IMAGES = 32  # images per timed batch


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPlan:
    """How many images a run on a budget evaluates, and how long that takes."""

    images: int  # of the validation set, in each evaluation
    seconds: float  # that they take
    test_images: int  # of the test set, once at the end
    test_seconds: float
    seconds_per_image: float


def plan_evaluation(setup: RunSetup, validation: Loader, deadlines: Deadlines) -> EvaluationPlan:
    """Times some evaluations, and returns how many images can be evaluated within the budget.

    Args:
        setup: Of the run; its network is on the device.
        validation: The whole validation set.
        deadlines: Of the run.

    Raises:
        RunError: A batch does not fit in memory.
    """
    precision, world = setup.resolved.recipe.precision, setup.world
    seconds = seconds_of_image(setup.network, validation, precision, deadlines.ready)
    seconds = max(world.all_reduce_max([seconds])) / world.size
    count, tests = len(setup.data.val), 0 if setup.test is None else len(setup.test.val)
    left = deadlines.left * count / max(count + tests, 1)

    def plan() -> EvaluationPlan:
        part = evaluated(count, seconds, left)
        test = evaluated(tests, seconds, deadlines.left - left)
        return EvaluationPlan(
            images=part.images,
            seconds=part.seconds,
            test_images=test.images,
            test_seconds=test.seconds,
            seconds_per_image=seconds,
        )

    return world.on_rank0(plan)


@torch.inference_mode()
def seconds_of_image(network: nn.Module, batches: Loader, precision: str, until: float) -> float:
    """Times the evaluation of an image, including its decoding if it is not in memory.

    Args:
        network: On the device of the batches; it is left in evaluation mode.
        batches: Their `shown` says which images are taken first.
        precision: fp32 or bf16.
        until: time.perf_counter() from which no further batch is taken.

    Returns:
        Seconds per image; 0.0 if there are no images.

    Raises:
        RunError: A batch does not fit in memory.
    """
    order = batches.places[: BATCHES * IMAGES]
    if not len(order):
        return 0.0
    network.eval()
    image = math.inf
    for start in range(0, len(order), IMAGES):
        part = order[start : start + IMAGES]
        few = replace(batches, shown=part, batch=len(part), rank=0, ranks=1)
        started = time.perf_counter()
        with (
            explain_evaluation(network, few, precision, least=MIN_EVALUATION_BATCH),
            torch.autocast(batches.device.type, torch.bfloat16, precision == "bf16"),
        ):
            for images, _ in few.in_order():
                float(network(images).sum())  # waits for the device
        taken = time.perf_counter() - started
        image = min(image, taken / len(part))
        if time.perf_counter() + taken > until:
            break
    return image


@dataclass(frozen=True, slots=True)
class UntilTime:
    """Yields the same batches, but none after a deadline except the first one."""

    batches: InOrder
    until: float  # deadline on the time scale of `clock`
    clock: Callable[[], float] = time.perf_counter

    @property
    def device(self) -> torch.device:
        """Device of the batches."""
        return self.batches.device

    def in_order(self) -> Iterator[Batch]:
        """Yields network inputs and labels."""
        for number, batch in enumerate(self.batches.in_order()):
            if number and self.clock() >= self.until:
                return
            yield batch
