from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from forebear.data.augment.mixup import mix


def batch(count: int = 6, side: int = 16) -> tuple[Tensor, Tensor]:
    """Images that are their number everywhere, each of its own class."""
    images = torch.arange(count, dtype=torch.float32)[:, None, None, None]
    images = images.expand(count, 3, side, side).contiguous(memory_format=torch.channels_last)
    return images, torch.eye(count)


def shares(targets: Tensor) -> Tensor:
    return targets.diagonal()


def test_mixup_blends_each_image_with_the_opposite_one_and_targets_alike() -> None:
    images, targets = batch()
    mixed, soft = mix(images, targets, 0.2, 0.0, (0, 0, 0))
    share = float(soft[0, 0])
    assert 0 < share < 1
    torch.testing.assert_close(mixed, share * images + (1 - share) * images.flip(0))
    torch.testing.assert_close(soft, share * targets + (1 - share) * targets.flip(0))
    assert mixed.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("step", range(20))
def test_cutmix_exchanges_a_rectangle_whose_true_area_the_targets_tell(step: int) -> None:
    images, targets = batch()
    mixed, soft = mix(images, targets, 0.0, 1.0, (0, 0, step))
    moved = mixed[0, 0] != images[0, 0]
    rows, columns = moved.any(1), moved.any(0)
    torch.testing.assert_close(moved, rows[:, None] & columns)
    torch.testing.assert_close(mixed[0, 0][moved], torch.full((int(moved.sum()),), 5.0))
    torch.testing.assert_close(shares(soft), (1 - moved.float().mean()).expand(6))
    torch.testing.assert_close(soft.sum(1), torch.ones(6))
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_with_both_each_has_every_second_batch() -> None:
    images, targets = batch(2, 4)
    patches = 0
    for step in range(400):
        mixed, _ = mix(images, targets, 0.2, 1.0, (0, 0, step))
        patches += bool((mixed == mixed.round()).all())
    assert abs(patches - 200) < 5 * 10


def test_the_share_has_the_moments_of_the_beta_distribution() -> None:
    images, targets = batch(2, 1)
    alpha = 0.4
    drawn = torch.stack(
        [mix(images, targets, alpha, 0.0, (7, 1, step))[1][0, 0] for step in range(4000)]
    )
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(float(drawn.mean()) - 0.5) < 5 * (variance / 4000) ** 0.5
    assert abs(float(drawn.var()) - variance) < 0.1 * variance


def test_the_same_step_mixes_the_same_way_and_the_next_one_another() -> None:
    images, targets = batch()
    first, again, other = (
        mix(images, targets, 0.2, 1.0, (3, 2, step))[1][0, 0] for step in (5, 5, 6)
    )
    assert first == again != other


def test_what_went_in_stays_as_it_was() -> None:
    images, targets = batch()
    for step in range(8):
        mix(images, targets, 0.2, 1.0, (0, 0, step))
    torch.testing.assert_close(images, batch()[0])
    torch.testing.assert_close(targets, batch()[1])


def test_nothing_is_mixed_where_nothing_is_wanted() -> None:
    images, targets = batch()
    assert mix(images, targets, 0.0, 0.0, (0, 0, 0)) == (images, targets)


def test_targets_may_be_smoothed_ones() -> None:
    soft = F.one_hot(torch.tensor([0, 1]), 3).float() * 0.9 + 0.1 / 3
    _, mixed = mix(torch.zeros(2, 1, 2, 2), soft, 0.2, 0.0, (0, 0, 1))
    np.testing.assert_allclose(mixed.sum(1), 1, rtol=1e-6)
