"""A network of any size is recognised by the names and shapes of its arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import forebear
from forebear import WeightsError
from forebear.tables import dialects
from forebear.tables.dialects import Dialect
from forebear.tables.rows import Block, Conv, Pool, Table
from forebear.weights.structure import structures
from forebear.weights.variable_names import pairs
from tests.network.making import lively

ROOT = (Conv("conv1", 6, 7, stride=2), Pool("pool1"))
SMALL = (Conv("conv1", 6, 3),)


def table(form: Any, *, root: Any = ROOT, groups: int = 1, first: int = 1) -> Table:
    out = 1 if form == "basic" else 3
    blocks = tuple(
        Block(f"block{n}", units, 6 * n, 6 * n * out, first if n == 1 else 2, groups=groups)
        for n, units in enumerate((1, 3, 2), start=1)
    )
    return Table("made", root, form, blocks, classes=5)


CASES: dict[str, tuple[Table, Dialect]] = {
    "torchvision basic": (table("basic"), dialects.TORCHVISION_V1),
    "torchvision bottleneck": (table("bottleneck"), dialects.TORCHVISION_V1),
    "torchvision grouped": (table("bottleneck", groups=3), dialects.TORCHVISION_V1),
    "torchvision cifar root": (table("basic", root=SMALL), dialects.TORCHVISION_CIFAR),
    "weiaicunzai basic": (table("basic", root=SMALL), dialects.WEIAICUNZAI),
    "weiaicunzai bottleneck": (table("bottleneck", root=SMALL), dialects.WEIAICUNZAI),
    "torchvision stride in block1": (table("basic", first=2), dialects.TORCHVISION_V1),
    "cifar projections": (table("basic", root=SMALL), dialects.PAPER_CIFAR_B),
    "cifar identities": (table("basic", root=SMALL), dialects.PAPER_CIFAR),
    "cifar pre-activation": (table("bottleneck", root=SMALL), dialects.PAPER_V2),
    "timm v2": (table("bottleneck"), dialects.TIMM_PREACT),
    "timm v2 basic": (table("basic"), dialects.TIMM_PREACT_BASIC),
    "keras v1": (table("bottleneck"), dialects.KERAS_V1),
    "keras v2": (table("bottleneck"), dialects.KERAS_V2),
    "slim v1": (table("bottleneck"), dialects.SLIM_V1),
    "slim v2": (table("bottleneck"), dialects.SLIM_V2),
    "paddle": (table("bottleneck"), dialects.PADDLE),
    "caffe2": (table("bottleneck"), dialects.DETECTRON),
    "caffe2 grouped": (table("bottleneck", groups=2), dialects.DETECTRON_RESNEXT),
    "detectron2": (table("basic"), dialects.DETECTRON2),
}


def saved(case: str, path: Any) -> forebear.Network:
    """Saves a network under the names and in the layouts of its library."""
    network = lively(forebear.create(CASES[case][0], dialect=CASES[case][1]))
    state = network.state_dict()
    arrays: Any = {p.theirs: p.layout.store(state[p.ours].numpy()) for p in pairs(network.plan)}
    np.savez(path, **arrays)
    return network


@pytest.mark.parametrize("case", CASES)
@pytest.mark.long(after=6)
def test_a_network_that_is_not_published_loads_without_its_name(case: str, tmp_path: Any) -> None:
    path = tmp_path / "w.npz"
    network = saved(case, path)
    found = forebear.load(path)
    assert found.dialect.name == network.dialect.name
    assert found.table.form == network.table.form
    assert found.table.blocks == network.table.blocks
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(found(images), network(images))
    assert "the network is read from the shapes" in found.card.provenance["notes"]


def test_a_published_network_needs_no_such_note(tmp_path: Any) -> None:
    network = forebear.create("torchvision/resnet18", num_classes=3)
    torch.save(
        {p.theirs: network.state_dict()[p.ours] for p in pairs(network.plan)}, tmp_path / "w.pth"
    )
    assert "notes" not in forebear.load(tmp_path / "w.pth").card.provenance


@pytest.mark.parametrize(
    "shapes",
    [
        {"conv1.weight": (6, 3, 7, 7)},  # no units
        {"conv1.weight": (6, 3, 5, 5)} | {f"layer1.0.conv{n}.weight": (6, 6, 3, 3) for n in (1, 2)},
        {"conv1.weight": (6, 3, 7, 7)} | {f"layer2.0.conv{n}.weight": (6, 6, 3, 3) for n in (1, 2)},
        {"conv1.weight": (6, 3, 7, 7)} | {f"layer1.0.conv{n}.weight": (6, 6, 3, 3) for n in (1, 3)},
        {"conv1.weight": (6, 3, 7, 7)} | {f"layer1.0.conv{n}.weight": (6, 4, 3, 3) for n in (1, 2)},
        {"conv1.weight": (6, 3, 7, 7)} | {f"layer1.0.conv{n}.weight": (6, 0, 3, 3) for n in (1, 2)},
        {"conv1.weight": (6, 3, 7, 7)} | {f"layer1.0.conv{n}.weight": (6, 6, 5, 5) for n in (1, 2)},
        {"conv1.weight": (6, 3, 7, 7)} | {f"layer1.0.conv{n}.weight": (6, 6) for n in (1, 2)},
    ],
)
def test_shapes_that_are_no_residual_network(shapes: dict[str, tuple[int, ...]]) -> None:
    assert list(structures({name: name for name in shapes}, shapes.__getitem__)) == []


def test_units_of_other_arrays_are_refused(tmp_path: Any) -> None:
    network = forebear.create(table("basic"), dialect="torchvision")
    state = {p.theirs: network.state_dict()[p.ours] for p in pairs(network.plan)}
    torch.save(state | {"layer1.0.se.conv.weight": torch.ones(3, 6, 1, 1)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="match none of the 73 published networks"):
        forebear.load(tmp_path / "w.pth")
