"""Rows and tables: what makes two of them equal, and which are refused."""

from __future__ import annotations

import pytest

from forebear import Block, Conv, Table, TableError
from forebear.network.plan.expand import expand
from forebear.tables.dialects import DIALECTS
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
