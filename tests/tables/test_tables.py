from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import forebear
from forebear import Block, Conv, Pool, Table, TableError
from forebear.network.plan.cost import measure, parameters
from forebear.network.plan.expand import expand
from forebear.tables.dialects import DIALECTS, Dialect
from forebear.tables.files import read_table, table_from_dict, table_from_lists, table_to_dict
from forebear.tables.registry import NETWORKS, find

# Trainable and all values; the peers' own counts by instantiating each model.
COUNTS = {
    "slim/alexnet_v2": (50_303_912, 50_303_912),
    "slim/resnet_v1_50": (25_557_032, 25_610_152),
    "slim/resnet_v1_101": (44_549_160, 44_654_504),
    "slim/resnet_v1_152": (60_192_808, 60_344_232),
    "slim/resnet_v1_200": (64_673_832, 64_849_832),
    "slim/resnet_v2_50": (25_568_360, 25_613_800),
    "slim/resnet_v2_101": (44_577_896, 44_675_560),
    "slim/resnet_v2_152": (60_236_904, 60_380_648),
    "slim/resnet_v2_200": (64_726_120, 64_894_440),
    "keras/ResNet50": (25_583_592, 25_636_712),
    "keras/ResNet50_old": (25_583_592, 25_636_712),
    "keras/ResNet101": (44_601_832, 44_707_176),
    "keras/ResNet152": (60_268_520, 60_419_944),
    "keras/ResNet50V2": (25_568_360, 25_613_800),
    "keras/ResNet101V2": (44_577_896, 44_675_560),
    "keras/ResNet152V2": (60_236_904, 60_380_648),
    "keras/ResNeXt50": (25_028_904, 25_097_128),
    "keras/ResNeXt101": (44_177_704, 44_315_560),
    "torchvision/alexnet": (61_100_840, 61_100_840),
    "torchvision/resnet18": (11_689_512, 11_699_112),
    "torchvision/resnet34": (21_797_672, 21_814_696),
    "torchvision/resnet50": (25_557_032, 25_610_152),
    "torchvision/resnet101": (44_549_160, 44_654_504),
    "torchvision/resnet152": (60_192_808, 60_344_232),
    "torchvision/resnext50_32x4d": (25_028_904, 25_097_128),
    "torchvision/resnext101_32x8d": (88_791_336, 88_994_216),
    "torchvision/resnext101_64x4d": (83_455_272, 83_658_152),
    "torchvision/wide_resnet50_2": (68_883_240, 68_951_464),
    "torchvision/wide_resnet101_2": (126_886_696, 127_024_552),
    "timm/resnet200": (64_673_832, 64_849_832),
    "timm/resnext101_32x4d": (44_177_704, 44_315_560),
    "timm/resnetv2_18": (11_687_720, 11_695_528),
    "timm/resnetv2_34": (21_795_880, 21_811_112),
    "timm/resnetv2_50": (25_549_352, 25_594_792),
    "timm/resnetv2_101": (44_541_480, 44_639_144),
    "timm/resnetv2_152": (60_185_128, 60_328_872),
    "paper/resnet20": (269_722, 271_098),
    "paper/resnet32": (464_154, 466_426),
    "paper/resnet44": (658_586, 661_754),
    "paper/resnet56": (853_018, 857_082),
    "paper/resnet110": (1_727_962, 1_736_058),
}
LISTS_18 = [[2, [[width, (3, 3)], [width, (3, 3)]]] for width in (64, 128, 256, 512)]
LISTS_50 = [
    [units, [[width, (1, 1)], [width, (3, 3)], [4 * width, (1, 1)]]]
    for units, width in ((3, 64), (4, 128), (6, 256), (3, 512))
]


def spelled(name: str, **options: Any) -> Any:
    entry = find(name)
    return expand(entry.table, entry.dialect, **{"num_classes": entry.table.classes, **options})


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_the_peers_to_the_last_digit(name: str) -> None:
    assert parameters(spelled(name)) == COUNTS[name]


def test_option_b_and_the_background_class_add_what_they_should() -> None:
    assert parameters(
        expand(find("paper/resnet20").table, DIALECTS["paper-cifar-b"], num_classes=10)
    ) == (272_474, 274_042)
    more = parameters(spelled("slim/resnet_v2_50", num_classes=1001))[0]
    assert more - COUNTS["slim/resnet_v2_50"][0] == 2_049


