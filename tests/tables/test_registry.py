"""The published networks: each is whole, names its source, and is found by its name."""

from __future__ import annotations

import json
import re

import pytest

import forebear
from forebear.network.plan.cost import measure, parameters
from forebear.tables.files import table_from_dict, table_to_dict
from forebear.tables.registry import NETWORKS, find
from tests.tables.making import spelled


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


def test_networks_are_found_by_pattern_and_wrong_names_get_near_misses() -> None:
    assert forebear.networks("slim/resnet_v2_*") == [
        f"slim/resnet_v2_{depth}" for depth in (50, 101, 152, 200)
    ]
    with pytest.raises(ValueError, match="network='resnet_v1_50' is unknown.*slim/resnet_v1_50"):
        find("resnet_v1_50")
    with pytest.raises(ValueError, match="Did you mean slim/resnet_v1_50"):
        find("slim/resnet_v1_5O")


@pytest.mark.parametrize(
    ("name", "millions"), [("32x16d", 194.03), ("32x32d", 468.53), ("32x48d", 828.41)]
)
def test_wide_resnexts_have_the_parameters_of_instagrams(name: str, millions: float) -> None:
    """Counted in the plan. The figures of 16d and 32d are timm's, that of 48d WSL-Images'."""
    count = parameters(spelled(f"timm/resnext101_{name}"))[0]
    assert count / 1e6 == pytest.approx(millions, abs=0.005)
