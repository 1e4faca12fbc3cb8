"""The report of a network: table 1 in words, its totals, and plain data."""

from __future__ import annotations

import json

import pytest

from forebear.network.describe.describe import report, spell_layer
from tests.network.describe.making import reported
from tests.tables.making import spelled


def test_rows_are_table_1() -> None:
    rows = {row.name: (row.shape, row.text) for row in reported("torchvision/resnet50").rows}
    assert list(rows) == [
        *("conv1", "pool1", "block1", "block2", "block3", "block4", "pool", "logits")
    ]
    assert rows["conv1"] == ((64, 112, 112), ("7x7, 64, stride 2",))
    assert rows["pool1"] == ((64, 56, 56), ("3x3 max pool, stride 2",))
    assert rows["block3"] == (
        (1024, 14, 14),
        ("[1x1, 256 | 3x3, 256 | 1x1, 1024] x 6, stride 2 in unit_1",),
    )
    assert rows["pool"] == ((2048, 1, 1), ("average over the map",))
    assert rows["logits"] == ((1000, 1, 1), ("1000-d linear",))


def test_units_that_differ_have_lines_of_their_own() -> None:
    rows = {row.name: row.text for row in reported("torchvision/resnext50_32x4d", 16).rows}
    assert rows["block4"] == (
        "[1x1, 1024 | 3x3, 1024, C=32 | 1x1, 2048] x 1",
        "[1x1, 1024 | 3x3, 1024, C=32, rate 2 | 1x1, 2048] x 2",
    )


def test_totals_are_those_of_the_layers() -> None:
    found = reported("torchvision/resnet18")
    assert (found.trainable, found.values) == (11_689_512, 11_699_112)
    layers = [row for row in found.measures if row.kind != "unit"]
    assert found.multiply_adds == sum(row.multiply_adds for row in layers)
    assert round(found.multiply_adds / 1e9, 3) == 1.814
    assert found.output_strides == (4, 8, 16, 32)


def test_the_outline_leaves_out_what_is_inside_units() -> None:
    found = [row.path for row in reported("paper/resnet20").outline()]
    units = [f"block{b}.unit_{u}" for b in (1, 2, 3) for u in (1, 2, 3)]
    assert found == ["root.conv1", *units, "pool", "logits"]


def test_plain_data_survives_json() -> None:
    data = reported("slim/resnet_v1_50", 8).as_dict()
    again = json.loads(json.dumps(data))
    assert again["network"] == "resnet_v1_50"
    assert (again["output_stride"], again["output_strides"]) == (8, [4, 8, 16, 32])
    assert again["rows"][0] == {
        "name": "conv1",
        "shape": [64, 112, 112],
        "text": ["7x7, 64, stride 2"],
    }
    assert again["answers"]["strided_unit"] == "last"


def test_every_kind_of_layer_has_words() -> None:
    said = {layer.kind: spell_layer(layer) for layer in spelled("torchvision/alexnet").layers()}
    assert said["average"] == "average to 6x6"
    assert said["dropout"] == "dropout 0.5"
    assert said["pool"] == "3x3 max pool, stride 2"
    v2 = {layer.kind: spell_layer(layer) for layer in spelled("slim/resnet_v2_50").layers()}
    assert (v2["norm"], v2["identity"]) == ("norm, ReLU", "identity")


def test_an_image_that_is_too_small_is_refused_with_the_least_size() -> None:
    found = reported("slim/alexnet_v2")
    assert found.smallest_side == 195
    with pytest.raises(ValueError, match="194.*too small.*195"):
        report(found.plan, 194)
