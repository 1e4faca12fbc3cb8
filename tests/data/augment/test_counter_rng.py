from __future__ import annotations

import numpy as np
import pytest

from forebear.data.augment.counter_rng import CounterRNG


def draws(count: int, *, seed: int = 0, epoch: int = 0) -> CounterRNG:
    return CounterRNG(seed, epoch, np.arange(count))


def test_an_image_draws_the_same_in_whatever_company_and_order() -> None:
    every = draws(1000, seed=3, epoch=7).uniform("crop", 5)
    some = np.array([999, 4, 4, 512])
    np.testing.assert_array_equal(CounterRNG(3, 7, some).uniform("crop", 5), every[some])
    np.testing.assert_array_equal(CounterRNG(3, 7, some[:1]).uniform("crop", 5), every[999:])


def test_the_numbers_of_this_version_are_those_of_the_next() -> None:
    values = CounterRNG(1, 2, np.array([0, 3, 2**40])).uniform("crop", 2)
    golden = [
        [1661453805942768, 5620988452471314],
        [1472245666274792, 5512630703317922],
        [5257742554566139, 6182015225768755],
    ]
    assert (values * 2**53).astype(np.int64).tolist() == golden


@pytest.mark.parametrize("what", ["crop", "mirror", ""])
def test_uniform_numbers_have_the_moments_and_bins_of_uniform_ones(what: str) -> None:
    values = draws(100_000).uniform(what, 4)
    assert values.min() >= 0
    assert values.max() < 1
    np.testing.assert_allclose(values.mean(0), 0.5, atol=5 * (1 / 12) ** 0.5 / 100_000**0.5)
    np.testing.assert_allclose(values.var(0), 1 / 12, atol=5 * (1 / 180) ** 0.5 / 100_000**0.5)
    found = np.histogram(values, 256, (0, 1))[0]
    expected = values.size / 256
    chi2 = ((found - expected) ** 2 / expected).sum()
    assert abs(chi2 - 255) < 5 * (2 * 255) ** 0.5


def test_neighbours_of_every_kind_are_independent() -> None:
    count = 100_000
    here = draws(count)
    base = here.uniform("crop", 2)
    others = {
        "next image": np.roll(base[:, 0], 1),
        "next position": base[:, 1],
        "next epoch": here.of_epoch(1).uniform("crop"),
        "next seed": draws(count, seed=1).uniform("crop"),
        "next view": here.of_views(1).uniform("crop"),
        "another thing": here.uniform("mirror"),
    }
    for name, other in others.items():
        correlation = np.corrcoef(base[:, 0], other)[0, 1]
        assert abs(correlation) < 5 / count**0.5, name
        assert not np.any(base[:, 0] == other), name


def test_the_low_bits_are_as_fair_as_the_high_ones() -> None:
    words = (draws(100_000).uniform("crop") * 2**53).astype(np.uint64)
    shares = [((words >> np.uint64(bit)) & np.uint64(1)).mean() for bit in range(53)]
    np.testing.assert_allclose(shares, 0.5, atol=5 * 0.5 / 100_000**0.5)


def test_a_million_images_draw_different_numbers() -> None:
    values = draws(1_000_000).uniform("crop")
    # 53 bits: 5e-5 collisions are expected.
    assert len(np.unique(values)) == 1_000_000


def test_normal_numbers_have_the_moments_of_normal_ones() -> None:
    values = draws(100_000).normal("light", 3)
    assert values.shape == (100_000, 3)
    np.testing.assert_allclose(values.mean(0), 0, atol=0.016)
    np.testing.assert_allclose(values.std(0), 1, atol=0.012)
    np.testing.assert_allclose((values**4).mean(), 3, atol=0.1)
    np.testing.assert_allclose(np.corrcoef(values.T), np.eye(3), atol=0.016)
    assert draws(4).normal("light").shape == (4,)


def test_integers_reach_every_value_alike() -> None:
    values = draws(70_000).integers("place", 7)
    np.testing.assert_allclose(np.bincount(values, minlength=7) / 70_000, 1 / 7, atol=0.007)
    assert draws(5).integers("place", 7, 2).shape == (5, 2)


def test_views_differ_and_can_be_said_one_by_one() -> None:
    here = draws(3)
    mixed = here.of_views(np.array([0, 2, 1])).uniform("crop")
    for row, view in enumerate([0, 2, 1]):
        assert mixed[row] == here.of_views(view).uniform("crop")[row]
    assert here.uniform("crop")[1] != mixed[1]