@pytest.mark.parametrize(
    ("name", "giga"),
    [
        ("slim/resnet_v1_50", 3.482),
        ("keras/ResNet50", 3.858),
        ("torchvision/resnet50", 4.089),
        ("slim/resnet_v1_200", 14.401),
        ("timm/resnet200", 15.007),
        ("torchvision/alexnet", 0.714),
        ("paper/resnet20", 0.041),
    ],
)
def test_multiply_adds_at_the_published_size(name: str, giga: float) -> None:
    rows = measure(spelled(name), find(name).table.image_size)
    assert round(sum(r.multiply_adds for r in rows if r.kind != "unit") / 1e9, 3) == giga


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_spells_out_and_survives_plain_data(name: str) -> None:
    entry = find(name)
    data = json.loads(json.dumps(table_to_dict(entry.table)))
    again = table_from_dict(data)
    assert again == entry.table
    assert again.source == entry.table.source
    sides = [row.shape[1] for row in measure(spelled(name), max(224, entry.table.image_size))]
    assert min(sides) >= 1


PAPERS = ("Krizhevsky 2014", "He et al. 2015", "He et al. 2016", "Xie et al. 2016")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_published_table_names_its_paper_and_its_librarys_file(name: str) -> None:
    source = find(name).table.source
    assert source.startswith(PAPERS)
    assert re.search(r"\(arXiv \d{4}\.\d{4,5}\)", source)
    home = name.partition("/")[0]
    if home != "paper":
        assert {"slim": "tf_slim", "keras": "keras"}.get(home, home) in source.lower()
        assert source.endswith(".py")


def test_the_source_is_no_part_of_what_a_table_is() -> None:
    table = find("slim/resnet_v1_50").table
    data = table_to_dict(table)
    assert data.pop("source") == (
        "He et al. 2015 (arXiv 1512.03385), table 1; tf_slim 1.1.0, nets/resnet_v1.py"
    )
    older = table_from_dict(data)  # as it was written before tables had a source
    assert older.source == ""
    assert older == table
    assert hash(older) == hash(table)
    assert table_to_dict(older) == data


def test_receptive_fields_are_those_known_of_the_plain_networks() -> None:
    fields_of = {
        row.path: row.receptive_field for row in measure(spelled("torchvision/resnet18"), 224)
    }
    assert (fields_of["root.conv1"], fields_of["root.pool1"]) == (7, 11)
    assert fields_of["block4.unit_2"] == 435
    assert fields_of["logits"] is None


def test_no_dialect_leaves_a_question_open() -> None:
    assert all(field.default is field.default_factory for field in fields(Dialect))
    assert len(DIALECTS) == len(set(DIALECTS.values())) == 25


def test_networks_are_found_by_pattern_and_wrong_names_get_near_misses() -> None:
    assert forebear.networks("slim/resnet_v2_*") == [
        f"slim/resnet_v2_{depth}" for depth in (50, 101, 152, 200)
    ]
    with pytest.raises(ValueError, match="network='resnet_v1_50' is unknown.*slim/resnet_v1_50"):
        find("resnet_v1_50")
    with pytest.raises(ValueError, match="Did you mean slim/resnet_v1_50"):
        find("slim/resnet_v1_5O")


def test_the_lists_of_the_keras_recipe_give_its_counts() -> None:
    lists = table_from_lists(LISTS_18)
    whole = expand(lists, DIALECTS["keras-lists"], num_classes=10)
    assert parameters(whole)[1] == 11_196_042
    plain = table_from_lists(LISTS_18, shortcuts=False)
    assert parameters(expand(plain, DIALECTS["keras-lists"], num_classes=10))[1] == 11_019_530
    deep = expand(table_from_lists(LISTS_50), DIALECTS["keras-lists"], num_classes=10)
    first = next(deep.units())
    assert first.shortcut is not None
    assert (first.shortcut.kind, first.channels) == ("conv", 256)  # the original could not build it
    assert len(list(deep.units())) == 16


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[2, [[64, (3, 5)]]]], "row block1.*square kernels"),
        ([[2]], r"row block1: \[2\]. Expected \[units"),
        ([[0, [[64, (3, 3)]]]], "row block1: units=0. Expected a positive integer"),
    ],
)
def test_wrong_lists_are_refused_by_row(lists: list[Any], message: str) -> None:
    with pytest.raises(TableError, match=message):
        table_from_lists(lists)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"units": 0}, "row b2: units=0. Expected a positive integer. Correct this row"),
        ({"width": 6, "groups": 4}, "row b2: width=6 is not divisible by groups=4"),
        ({"stride": 1.5}, "row b2: stride=1.5"),
        ({"name": "b 2"}, "row 'b 2': this is not a valid module name"),
        ({"name": "b1"}, "row b1: several rows have this name"),
        ({"name": "logits"}, "row logits: this name is reserved"),
        ({"widht": 6}, "row b2: the key 'widht' is unknown.*Did you mean width"),
        ({"units": None}, "row b2: units=None"),
    ],
)
def test_a_table_that_cannot_be_built_names_the_row(row: dict[str, Any], message: str) -> None:
    good = {"name": "b1", "units": 1, "width": 4, "channels": 16}
    second = {**good, "name": "b2", **row}
    with pytest.raises(TableError, match=message):
        table_from_dict({"name": "mine", "blocks": [good, second]})


