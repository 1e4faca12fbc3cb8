from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from forebear.weights.readers.detect import open_arrays
from tests.weights.readers.making import assert_same, refusal


def sharded(folder: Path, weight_map: dict[str, str]) -> Path:
    """An index, and the shards of it that are plain names."""
    for shard in {shard for shard in weight_map.values() if "/" not in shard}:
        held = {name: torch.full((2, 3), 7.0) for name in weight_map if weight_map[name] == shard}
        save_file(held, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def raw(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_every_type_comes_as_it_is_and_bfloat16_as_float32(tmp_path: Path) -> None:
    kinds = [torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16]
    kinds += [torch.int8, torch.uint8, torch.bool]
    tensors = {str(kind): torch.tensor([[0.0, 1.0, 2.0]]).to(kind) for kind in kinds}
    tensors |= {"scalar": torch.tensor(7), "empty": torch.zeros(0, 3)}
    wanted = {name: tensor.numpy() for name, tensor in tensors.items()}
    tensors["bfloat16"] = torch.tensor([1.5, -3e38]).bfloat16()
    wanted["bfloat16"] = tensors["bfloat16"].float().numpy()
    save_file(tensors, tmp_path / "a.bin")
    with open_arrays(tmp_path / "a.bin") as arrays:
        assert arrays.format == "safetensors"
        assert_same(arrays, wanted)


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    names = {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}
    with open_arrays(sharded(tmp_path, names)) as arrays:
        assert arrays.format == "safetensors in shards"
        assert_same(arrays, {name: np.full((2, 3), 7.0, "f4") for name in names})


@pytest.mark.parametrize(
    "shard", ["../x.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "", "a\\x.safetensors"]
)
def test_a_shard_elsewhere_is_refused(shard: str, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    assert "it lists the shard" in refusal(index)


def test_an_index_that_does_not_fit_its_shards_is_refused(tmp_path: Path) -> None:
    index = sharded(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})
    for wrong in ({"a": "1.safetensors"}, {"a": "2.safetensors", "b": "1.safetensors"}):
        listed = {"b": "2.safetensors"} | wrong | {"more": "1.safetensors"}
        index.write_text(json.dumps({"weight_map": listed}))
        assert "not in the shard" in refusal(index)
    save_file({"a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "1.safetensors")
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors"}}))
    assert "b: this array is not in the shard" in refusal(index)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    index = sharded(tmp_path, {"a": "1.safetensors"})
    (tmp_path / "1.safetensors").unlink()
    with pytest.raises(Exception, match=r"1\.safetensors: cannot be read"):
        open_arrays(index)


@pytest.mark.parametrize("text", ["{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "{", "[]"])
def test_json_that_is_no_index_is_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(text)
    refusal(path)


def entry(**changed: object) -> dict[str, object]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changed}


@pytest.mark.parametrize(
    "header",
    [
        entry(shape=[3]),
        entry(shape=[2**62, 2**62]),
        entry(shape=[-2]),
        entry(data_offsets=[0, 9]),
        entry(data_offsets=[8, 0]),
        entry(data_offsets=[4, 12]),
        entry(dtype="F8_E4M3", shape=[8]),
        entry(dtype="OBJECT"),
        {"a": 3},
        {},
        b'{"a":' * 5000,
    ],
)
def test_malformed_headers_are_refused(header: object, tmp_path: Path) -> None:
    refusal(raw(tmp_path / "a.safetensors", header, bytes(8)))


def test_a_header_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((2**40).to_bytes(8, "little") + b"{}" + bytes(100))
    refusal(path)
