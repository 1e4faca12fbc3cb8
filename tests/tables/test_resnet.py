"""Tables of ResNets: their depths, widths and sources are the papers'."""

from __future__ import annotations

import pytest

from forebear.tables.resnet import UNITS, cifar, cifar_resnet, imagenet
from forebear.tables.rows import Form, Table


def depth(table: Table) -> int:
    """Layers with weights on the longest path: root, convolutions of all units, logits."""
    return 2 + sum(block.units for block in table.blocks) * (2 if table.form == "basic" else 3)


@pytest.mark.parametrize("layers", UNITS)
def test_an_imagenet_network_has_the_depth_of_its_name(layers: int) -> None:
    table = imagenet("x", layers)
    assert depth(table) == layers
    assert [block.stride for block in table.blocks] == [1, 2, 2, 2]
    assert [block.width for block in table.blocks] == [64, 128, 256, 512]
    assert table.blocks[-1].channels == (512 if layers < 50 else 2048)
    assert (table.classes, table.image_size) == (1000, 224)


@pytest.mark.parametrize(
    ("layers", "form"),
    [(20, "basic"), (110, "basic"), (1202, "basic"), (164, "bottleneck"), (1001, "bottleneck")],
)
def test_a_cifar_network_has_the_depth_of_its_name(layers: int, form: Form) -> None:
    table = cifar("x", layers, form)
    assert depth(table) == layers
    wider = 1 if form == "basic" else 4
    assert [block.channels for block in table.blocks] == [16 * wider, 32 * wider, 64 * wider]
    assert [(row.name, row.stride) for row in table.root] == [("conv1", 1)]
    assert (table.classes, table.image_size) == (10, 32)


def test_a_wide_network_is_wider_inside_alone() -> None:
    plain, wide = imagenet("x", 50), imagenet("x", 50, widen=2)
    assert [block.width for block in wide.blocks] == [2 * block.width for block in plain.blocks]
    assert [block.channels for block in wide.blocks] == [block.channels for block in plain.blocks]


def test_a_network_without_shortcuts_keeps_its_rows() -> None:
    plain = imagenet("x", 18, shortcuts=False)
    assert not plain.shortcuts
    assert plain.blocks == imagenet("x", 18).blocks


def test_small_images_have_the_small_root() -> None:
    table = cifar_resnet("x", 18)
    assert [(row.name, row.kernel, row.stride) for row in table.root] == [("conv1", 3, 1)]
    assert table.blocks == imagenet("x", 18).blocks
    assert (table.classes, table.image_size) == (10, 32)


def test_every_table_names_where_it_is_published() -> None:
    assert imagenet("x", 50).source == "He et al. 2015 (arXiv 1512.03385), table 1"
    assert imagenet("x", 200).source == "He et al. 2016 (arXiv 1603.05027), section 5"
    assert imagenet("x", 50, widen=2).source.endswith("(arXiv 1605.07146), width times 2")
    assert cifar("x", 20).source.endswith("section 4.2")
    assert cifar("x", 164, "bottleneck").source.endswith("(arXiv 1603.05027), section 4")


def test_another_depth_is_none() -> None:
    with pytest.raises(KeyError):
        imagenet("x", 35)
