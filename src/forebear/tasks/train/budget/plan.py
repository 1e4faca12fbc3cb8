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

STRIDE = 32  # pixels: the product of an ImageNet network's strides, in which sides are planned
ENOUGH = 2.1  # passes over the images, for which a budget makes them smaller
BEFORE = 0.15  # share of a budget that reading, timing and planning may take together
TIMING = 0.05  # of these, for timing
EVALUATION = 0.25  # share of a budget that evaluating the whole validation set may take
PART = 0.125  # share that evaluating a part of it takes, where the whole would take longer
LEAST_PART = 100  # images that are evaluated, if they take no more than EVALUATION
STEPS = 100  # that a run should have, for which images become smaller than photographs need
FEWEST = 40  # for which the batch becomes smaller too: a step is then 2.5 % of the run
HARDLY = 20  # for which photographs become smaller than 64 pixels
LOWEST = 64  # pixels
PROBE = 16  # images in the first passes that are timed
SHORT = 30.0  # seconds, up to which a budget can be too short to train at all


@dataclass(frozen=True, slots=True)
class Allowance:
    """The points in time until which the parts before the training may last."""

    budget: float  # seconds
    started: float  # time.perf_counter() at the start of the budget
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
    """The size and the batch that suit a budget on this machine."""

    size: int  # pixels
    batch: int  # images per step
    line: str = ""  # what was chosen and why; "": nothing was


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much there is to train on and to evaluate, and the time for both."""

    train: int  # images
    evaluated: int  # images, of all evaluations after the training
    budget: float  # seconds, of all processes together

    def for_training(self, evaluation: float) -> float:
        """Seconds that are left for steps, by the seconds that evaluating every image takes."""
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
    """Seconds that so many images take to be evaluated, estimated from the steps.

    A forward pass is a third of a step's work on images; decoding comes on top.
    """
    share = times.operations.of_optimizer / times.operations.of_step(batch, size)
    return images * times.seconds(batch, size) / batch * (1 - share) * 0.45


def _sizes(size: int, plan: Plan) -> Iterator[int]:
    """Sizes that may be chosen, falling: the given one, and multiples of 32 below."""
    least = smallest_side(plan)
    yield size
    for smaller in range((size - 1) // STRIDE * STRIDE, 0, -STRIDE):
        if smaller >= least:
            yield smaller


def fitting_size(
    sizes: Sequence[int], *, passes: Callable[[int], float], steps: Callable[[int], float]
) -> int:
    """The largest size that leaves 2.1 passes over the images, else 96; less for very few steps.

    Smaller photographs more often come before larger ones more seldom: on Imagenette four times
    the pixels are worth 1 to 2 points, and four times the passes 6 (github.com/fastai/imagenette).
    Only up to a point. ResNet-18 there, in 3 minutes of two processors: 160 pixels 80.4 %, 128
    82.9; in 6 of one: 128 83.1, 96 82.6 (2.2, 3.2, 3.0 and 4.7 passes, as the pictures grow).

    Args:
        sizes: to choose from, in pixels, falling.
        passes: over the images that fit at a size.
        steps: that fit at a size.
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
    """The batch, doubled or halved."""

    def seconds(images: int) -> float:
        if images <= batch or times.learn(images, size, until):
            return times.seconds(images, size)
        return math.inf  # there is no time to find out

    larger = fitting_batch(batch, amount.train, amount.budget, seconds)
    return larger if larger > batch else smaller_batch(batch, left, seconds)


def fitting_batch(batch: int, count: int, budget: float, seconds: Callable[[int], float]) -> int:
    """Images a step: doubled while that makes each a tenth cheaper, as it does on a GPU.

    A pass keeps 20 steps and the run 1,000.

    Args:
        batch: to begin with.
        count: of training images.
        budget: seconds of the run.
        seconds: of a step with so many images; infinite where they do not fit in memory, or there
            is no time to find out.
    """
    while 40 * batch <= count and 2000 * seconds(batch) <= budget:
        if seconds(2 * batch) > 1.8 * seconds(batch):
            break
        batch *= 2
    return batch


def smaller_batch(batch: int, left: float, seconds: Callable[[int], float]) -> int:
    """Images a step: halved while the run has few steps and that gives a third more of them.

    Args:
        batch: to begin with.
        left: seconds for training.
        seconds: of a step with so many images.
    """
    while batch >= 32 and left / seconds(batch) < FEWEST:
        if seconds(batch) < 1.35 * seconds(batch // 2):
            break
        batch //= 2
    return batch


def plan_budget(recipe: Recipe, times: StepTimes, left: float, steps: int) -> Recipe:
    """The recipe for a budget of time, planned by the seconds of a step on this machine.

    Few passes are better spent on small pictures first: where fewer than forty fit, random parts
    of photographs grow from three quarters of their side (progressive resizing, as FFCV's). The
    running means of the norms need some steps to follow, so that runs of few steps keep one size.

    Args:
        recipe: settled, with the batch of one process.
        times: of its steps.
        left: seconds for training.
        steps: in an epoch.
    """
    passes = left / (times.seconds(recipe.batch, recipe.size) * steps)
    small = recipe.size < PHOTOGRAPH or recipe.crop != "resized"
    if passes * steps >= STEPS and not small and not recipe.size_from and passes < 40:
        start = round(0.75 * recipe.size / STRIDE) * STRIDE
        start = min(recipe.size, max(start, smallest_side(times.network.plan)))
        recipe = replace(recipe, size_from=start, growth=(0.0, 0.8))
        passes /= 0.8  # of the pixels, on average
    return lengthened(recipe, max(1, round(passes)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """The images that are evaluated within a budget, and the seconds that they take."""

    images: int
    seconds: float


def evaluated(count: int, image: float, budget: float) -> Evaluated:
    """All images, or as many as an eighth of the budget allows where they take over a quarter.

    Args:
        count: of all images.
        image: seconds that one takes.
        budget: seconds of the run.
    """
    if count * image <= EVALUATION * budget:
        return Evaluated(images=count, seconds=count * image)
    part = int(PART * budget / image)
    if part < LEAST_PART:
        part = min(LEAST_PART, int(EVALUATION * budget / image))
    part = min(max(part, 1), count)
    return Evaluated(images=part, seconds=part * image)
