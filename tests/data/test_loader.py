from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from forebear.data.augment.config import Augment
from forebear.data.dataset import ArrayImages
from forebear.data.loader import Loader, Order, copied
from forebear.data.pixel_store import PixelStore
from forebear.tables.preprocessing import TORCHVISION
from tests.data.making import decided

COUNT = 23


def batches(batch: int, *, rank: int = 0, ranks: int = 1, memory: int = 2**30) -> Loader:
    """Images of noise, 12 pixels a side, of which 8 are cut."""
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 12, 12, 3), dtype=np.uint8)
    images = ArrayImages(pixels, np.arange(COUNT) % 4, "noise")
    rule = replace(TORCHVISION, size=8, side=12, resize="shorter", interpolation="bilinear")
    store = PixelStore(images, replace(rule, size=12), memory=memory, workers=0, disk=0)
    store.fill()
    return Loader(
        store=store,
        labels=images.labels,
        rule=rule,
        batch=batch,
        device=torch.device("cpu"),
        rank=rank,
        ranks=ranks,
    )


def views(
    source: Loader, order: Order, epoch: int = 1, first: int = 0
) -> dict[tuple[int, int], NDArray[np.float32]]:
    """What each image looks like in an epoch, by its number and its view."""
    seen = {}
    for draft in source.drafts(order, epoch, first):
        images, labels = source.view(draft, order, epoch, 8)
        assert images.shape[1:] == (3, 8, 8)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert np.array_equal(labels.numpy(), draft.samples % 4)
        for sample, view, image in zip(draft.samples, draft.views, images.numpy(), strict=True):
            seen[int(sample), int(view)] = image
    return seen


def same(
    one: dict[tuple[int, int], NDArray[np.float32]],
    other: dict[tuple[int, int], NDArray[np.float32]],
) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


RULES = {
    "shift": decided(crop="shift", shift=2),
    "resized": decided(crop="resized", crop_scale=(0.3, 1.0), jitter=0.2),
    "alternate": decided(crop="middle", mirror="alternate", cutout=3),
}


@pytest.mark.parametrize("name", RULES)
def test_an_image_looks_the_same_whatever_the_batch_and_the_processes(name: str) -> None:
    order = Order(augment=RULES[name], seed=5)
    whole = views(batches(7), order)
    assert len(whole) == COUNT
    assert same(whole, views(batches(4), order))
    parts: dict[tuple[int, int], NDArray[np.float32]] = {}
    for rank in range(3):
        part = views(batches(7, rank=rank, ranks=3), order)
        assert not part.keys() & parts.keys()
        parts |= part
    assert same(whole, parts)
    assert not same(whole, views(batches(7), order, epoch=2))


def test_an_epoch_taken_up_again_goes_on_as_it_would_have() -> None:
    order, source = Order(augment=RULES["resized"], seed=1), batches(6)
    steps = [(d.step, d.samples.tolist(), d.total) for d in source.drafts(order, 3)]
    again = [(d.step, d.samples.tolist(), d.total) for d in source.drafts(order, 3, 2)]
    assert again == steps[2:]
    assert [step for step, _, _ in steps] == [0, 1, 2, 3]
    assert sorted(sample for _, samples, _ in steps for sample in samples) == list(range(COUNT))
    assert {total for _, _, total in steps} == {5, 6}


def test_a_share_can_be_empty_and_totals_are_those_of_all() -> None:
    order = Order(augment=RULES["shift"], seed=1)
    totals = []
    for rank in range(8):
        drafts = list(batches(4, rank=rank, ranks=8).drafts(order, 1))
        totals.append([draft.total for draft in drafts])
        assert all(len(draft.samples) <= 1 for draft in drafts)
    assert all(total == totals[0] for total in totals)
    assert sum(totals[0]) == COUNT


def test_repeated_images_come_in_different_views_of_one_batch() -> None:
    order = Order(augment=RULES["resized"], seed=1, repeats=3)
    seen = views(batches(6), order)
    assert len(seen) == COUNT
    samples = {sample for sample, _ in seen}
    assert len(samples) == 8
    assert not np.array_equal(seen[next(iter(samples)), 0], seen[next(iter(samples)), 1])
    for draft in batches(6).drafts(order, 1):
        assert len(set(draft.samples.tolist())) < len(draft.samples)


def test_sets_too_large_to_keep_are_cut_from_the_whole_image_while_decoding() -> None:
    order = Order(augment=replace(RULES["resized"], jitter=0.0, mirror="none"), seed=2)
    kept, streamed = batches(6), batches(6, memory=0)
    assert not streamed.store.fits
    one, other = views(kept, order), views(streamed, order)
    assert one.keys() == other.keys()
    streamed_again = views(batches(4, memory=0), order)
    assert same(other, streamed_again)


def test_in_order_every_image_comes_once_over_all_processes() -> None:
    labels = []
    for rank in range(2):
        for images, part in batches(4, rank=rank, ranks=2).in_order():
            assert images.shape[1:] == (3, 8, 8)
            labels += part.tolist()
    assert sorted(labels) == sorted((np.arange(COUNT) % 4).tolist())
    source = batches(23)
    images, _ = next(source.in_order())
    middle = source.store[[4]][0, 2:10, 2:10]
    rule = source.rule
    mean, std = (np.array(values, np.float32) for values in (rule.mean, rule.std))
    expected = (middle * np.float32(rule.scale) - mean) / std
    assert np.allclose(images[4].permute(1, 2, 0).numpy(), expected, atol=1e-6)
    assert Image.fromarray(middle).size == (8, 8)


