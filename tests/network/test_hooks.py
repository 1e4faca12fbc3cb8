"""End points are kept while a network runs, and nothing else is."""

from __future__ import annotations

import threading

import pytest
import torch

from tests.network.making import make

IMAGES = torch.randn(2, 3, 65, 48, generator=torch.Generator().manual_seed(1))


def test_predictions_are_the_softmax_over_classes_also_of_a_map() -> None:
    net = make(num_classes=7, global_pool=False)
    found = net.end_points(IMAGES, ["predictions", "logits"])
    assert list(found) == ["logits", "predictions"]
    assert torch.equal(found["predictions"], found["logits"].softmax(1))
    assert found["logits"].shape == (2, 7, 2, 1)


def test_only_the_end_points_asked_for_are_kept() -> None:
    net = make(num_classes=7)
    found = net.end_points(IMAGES, ["block1.unit_2.conv2.norm", "root.conv1"])
    assert list(found) == ["root.conv1", "block1.unit_2.conv2.norm"]
    assert not any(module._forward_hooks for module in net.modules())


def test_end_points_under_the_originals_names() -> None:
    net = make(num_classes=7)
    name = "small/block3/unit_1/bottleneck_v1/conv2"
    ours = net.end_points(IMAGES, ["block3.unit_1.conv2"])["block3.unit_1.conv2"]
    assert torch.equal(net.end_points(IMAGES, [name], style="original")[name], ours)
    with pytest.raises(ValueError, match=r"end point 'block3.unit_1.conv8': .* Did you mean"):
        net.end_points(IMAGES, ["block3.unit_1.conv8"])


def test_a_failed_run_leaves_no_hooks() -> None:
    net = make(num_classes=7)
    with pytest.raises(ValueError, match="images of shape"):
        net.end_points(IMAGES[0])
    assert not any(module._forward_hooks for module in net.modules())


def test_two_threads_do_not_see_each_others_end_points() -> None:
    net = make(num_classes=7)
    sizes = [33, 49, 65, 81] * 3
    found: dict[int, int] = {}

    def run(number: int, side: int) -> None:
        image = torch.zeros(1, 3, side, side)
        found[number] = net.end_points(image, ["root.conv1"])["root.conv1"].shape[2]

    threads = [threading.Thread(target=run, args=item) for item in enumerate(sizes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(len(sizes))] == [(side + 1) // 2 for side in sizes]
