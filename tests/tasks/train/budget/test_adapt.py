from __future__ import annotations

import pytest

import forebear
from forebear.tasks.train.budget.adapt import AdaptiveSize
from forebear.tasks.train.budget.progress import Progress
from forebear.tasks.train.budget.timing import Operations
from tests.tasks.train.budget.making import Clock, recipe


def run(image: float) -> list[int]:
    """The sizes of the steps of a minute, at so many seconds for an image of 96 pixels."""
    clock = Clock()
    plan = forebear.create("torchvision/resnet18", num_classes=10).plan
    course = Progress(budget=60.0, begun=100.0, clock=clock)
    operations = Operations(plan=plan, recipe=recipe(optimizer="sgd"))
    sizes = AdaptiveSize(operations=operations, batch=64, least=32, progress=course)
    found: list[int] = []
    while not course.over(len(found)):
        size = sizes.size(96)
        taken = 64 * image * (size / 96) ** 2
        clock.now += taken
        course.stepped(taken)
        sizes.stepped(size, taken)
        found.append(size)
    return found


def test_images_stay_as_large_as_planned_where_enough_steps_fit() -> None:
    assert set(run(0.01)) == {96}


@pytest.mark.parametrize("image", [0.06, 0.1])
def test_images_become_smaller_where_steps_are_too_long(image: float) -> None:
    sizes = run(image)
    assert sizes[:2] == [96, 96]  # the first step warms up, the second one is timed
    assert set(sizes[2:]) <= {64}
    assert len(sizes) >= 15
