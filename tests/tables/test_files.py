"""Tables from lists, plain data, TOML and JSON."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import forebear
from forebear import Block, Conv, Pool, Table, TableError
from forebear.network.plan.cost import parameters
from forebear.network.plan.expand import expand
from forebear.tables.dialects import DIALECTS
from forebear.tables.files import read_table, table_from_dict, table_from_lists

LISTS_18 = [[2, [[width, (3, 3)], [width, (3, 3)]]] for width in (64, 128, 256, 512)]


LISTS_50 = [
    [units, [[width, (1, 1)], [width, (3, 3)], [4 * width, (1, 1)]]]
    for units, width in ((3, 64), (4, 128), (6, 256), (3, 512))
]


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
        ({"units": 0}, "row b2: units=0. Expected a positive integer of at most 10,000. Correct"),
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
        ("a.json", "[" * 100_000, r"a.json: this is not valid JSON \(nested more than 64 levels"),
        (
            "a.toml",
            f"a = {'[' * 9_000}{']' * 9_000}",
            r"not valid TOML \(nested more than 64 levels",
        ),
        ("a.json", '{"name": "x", "root": [{"kind": []}]}', r"kind=\[\]. Expected one of conv"),
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


@pytest.mark.parametrize("ending", ["json", "toml"])
def test_what_is_no_small_file_is_refused_at_once(tmp_path: Path, ending: str) -> None:
    pipe, device, large = (tmp_path / f"{name}.{ending}" for name in ("pipe", "device", "large"))
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    with large.open("wb") as file:
        file.truncate(20 * 2**30)
    with pytest.raises(TableError, match=r"the file cannot be read \(it is a pipe, not a file\)"):
        read_table(pipe)
    with pytest.raises(TableError, match=r"the file cannot be read \(it is a device, not a file\)"):
        read_table(device)
    with pytest.raises(TableError, match=r"it has 21,474,836,480 bytes, more than the limit of"):
        read_table(large)


def test_a_number_of_too_many_digits_is_refused_by_its_row(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    units = "0x" + "f" * 20_000  # Python does not print it
    path.write_text(f'name = "a"\n[[blocks]]\nname = "b"\nwidth = 4\nchannels = 4\nunits = {units}')
    with pytest.raises(TableError, match="row b: units=a number of too many digits. Expected"):
        read_table(path)
