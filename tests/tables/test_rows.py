"""Rows and tables: what makes two of them equal, and which are refused."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from forebear import Block, Conv, Table, TableError
from forebear.tables.files import table_from_dict, table_to_dict
from forebear.tables.registry import find


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


CONV = {"kind": "conv", "name": "conv1", "channels": 6, "kernel": 3}
BLOCKS = (Block("b1", 1, 8, 16, groups=8), Block("b2", 1, 8, 8))


def test_a_table_has_either_blocks_or_layers() -> None:
    with pytest.raises(TableError, match="row 'mine': it has no blocks or layers"):
        Table("mine", (Conv("conv1", 6, 3),))
    with pytest.raises(TableError, match="row 'mine': it has both blocks and layers"):
        Table("mine", (), blocks=BLOCKS, layers=(Conv("conv1", 6, 3),))


def test_values_that_no_table_can_have_are_refused_by_row() -> None:
    with pytest.raises(TableError, match="activation='hardswish'. Expected .* a table of layers"):
        Table("mine", (), blocks=BLOCKS, activation="hardswish")
    with pytest.raises(TableError, match="row 'mine': activation='gelu'"):
        table_from_dict({"name": "mine", "layers": [CONV], "activation": "gelu"})
    with pytest.raises(TableError, match="row conv1: bare='no'. Expected true or false"):
        table_from_dict({"name": "mine", "layers": [{**CONV, "bare": "no"}]})
    with pytest.raises(TableError, match="row 'mine': source=1. Expected a string"):
        table_from_dict({"name": "mine", "layers": [CONV], "source": 1})


BLOCK = {"name": "b1", "units": 1, "width": 8, "channels": 8}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": 10**9}, "row b1: units=1000000000. Expected a positive integer of at most 10,0"),
        ({"units": 10_001}, "row b1: units=10001. Expected a positive integer of at most 10,000"),
        ({"units": True}, "row b1: units=True. Expected a positive integer"),
        ({"units": [1]}, r"row b1: units=\[1\]. Expected a positive integer"),
        ({"width": 10**12}, "row b1: width=.*of at most 100,000"),
        ({"channels": 100_001}, "row b1: channels=100001. Expected .* of at most 100,000"),
        ({"groups": 10**6}, "row b1: groups=1000000. Expected .* of at most 100,000"),
        ({"stride": 1001}, "row b1: stride=1001. Expected .* of at most 1,000"),
        ({"rate": 1001}, "row b1: rate=1001. Expected .* of at most 1,000"),
        ({"convs": [[8, 1001]]}, "row b1: kernel=1001. Expected .* of at most 1,000"),
        ({"convs": [[10**6, 1]]}, "row b1: channels=1000000. Expected .* of at most 100,000"),
        ({"convs": [[8, 1]] * 101}, "row b1: convs has 101 convolutions. Expected at most 100"),
        ({"convs": 7}, "row 'b1': convs=7. Expected a list of pairs"),
        ({"units": 1 << 100_000}, "row b1: units=a number of too many digits. Expected"),
        (
            {"name": "b" * 201},
            "this is not a valid module name. Expected .* at most 200 characters",
        ),
        ({"name": ["b1"]}, r"row \['b1'\]: this is not a valid module name"),
    ],
)
def test_every_count_of_a_block_has_an_upper_limit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError, match=message) as caught:
        table_from_dict({"name": "mine", "blocks": [{**BLOCK, **change}]})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 10**6}, "row conv1: channels=1000000. Expected .* of at most 100,000"),
        ({"kernel": 10**9}, "row conv1: kernel=1000000000. Expected .* of at most 1,000"),
        ({"stride": 10**9}, "row conv1: stride=1000000000. Expected .* of at most 1,000"),
        ({"padding": 10**9}, "padding=1000000000. Expected a number of pixels from 0 to 1,000, or"),
        ({"padding": True}, "row conv1: padding=True. Expected a number of pixels"),
        ({"kind": "average", "side": 1001}, "row conv1: side=1001. Expected .* of at most 1,000"),
        ({"kind": "pool", "kernel": 1001}, "row conv1: kernel=1001. Expected .* of at most 1,000"),
        ({"kind": "dropout", "share": "0.5"}, "row conv1: share='0.5'. Expected a fraction"),
        ({"kind": "dropout", "share": math.nan}, "row conv1: share=nan. Expected a fraction"),
        ({"kind": ["conv"]}, r"a row of layers: kind=\['conv'\]. Expected one of conv, pool"),
    ],
)
def test_every_count_of_a_layer_has_an_upper_limit(change: dict[str, Any], message: str) -> None:
    row = {**CONV, **change}
    if row["kind"] in ("average", "pool", "dropout"):
        row = {"kind": row["kind"], "name": "conv1", **change}
    with pytest.raises(TableError, match=message):
        table_from_dict({"name": "mine", "layers": [row]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 10**9}, "row 'mine': classes=1000000000. Expected .* of at most 100,000"),
        ({"image_size": 10**6}, "row 'mine': image_size=1000000. Expected .* of at most 8,192"),
        ({"shortcuts": 1}, "row 'mine': shortcuts=1. Expected true or false"),
        ({"name": "a\x1b[31m"}, r"row 'a\\x1b\[31m': this is not a valid name. Expected a string"),
        ({"name": 5}, "row 5: this is not a valid name. Expected a string of one line"),
        ({"source": "a\nb"}, r"source='a\\nb'. Expected a string of one line"),
        ({"form": ["basic"]}, r"form=\['basic'\]. Expected"),
    ],
)
def test_every_value_of_a_table_is_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError, match=message):
        table_from_dict({"name": "mine", "blocks": [BLOCK], **change})


def test_units_and_rows_are_limited_in_all() -> None:
    blocks = tuple(Block(f"b{number}", 5_000, 8, 8) for number in (1, 2))
    Table("mine", (), blocks=blocks)
    with pytest.raises(TableError, match=r"row 'mine': it has 10,001 units and rows. Expected at"):
        Table("mine", (Conv("conv1", 8, 3),), blocks=blocks)


def test_convolutions_are_limited_in_all() -> None:
    convs = ((8, 1),) * 100
    Table("mine", (), blocks=(Block("b1", 500, 8, 8, convs=convs),))
    with pytest.raises(TableError, match=r"row 'mine': its units have 50,100 convolutions. Exp"):
        Table("mine", (), blocks=(Block("b1", 501, 8, 8, convs=convs),))


def test_many_rows_are_refused_at_once() -> None:
    rows = [{**BLOCK, "name": f"b{number}"} for number in range(20_000)]
    start = time.perf_counter()
    with pytest.raises(TableError, match=r"^blocks: it has 20,000 rows. Expected at most 10,000"):
        table_from_dict({"name": "mine", "blocks": rows})
    table_from_dict({"name": "mine", "blocks": rows[:10_000]})  # names were counted in a square
    assert time.perf_counter() - start < 5
