from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from forebear.data.augment.config import Augment
from forebear.data.augment.counter_rng import CounterRNG
from forebear.data.augment.pipeline import augment, resized_box
from tests.data.making import decided

FILL = (120.0, 110.0, 100.0)
RULES = {
    "shifted": decided(shift=4),
    "reflected": decided(shift=4, border="reflect", mirror="alternate"),
    "resized": decided(crop="resized"),
    "middle": decided(crop="middle", mirror="none"),
    "randaugment": decided(policy="randaugment", magnitude=6, magnitude_std=0.5),
    "trivialaugment": decided(crop="resized", policy="trivialaugment", random_erasing=0.5),
    "coloured": decided(crop="resized", jitter=0.4, lighting=0.1),
    "blanked": decided(cutout=8, random_erasing=0.5),
}


def noise(count: int, height: int = 20, width: int = 20, channels: int = 3) -> Tensor:
    shape = (count, height, width, channels)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


def draws(samples: object, epoch: int = 0, seed: int = 0) -> CounterRNG:
    return CounterRNG(seed, epoch, np.asarray(samples))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_view_hangs_on_seed_epoch_and_image_alone(rule: Augment, channels: int) -> None:
    count = 60
    pixels = noise(count, channels=channels)
    every = augment(pixels, 16, rule, draws(range(count), epoch=3), fill=FILL)
    assert every.shape == (count, 16, 16, channels)
    assert every.is_contiguous()
    order = np.random.default_rng(1).permutation(count)
    for ranks in (1, 2, 3):  # another order, and dealt out to so many processes
        for part in np.array_split(order, ranks * 2):
            few = augment(pixels[part], 16, rule, draws(part, epoch=3), fill=FILL)
            torch.testing.assert_close(few, every[part], rtol=0, atol=1e-3)
    if rule.crop != "middle":
        for other in (draws(range(count), epoch=4), draws(range(count), epoch=3, seed=1)):
            assert not torch.equal(augment(pixels, 16, rule, other, fill=FILL), every)


def test_views_of_one_image_differ() -> None:
    pixels = noise(1).expand(8, -1, -1, -1)
    views = draws([5] * 8).of_views(np.arange(8))
    seen = augment(pixels, 16, decided(crop="resized"), views)
    assert len({view.numpy().tobytes() for view in seen}) == 8


@pytest.mark.parametrize(("name", "dtype"), [("shifted", torch.uint8), ("blanked", torch.float32)])
def test_bytes_stay_bytes_until_something_is_coloured_or_blanked(
    name: str, dtype: torch.dtype
) -> None:
    assert augment(noise(4), 16, RULES[name], draws(range(4)), fill=FILL).dtype == dtype


def test_the_middle_is_the_middle() -> None:
    pixels = noise(3, 20, 24)
    seen = augment(pixels, 16, RULES["middle"], draws(range(3)))
    torch.testing.assert_close(seen, pixels[:, 2:18, 4:20])


def test_a_shift_moves_over_all_of_a_larger_image() -> None:
    pixels = torch.arange(20, dtype=torch.uint8)[None, None, :, None].expand(500, 20, 20, 1)
    seen = augment(pixels, 16, decided(mirror="none"), draws(range(500)))
    assert sorted(set(seen[:, 0, 0, 0].tolist())) == [0, 1, 2, 3, 4]


def test_the_same_part_is_seen_at_every_size_while_the_size_grows() -> None:
    across = torch.linspace(0, 255, 40).to(torch.uint8)
    pixels = across[None, None, :, None].expand(9, 40, 40, 3).contiguous()
    rule = decided(mirror="none")
    small, large = (augment(pixels, n, rule, draws(range(9)), window=32) for n in (16, 32))
    halved = large.float().view(9, 32, 16, 2, 3).mean(3)[:, ::2]
    np.testing.assert_allclose(small[:, :, 1:-1], halved[:, :, 1:-1], atol=1)
    assert small.shape == (9, 16, 16, 3)


def test_a_decoder_can_cut_the_part_that_augment_resizes() -> None:
    rule, ours = decided(crop="resized", mirror="none"), draws([7])
    pixels = noise(1, 30, 40)
    left, top, right, bottom = resized_box(40, 30, rule, ours)[0].tolist()
    part = pixels[:, top:bottom, left:right]
    whole = decided(crop="resized", mirror="none", crop_scale=(2.0, 2.0), crop_ratio=(0.01, 100.0))
    torch.testing.assert_close(augment(part, 16, whole, ours), augment(pixels, 16, rule, ours))