CONV = {"kind": "conv", "name": "conv1", "channels": 6, "kernel": 3}


def test_rows_that_do_not_fit_together_are_refused_when_planned() -> None:
    blocks = (Block("b1", 1, 8, 16, groups=8), Block("b2", 1, 8, 8))
    wide = Table("mine", (Conv("conv1", 6, 3),), blocks=blocks)
    with pytest.raises(TableError, match="row b2: the block reduces 16 channels to 8"):
        expand(wide, DIALECTS["paper-v1-a"], num_classes=2)
    even = Table("mine", (Conv("conv1", 6, 4),), blocks=blocks)
    with pytest.raises(TableError, match="row conv1: kernel=4 is even"):
        expand(even, DIALECTS["torchvision"], num_classes=2)
    with pytest.raises(TableError, match="row 'mine': it has no blocks or layers"):
        Table("mine", (Conv("conv1", 6, 3),))
    with pytest.raises(TableError, match="row 'mine': it has both blocks and layers"):
        Table("mine", (), blocks=blocks, layers=(Conv("conv1", 6, 3),))
    with pytest.raises(TableError, match="activation='hardswish'. Expected .* a table of layers"):
        Table("mine", (), blocks=blocks, activation="hardswish")
    with pytest.raises(TableError, match="row 'mine': activation='gelu'"):
        table_from_dict({"name": "mine", "layers": [CONV], "activation": "gelu"})
    with pytest.raises(TableError, match="row conv1: bare='no'. Expected true or false"):
        table_from_dict({"name": "mine", "layers": [{**CONV, "bare": "no"}]})
    with pytest.raises(TableError, match="row 'mine': source=1. Expected a string"):
        table_from_dict({"name": "mine", "layers": [CONV], "source": 1})


def test_a_table_in_toml_builds_the_same_network(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        """
        name = "mine"
        source = "my notes"
        classes = 7
        image_size = 64
        [[root]]
        kind = "conv"
        name = "conv1"
        channels = 8
        kernel = 7
        stride = 2
        [[root]]
        kind = "pool"
        name = "pool1"
        [[blocks]]
        name = "block1"
        units = 2
        width = 8
        channels = 32
        groups = 4
        rate = 2
        [[blocks]]
        name = "block2"
        units = 1
        width = 16
        channels = 64
        stride = 2
        """
    )
    mine = Table(
        "mine",
        (Conv("conv1", 8, 7, 2), Pool("pool1")),
        blocks=(Block("block1", 2, 8, 32, groups=4, rate=2), Block("block2", 1, 16, 64, 2)),
        classes=7,
        image_size=64,
    )
    assert read_table(path) == mine
    net = forebear.create(path, dialect="torchvision")
    assert net.table == mine
    assert net.table.source == "my notes"
    assert net.plan.num_classes == 7
    with pytest.raises(ValueError, match="dialect=None: the table 'mine' is your own"):
        forebear.create(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "name = ", "a.toml: this is not valid TOML"),
        ("a.json", "{", "a.json: this is not valid JSON"),
        ("a.json", "[]", "a.json: list instead of a table"),
        ("a.json", '{"name": "x", "blocks": 3}', "blocks=3: expected a list of rows"),
        ("a.json", '{"blocks": []}', "the key 'name' is missing"),
        ("a.json", '{"name": "x", "root": [{"kind": "cov"}]}', "kind='cov'. Expected one of conv"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TableError, match=message):
        read_table(tmp_path / name)
    with pytest.raises(TableError, match="cannot be read"):
        read_table(tmp_path / "none.toml")
