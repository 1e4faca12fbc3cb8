from __future__ import annotations

import pytest
import torch
from torch import nn

from forebear.errors import RunError
from forebear.tasks.train.finite import PATIENCE, FiniteGuard
from forebear.tasks.train.recipe import Recipe

RECIPE = Recipe(lr=0.4, schedule="constant", epochs=1)
CPU = torch.device("cpu")
GOOD, BAD, INFINITE = (torch.tensor(value) for value in (1.0, torch.nan, torch.inf))


def guarded() -> tuple[nn.BatchNorm2d, FiniteGuard]:
    norm = nn.BatchNorm2d(2)
    return norm, FiniteGuard(norm, CPU)


def values(norm: nn.BatchNorm2d) -> list[list[float]]:
    return [buffer.reshape(-1).tolist() for buffer in norm.buffers()]


@pytest.mark.parametrize("by_device", [False, True])
def test_a_step_that_is_left_out_restores_means_variances_and_counts(by_device: bool) -> None:
    norm, guard = guarded()
    norm(torch.randn(4, 2, 3, 3))
    before = values(norm)
    guard.remember()
    norm(torch.randn(4, 2, 3, 3))
    assert values(norm) != before
    if by_device:
        moved = values(norm)
        guard.restore_if(torch.tensor(False))
        assert values(norm) == moved
        guard.restore_if(torch.tensor(True))
    else:
        guard.restore()
    assert values(norm) == before


@pytest.mark.parametrize(
    ("gradients", "losses", "bad"),
    [
        (GOOD, GOOD, False),
        (BAD, GOOD, True),
        (GOOD, BAD, True),
        (torch.tensor(torch.inf), GOOD, True),
    ],
)
def test_a_gradient_or_a_loss_that_is_not_finite_is_bad(
    gradients: torch.Tensor, losses: torch.Tensor, bad: bool
) -> None:
    _, guard = guarded()
    assert bool(guard.judge(gradients, losses[None])) is bad
    assert int(guard.skipped) == int(bad)


def test_a_running_variance_can_overflow_alone() -> None:
    norm, guard = guarded()
    assert norm.running_var is not None
    norm.running_var[1] = torch.inf
    assert bool(guard.judge(GOOD, GOOD[None]))
    assert not bool(guard.judge(GOOD, None))  # several processes agree by the gradient alone


def test_more_than_three_in_a_row_end_the_run() -> None:
    _, guard = guarded()
    for _ in range(PATIENCE):
        guard.judge(BAD, None)
    guard.check(3, RECIPE)
    guard.judge(GOOD, None)  # which begins the row again
    assert (int(guard.skipped), int(guard.in_row)) == (PATIENCE, 0)
    for _ in range(PATIENCE + 1):
        guard.judge(BAD, None)
    with pytest.raises(
        RunError, match=r"not finite at 4 steps in a row, up to step 9\. .*--lr 0\.1"
    ):
        guard.check(9, RECIPE)
    guard.count(skipped=5, in_row=1)
    assert (int(guard.skipped), int(guard.in_row)) == (5, 1)
    guard.check(9, RECIPE)
