"""Dialects side by side: what is said of each is what its record and its networks are."""

from __future__ import annotations

from forebear.network.describe.dialect_table import find_dialects, side_by_side
from forebear.tables.dialects import DIALECTS
from forebear.tables.registry import NETWORKS


def test_every_network_is_in_the_row_of_its_dialect() -> None:
    rows = {row[0]: row[1].split(", ") for row in side_by_side(DIALECTS)[0].rows}
    for name, entry in NETWORKS.items():
        assert name in rows[entry.dialect.name]
    known = {name for networks in rows.values() for name in networks}
    assert known == {*NETWORKS, "no published network"}


def test_dialects_are_found_by_their_names_and_by_their_networks() -> None:
    assert find_dialects([]) == [*DIALECTS]
    assert find_dialects(["torchvision"]) == ["torchvision"]
    assert find_dialects(["slim"]) == ["slim-alexnet", "slim-v1", "slim-v2"]
    assert find_dialects(["torchvision/*", "slim-v1"]) == [
        "slim-v1", "torchvision", "torchvision-alexnet"
    ]  # fmt: skip