BALANCED = Order(augment=RULES["resized"], seed=7, balanced=True)


def uneven(batch: int, *, rank: int = 0, ranks: int = 1, memory: int = 2**30) -> Loader:
    """The images of `batches`, of which class 1 has 3 and class 0 the others."""
    source = batches(batch, rank=rank, ranks=ranks, memory=memory)
    return replace(source, labels=np.isin(np.arange(COUNT), (4, 9, 20)).astype(np.int64))


def looks(source: Loader, order: Order, first: int = 0) -> list[tuple[int, int, bytes]]:
    """Image, view and pixels of all draws of an epoch, in their order."""
    found = []
    for draft in source.drafts(order, 2, first):
        images, labels = source.view(draft, order, 2, 8)
        assert np.array_equal(labels.numpy(), source.labels[draft.samples])
        rows = zip(draft.samples.tolist(), draft.views.tolist(), images.numpy(), strict=True)
        found += [(sample, view, image.tobytes()) for sample, view, image in rows]
    return found


def test_rare_images_come_again_and_look_different_each_time() -> None:
    seen = looks(uneven(7), BALANCED)
    assert len(seen) == COUNT
    rare = [one for one in seen if one[0] in (4, 9, 20)]
    assert len(rare) in (COUNT // 2, COUNT // 2 + 1)
    assert len({pixels for _, _, pixels in rare}) == len(rare)
    assert sorted(view for sample, view, _ in rare if sample == 4)[:3] == [0, 1, 2]


@pytest.mark.parametrize("memory", [2**30, 0])
def test_balanced_images_are_the_same_for_any_batch_and_processes(memory: int) -> None:
    whole = sorted(looks(uneven(7, memory=memory), BALANCED))
    assert len(whole) == COUNT
    assert whole == sorted(looks(uneven(23, memory=memory), BALANCED))
    parts = [looks(uneven(7, rank=rank, ranks=2, memory=memory), BALANCED) for rank in range(2)]
    assert whole == sorted(parts[0] + parts[1])
    done = len(looks(uneven(7, memory=memory), BALANCED, first=2))
    again = looks(uneven(7, memory=memory), BALANCED, first=2)
    assert again == looks(uneven(7, memory=memory), BALANCED)[-done:]


def test_balanced_images_are_repeated_within_a_batch_too() -> None:
    order = replace(BALANCED, repeats=2)
    seen = looks(uneven(6), order)
    assert len({(sample, view) for sample, view, _ in seen}) == len(seen) == COUNT
    assert all(one[0] == other[0] for one, other in zip(seen[:6:2], seen[1:6:2], strict=True))


def test_only_images_that_are_read_are_balanced() -> None:
    among = np.array([1, 4, 6, 9, 13, 17])
    drawn = [n for draft in uneven(3).drafts(BALANCED, 1, among=among) for n in draft.samples]
    assert sorted(set(drawn)) == sorted({4, 9} | set(drawn))
    assert set(drawn) <= set(among.tolist())
    assert sum(n in (4, 9) for n in drawn) == 3


@pytest.mark.parametrize("memory", [0, 2**30])
@pytest.mark.parametrize("rule", [*RULES.values()], ids=[*RULES])
def test_views_of_a_rectangle_have_its_size(rule: Augment, memory: int) -> None:
    source = batches(4, memory=memory)
    wide = replace(source.rule, size=6, side=8, width=10)
    store = PixelStore(
        source.store.images, replace(wide, size=8, width=13), memory=memory, workers=0, disk=0
    )
    store.fill()
    source = replace(source, store=store, rule=wide)
    draft = next(source.drafts(Order(augment=rule, seed=0), 1))
    assert source.view(draft, Order(augment=rule, seed=0), 1, 6)[0].shape[1:] == (3, 6, 10)
    assert next(source.in_order())[0].shape[1:] == (3, 6, 10)


def test_the_ratio_of_random_parts_is_relative_to_that_of_the_input() -> None:
    """Parts of a picture of the input's ratio that have all of its area are the whole picture."""
    source = batches(4)
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 6, 12, 3), dtype=np.uint8)
    rule = replace(source.rule, size=6, side=6, width=12)
    store = PixelStore(ArrayImages(pixels, source.labels, "noise"), rule, workers=0, disk=0)
    store.fill()
    source = replace(source, store=store, rule=rule)
    order = Order(
        augment=decided(
            crop="resized", crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), mirror="none"
        ),
        seed=0,
    )
    draft = next(source.drafts(order, 1))
    mean, std = (np.array(value)[:, None, None] for value in (rule.mean, rule.std))
    seen = source.view(draft, order, 1, 6)[0].numpy() * std + mean
    wanted = pixels[draft.samples].transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(seen, wanted, atol=1e-5)


def test_pixels_of_a_read_only_file_are_copied_without_a_warning() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    pixels.setflags(write=False)
    found = copied(pixels, torch.device("cpu"))
    found += 1
    assert np.array_equal(found.numpy(), pixels + 1)
