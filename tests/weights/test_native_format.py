"""forebear's own weight files: what they keep, and that damage is seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import forebear
from forebear import WeightsError
from tests.network.making import make


def test_damage_in_a_file_of_ours_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    forebear.save(make("paper/resnet20"), path)
    whole = bytearray(path.read_bytes())
    whole[-1000] ^= 1
    path.write_bytes(whole)
    with pytest.raises(WeightsError, match="its arrays do not match their SHA-256"):
        forebear.load(path)


def test_the_source_of_a_table_is_kept_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    net = make("paper/resnet20")
    forebear.save(net, path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["table_source"].startswith("He et al. 2015 (arXiv 1512.03385), section 4.2")
    assert "source" not in json.loads(metadata["table"])  # forebear without sources reads it
    assert forebear.load(path).table.source == net.table.source == metadata["table_source"]
    del metadata["table_source"]  # as files were before
    save_file(net.state_dict(), path, metadata)
    older = forebear.load(path).table
    assert older.source == ""
    assert older == net.table


def test_a_file_of_the_first_format_stays_readable() -> None:
    net = forebear.load(Path(__file__).parent / "format1.safetensors")
    assert (net.table.name, net.dialect.name, net.classes) == ("kept", "torchvision", ("a", "b"))
    assert net.card.metrics == {"top1": 0.5}
    assert net.card.provenance == {"file": "made by hand"}
    image = torch.linspace(-1, 1, 3 * 64).reshape(1, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(net(image), torch.tensor([[-0.3189, 0.0302]]), atol=1e-4, rtol=0)
