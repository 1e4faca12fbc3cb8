"""The schedule of the learning rate, as a fraction of its peak, and that of the input size."""

from __future__ import annotations

import math

from forebear.tasks.train.recipe import Recipe


def rate(recipe: Recipe, progress: float, length: float) -> float:
    """Returns the fraction of the peak learning rate at a point of the run.

    The k-th of N steps, counted from 0, has the progress (k + 1) / (N + 1). A milestone of m steps
    thus takes effect at k = m, and the learning rate of a triangle is 0 in no step.

    - step: multiplied by gamma at each milestone (He et al. 2015, section 4.2).
    - triangular: linear decay after the warm-up (Page, How to train your ResNet, 2018).
    - cosine: half a cosine after the warm-up (Loshchilov and Hutter 2017, without restarts).
    - onecycle: as cosine, with half a cosine in place of the linear warm-up (Smith 2018, in
      fastai's form; the momentum is constant).

    Args:
        recipe: Its warm-up and milestones are epochs, or steps if it gives iterations.
        progress: Fraction of the run, 0 to 1.
        length: Of the run, in the recipe's unit.
    """
    if progress >= 1:
        return _falling(recipe, length, length)
    time = progress * length
    if time >= recipe.warmup:
        return _falling(recipe, time, length)
    risen = time / recipe.warmup
    if recipe.schedule == "onecycle":
        risen = _wave(risen)
    fraction = recipe.warmup_from + (1 - recipe.warmup_from) * risen
    return fraction * (_falling(recipe, time, length) if recipe.schedule == "step" else 1.0)


def head_part(recipe: Recipe) -> float:
    """Returns the fraction of the run in which the logits alone learn, at its start."""
    return recipe.head_epochs / recipe.length


def share_of_peak(recipe: Recipe, progress: float) -> float:
    """Returns the fraction of the peak: 1 while the logits alone learn, then the schedule.

    Args:
        recipe: With its length known.
        progress: Fraction of the run, 0 to 1.
    """
    begun = head_part(recipe)
    if progress < begun:
        return 1.0
    return rate(recipe, (progress - begun) / (1 - begun), recipe.length - recipe.head_epochs)


def _falling(recipe: Recipe, time: float, length: float) -> float:
    """Returns the fraction after the warm-up; `time` and `length` are in the recipe's unit."""
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "step":
        return recipe.gamma ** sum(time >= milestone for milestone in recipe.milestones)
    rest = length - recipe.warmup
    fallen = (time - recipe.warmup) / rest if rest > 0 else 1.0
    if recipe.schedule != "triangular":
        fallen = _wave(fallen)
    return 1 + (recipe.final_lr_scale - 1) * fallen


def _wave(place: float) -> float:
    """Maps 0..1 to 0..1 along half a cosine."""
    return (1 - math.cos(math.pi * place)) / 2


def side(recipe: Recipe, progress: float) -> int:
    """Returns the input size in pixels at a point of the run; it may grow by 32, 16 or 4.

    FFCV's ImageNet recipe grows it from epoch to epoch (libffcv/ffcv-imagenet, train_imagenet.py).

    Args:
        recipe: Resolved.
        progress: Fraction of the run, 0 to 1.
    """
    if not recipe.size_from:
        return recipe.size
    first, last = recipe.growth
    grown = min(max((progress - first) / max(last - first, 1e-9), 0.0), 1.0)
    step = 32 if recipe.size >= 160 else 16 if recipe.size >= 64 else 4
    return min(
        recipe.size,
        round((recipe.size_from + grown * (recipe.size - recipe.size_from)) / step) * step,
    )