# Colours


def colour_by_steps(pixels: Tensor, factors: list[float], order: tuple[int, ...]) -> Tensor:
    """fb.resnet.torch's definitions, one after the other."""
    values = pixels.double()
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.double)
    for kind in order:
        grey = (values @ weights)[..., None]
        far = [torch.zeros_like(grey), grey.mean().expand_as(grey), grey][kind]
        values = factors[kind] * values + (1 - factors[kind]) * far
    return values


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_jitter_is_brightness_contrast_and_saturation_in_turn(
    order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    chances = {"jitter": np.array([[0.1, 0.9, 0.7]]), "jitter order": np.empty((1, 3))}
    chances["lighting"] = np.zeros((1, 6))
    chances["jitter order"][0, list(order)] = [0.1, 0.2, 0.3]
    monkeypatch.setattr(CounterRNG, "uniform", lambda self, what, count=None: chances[what])
    pixels = noise(1)
    rule = decided(crop="middle", mirror="none", jitter=0.4)
    seen = augment(pixels, 20, rule, draws([0]))
    factors = [1 + 0.4 * (2 * chance - 1) for chance in (0.1, 0.9, 0.7)]
    expected = colour_by_steps(pixels[0], factors, order)
    np.testing.assert_allclose(seen[0], expected, atol=1e-3)


def test_a_grey_image_stays_grey_and_its_brightness_and_contrast_change() -> None:
    grey = noise(40, channels=1)
    rule = decided(crop="middle", mirror="none", jitter=0.4, lighting=0.1)
    seen = augment(grey, 20, rule, draws(range(40)))
    shares = seen.mean((1, 2, 3)) / grey.float().mean((1, 2, 3))
    assert 0.6 <= float(shares.min()) < 0.7
    assert 1.3 < float(shares.max()) <= 1.4


def test_lighting_follows_the_principal_colours() -> None:
    count = 20_000
    pixels = torch.zeros(count, 1, 1, 3, dtype=torch.uint8)
    rule = decided(crop="middle", mirror="none", lighting=0.1)
    noise = augment(pixels, 1, rule, draws(range(count)))[:, 0, 0].double().numpy()
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.15)
    values, directions = np.linalg.eigh(np.cov(noise.T))
    np.testing.assert_allclose(
        np.sqrt(values[::-1]), 25.5 * np.array([0.2175, 0.0188, 0.0045]), rtol=0.03
    )
    first = np.array([0.5675, 0.5808, 0.5836])
    np.testing.assert_allclose(np.abs(directions[:, 2]), first, atol=0.005)


# Blanks


def test_cutout_blanks_one_square_with_the_mean_colour() -> None:
    pixels = torch.zeros(300, 16, 16, 3, dtype=torch.uint8)
    seen = augment(pixels, 16, decided(cutout=6), draws(range(300)), fill=FILL)
    blank = (seen == torch.tensor(FILL)).all(3)
    assert torch.equal(blank, (seen != 0).any(3))
    areas = blank.sum((1, 2))
    assert int(areas.max()) == 36
    assert int(areas.min()) == 9
    for one in blank[:20]:
        assert torch.equal(one, one.any(1)[:, None] & one.any(0))


def test_erasing_leaves_the_other_images_as_they_are() -> None:
    pixels = noise(1000)
    rule = decided(crop="middle", mirror="none", random_erasing=0.1)
    seen = augment(pixels, 20, rule, draws(range(1000)), fill=FILL)
    changed = (seen != pixels).flatten(1).any(1).float().mean()
    assert 0.07 < float(changed) < 0.13


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_gpu_shows_the_same_views_and_is_never_waited_for(rule: Augment) -> None:
    count = 60
    pixels = noise(count)
    here = augment(pixels, 16, rule, draws(range(count)), fill=FILL)
    there = pixels.cuda()
    augment(there, 16, rule, draws(range(count)), fill=FILL)  # what is allocated once
    try:
        torch.cuda.set_sync_debug_mode("error")
        seen = augment(there, 16, rule, draws(range(count)), fill=FILL)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # Policies can make much of a rounding before them: most pixels are compared, not all.
    off = (seen.cpu().float() - here.float()).abs()
    assert float((off <= 1.5).float().mean()) > 0.98
