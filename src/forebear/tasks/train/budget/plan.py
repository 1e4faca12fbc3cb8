"""What fits into a budget: the input size, the batch, the epochs and the images to evaluate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from forebear.network.plan.cost import smallest_side
from forebear.network.plan.plan import Plan
from forebear.tasks.train.budget.progress import FINISH
from forebear.tasks.train.budget.timing import StepTimes
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.resolve import PHOTOGRAPH, lengthened

STRIDE = 32  # pixels: the stride of an ImageNet network; planned sizes are multiples of it
ENOUGH = 2.1  # passes over the images; if fewer fit, a smaller input size is planned
BEFORE = 0.15  # fraction of a budget for reading, timing and planning together
TIMING = 0.05  # fraction of a budget for timing
EVALUATION = 0.25  # largest fraction of a budget to evaluate the whole validation set
PART = 0.125  # fraction to evaluate a part of it, if the whole would take longer
LEAST_PART = 100  # images to evaluate at least, if they take no more than EVALUATION
STEPS = 100  # steps that a run should have; sizes below PHOTOGRAPH are planned for them
FEWEST = 40  # steps below which the batch becomes smaller: one is then 2.5 % of the run
HARDLY = 20  # steps below which sizes under LOWEST are planned
LOWEST = 64  # pixels
PROBE = 16  # images of the first step that is timed
SHORT = 30.0  # seconds; up to this, a budget may be too short to train at all


@dataclass(frozen=True, slots=True)
class Allowance:
    """The deadlines of what comes before the training."""

    budget: float  # seconds
    started: float  # time.perf_counter() at the start of the run
    planned: float = field(default_factory=time.perf_counter)  # when timing may begin

    @property
    def ready(self) -> float:
        """When the training should begin."""
        return self.started + BEFORE * self.budget

    @property
    def timed(self) -> float:
        """When the timing of steps ends."""
        return min(self.planned + TIMING * self.budget, self.ready)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The input size and the batch for a budget on this machine."""

    size: int  # pixels
    batch: int  # images per step
    line: str = ""  # says what was chosen and why; empty if nothing was


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """The images to train on and to evaluate, and the time for both."""

    train: int  # images
    evaluated: int  # images that are evaluated after the training
    budget: float  # seconds, over all processes

    def for_training(self, evaluation: float) -> float:
        """Returns the seconds left for steps, from those that evaluating every image takes."""
        part = evaluation if evaluation <= EVALUATION * self.budget else PART * self.budget
        left = (1 - BEFORE) * self.budget - part - FINISH
        return max(left, 0.3 * self.budget)


def fit_to_budget(
    asked: Recipe, times: StepTimes, amount: Amount, until: float, *, trained: bool
) -> Fitted:
    """Returns the input size and the batch for which a budget has enough steps and passes.

    Only what neither the user nor the recipe has set is planned. A trained network keeps both.

    Args:
        asked: The recipe with a size and a batch of 0 where they are not set.
        times: Times the steps of the resolved recipe, whose size and batch are the first choice.
        amount: Images and seconds.
        until: time.perf_counter() at which the timing of steps ends.
        trained: Whether the network starts from a checkpoint.
    """
    if trained or (asked.size and asked.batch):
        return Fitted(size=times.recipe.size, batch=times.recipe.batch)
    recipe = times.recipe
    batch = recipe.batch
    shrinks = not asked.size and recipe.crop == "resized"
    sizes = tuple(_sizes(recipe.size, times.network.plan)) if shrinks else (recipe.size,)
    small = next((size for size in reversed(sizes) if size >= LOWEST), sizes[0])
    known = times.learn(batch, small, 0.0) or times.probe(min(PROBE, batch), small, until)
    if not known:  # images become smaller while training, if need be
        sizes = tuple(size for size in sizes if size >= PHOTOGRAPH) or sizes[:1]

    def left(size: int) -> float:
        return amount.for_training(evaluation(times, batch, size, amount.evaluated))

    def choose() -> int:
        return fitting_size(
            sizes,
            passes=lambda size: left(size) * batch / (times.seconds(batch, size) * amount.train),
            steps=lambda size: left(size) / times.seconds(batch, size),
        )

    size = choose()
    for _ in range(3):  # a step that was measured can lead to another choice
        if not times.learn(batch, size, until):
            break
        size = choose()
    if not asked.batch and known:
        batch = _batch(batch, size, times, amount, left(size), until)
    seconds = times.seconds(batch, size)
    steps = left(size) / seconds
    how = "takes about" if known else "was not timed, for want of time; it takes perhaps"
    line = (
        f"{size} x {size} pixels and {batch} images a step were chosen for the budget: a step "
        f"{how} {seconds:.2g} s, so that about {steps:,.0f} steps fit"
    )
    return Fitted(size=size, batch=batch, line=line)


def evaluation(times: StepTimes, batch: int, size: int, images: int) -> float:
    """Estimates the seconds to evaluate `images` images from the time of a step.

    A forward pass is a third of a step's work on images. Decoding comes on top.
    """
    optimizer = times.operations.of_optimizer / times.operations.of_step(batch, size)
    return images * times.seconds(batch, size) / batch * (1 - optimizer) * 0.45


