"""Rows and tables: what makes two of them equal, and which are refused."""

from __future__ import annotations

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