def _sizes(size: int, plan: Plan) -> Iterator[int]:
    """Yields the sizes to choose from, largest first: `size`, then multiples of 32 below it."""
    least = smallest_side(plan)
    yield size
    for smaller in range((size - 1) // STRIDE * STRIDE, 0, -STRIDE):
        if smaller >= least:
            yield smaller


def fitting_size(
    sizes: Sequence[int], *, passes: Callable[[int], float], steps: Callable[[int], float]
) -> int:
    """Returns the largest size with 2.1 passes over the images, else 96; less for very few steps.

    More passes over smaller images are worth more than fewer passes over larger ones: on
    Imagenette, four times the pixels give 1 to 2 points, and four times the passes give 6
    (github.com/fastai/imagenette). This holds up to a point. ResNet-18 on Imagenette, in 3 minutes
    on two cores, reached 80.4 % at 160 pixels (2.2 passes) and 82.9 % at 128 (3.2 passes); in 6
    minutes on one core it reached 83.1 % at 128 (3.0 passes) and 82.6 % at 96 (4.7 passes).

    Args:
        sizes: Sizes to choose from in pixels, largest first.
        passes: Returns the passes over the images that fit at a size.
        steps: Returns the steps that fit at a size.
    """
    large = [size for size in sizes if size >= PHOTOGRAPH] or list(sizes[:1])
    for size in large:
        if passes(size) >= ENOUGH:
            return size
    best = large[-1]
    for size in sizes:
        few = steps(best) < (STEPS if size >= LOWEST else HARDLY)
        if size < best and few and steps(size) >= 1.2 * steps(best):
            best = size
    return best


def _batch(
    batch: int, size: int, times: StepTimes, amount: Amount, left: float, until: float
) -> int:
    """Returns the batch, doubled or halved as needed."""

    def seconds(images: int) -> float:
        if images <= batch or times.learn(images, size, until):
            return times.seconds(images, size)
        return math.inf  # there is no time to measure it

    larger = fitting_batch(batch, amount.train, amount.budget, seconds)
    return larger if larger > batch else smaller_batch(batch, left, seconds)


def fitting_batch(batch: int, count: int, budget: float, seconds: Callable[[int], float]) -> int:
    """Returns the batch size, doubled as long as that makes each image a tenth cheaper.

    An epoch keeps at least 20 steps, and the run at least 1,000.

    Args:
        batch: Images per step to start from.
        count: Number of training images.
        budget: Seconds of the run.
        seconds: Returns the seconds of a step with that many images; infinite if they do not fit
            in memory, or if there is no time to measure it.
    """
    while 40 * batch <= count and 2000 * seconds(batch) <= budget:
        if seconds(2 * batch) > 1.8 * seconds(batch):
            break
        batch *= 2
    return batch


def smaller_batch(batch: int, left: float, seconds: Callable[[int], float]) -> int:
    """Returns the batch size, halved as long as steps are few and that gives a third more.

    Args:
        batch: Images per step to start from.
        left: Seconds for training.
        seconds: Returns the seconds of a step with that many images.
    """
    while batch >= 32 and left / seconds(batch) < FEWEST:
        if seconds(batch) < 1.35 * seconds(batch // 2):
            break
        batch //= 2
    return batch


def plan_budget(recipe: Recipe, times: StepTimes, left: float, steps: int) -> Recipe:
    """Returns the recipe for a budget, planned from the time of a step on this machine.

    If fewer than forty passes fit, the input size grows from three quarters of its final value
    (progressive resizing, as in FFCV). The running statistics of norms need some steps to follow a
    change of size, so runs with few steps keep one size.

    Args:
        recipe: Resolved, with the batch of one process.
        times: Times its steps.
        left: Seconds for training.
        steps: Steps in an epoch.
    """
    passes = left / (times.seconds(recipe.batch, recipe.size) * steps)
    small = recipe.size < PHOTOGRAPH or recipe.crop != "resized" or recipe.width
    if passes * steps >= STEPS and not small and not recipe.size_from and passes < 40:
        start = round(0.75 * recipe.size / STRIDE) * STRIDE
        start = min(recipe.size, max(start, smallest_side(times.network.plan)))
        recipe = replace(recipe, size_from=start, growth=(0.0, 0.8))
        passes /= 0.8  # of the pixels, on average
    return lengthened(recipe, max(1, round(passes)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """The number of images to evaluate within a budget, and the seconds that this takes."""

    images: int
    seconds: float


def evaluated(count: int, image: float, budget: float) -> Evaluated:
    """Returns all images, or if they take over a quarter of the budget, those for an eighth of it.

    Args:
        count: Number of all images.
        image: Seconds per image.
        budget: Seconds of the run.
    """
    if count * image <= EVALUATION * budget:
        return Evaluated(images=count, seconds=count * image)
    part = int(PART * budget / image)
    if part < LEAST_PART:
        part = min(LEAST_PART, int(EVALUATION * budget / image))
    part = min(max(part, 1), count)
    return Evaluated(images=part, seconds=part * image)
