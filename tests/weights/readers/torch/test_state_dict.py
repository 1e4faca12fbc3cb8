from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forebear.weights.readers.detect import open_arrays
from forebear.weights.readers.torch.state_dict import LEGACY_START
from tests.weights.readers.making import assert_same, expected, refusal, shared
from tests.weights.readers.torch.making import KINDS, save


@pytest.mark.parametrize("name", ["zip_format.pth", "legacy_format.pth"])
def test_published_forms_come_bit_for_bit(name: str) -> None:
    path = shared(f"goldens/checkpoints/torch_tiny_cifar.{name}")
    wanted = expected(path)
    if "legacy" in name:
        wanted = {name: wanted[name] for name in wanted if "num_batches" not in name}
    with open_arrays(path) as arrays:
        assert_same(arrays, wanted)


def test_a_wrapped_state_dict_is_unwrapped() -> None:
    path = shared("goldens/checkpoints/torch_tiny_cifar.legacy_wrapped_module.th")
    wanted = expected(path)
    with open_arrays(path) as arrays:
        assert arrays.format == "torch legacy pickle"
        assert_same(arrays, {name: wanted[name] for name in wanted if "num_batches" not in name})


def test_the_published_file_of_the_cifar_networks_is_read() -> None:
    with open_arrays(shared("data/checkpoints/resnet20-12fca82f.th")) as arrays:
        assert len(arrays) == 97
        assert arrays.shape("linear.weight") == (10, 64)
        assert sum(array.size for array in arrays.values()) == 269_722 + 2 * 688


@KINDS
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_wrappers_and_prefixes_are_taken_off(
    zipped: bool, wrapper: str | None, prefix: str, tmp_path: Path
) -> None:
    state = {f"{prefix}conv1.weight": torch.ones(2, 3), f"{prefix}fc.bias": torch.zeros(3)}
    content: dict[str, Any] = {wrapper: state, "epoch": 3} if wrapper else state
    with open_arrays(save(tmp_path / "a.pth", content, zipped=zipped)) as arrays:
        assert list(arrays) == ["conv1.weight", "fc.bias"]


def test_a_prefix_of_some_names_stays(tmp_path: Path) -> None:
    state = {"backbone.conv1": torch.ones(1), "head.fc": torch.ones(1)}
    with open_arrays(save(tmp_path / "a.pth", state)) as arrays:
        assert list(arrays) == list(state)


@KINDS
def test_every_type_comes_as_it_is_and_bfloat16_as_float32(zipped: bool, tmp_path: Path) -> None:
    values = torch.tensor([0.0, 1.0, 2.0, 100.0])
    kinds = [torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16]
    kinds += [torch.int8, torch.uint8, torch.bool]
    state = {str(kind): values.to(kind) for kind in kinds}
    wanted = {name: tensor.numpy() for name, tensor in state.items()}
    state["bfloat16"] = torch.tensor([1.5, -3e38]).bfloat16()
    wanted["bfloat16"] = state["bfloat16"].float().numpy()
    state["turned"] = torch.arange(6.0).reshape(2, 3).T
    wanted["turned"] = np.arange(6, dtype="f4").reshape(2, 3).T
    state["scalar"], wanted["scalar"] = torch.tensor(7), np.array(7)
    state["parameter"] = torch.nn.Parameter(torch.ones(2))
    wanted["parameter"] = np.ones(2, "f4")
    with open_arrays(save(tmp_path / "a.pth", state, zipped=zipped)) as arrays:
        assert_same(arrays, wanted)


def test_arrays_outlive_their_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.arange(1000.0)})
    with open_arrays(path) as arrays:
        array = arrays["a"]
    path.write_bytes(b"")
    assert array[999] == 999


def test_the_name_does_not_tell(tmp_path: Path) -> None:
    for zipped in (True, False):
        path = save(tmp_path / "a.pth", {"a": torch.ones(1)}, zipped=zipped)
        with open_arrays(path.replace(path.with_suffix(".safetensors"))) as arrays:
            assert list(arrays) == ["a"]


def other_tensors() -> dict[str, torch.Tensor]:
    return {
        "coo": torch.ones(2, 2).to_sparse(),
        "csr": torch.ones(2, 2).to_sparse_csr(),
        "meta": torch.ones(2, device="meta"),
        "quantised": torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8),
        "complex": torch.ones(2, dtype=torch.complex64),
        "float8": torch.ones(2).to(torch.float8_e4m3fn),
    }


@KINDS
@pytest.mark.parametrize("kind", ["coo", "csr", "meta", "quantised", "complex", "float8"])
@pytest.mark.filterwarnings("ignore")
def test_other_tensors_than_dense_ones_are_refused(zipped: bool, kind: str, tmp_path: Path) -> None:
    refusal(save(tmp_path / "a.pth", {"a": other_tensors()[kind]}, zipped=zipped))


@pytest.mark.parametrize("content", [torch.ones(2), [torch.ones(2)], 3, {}, {"a": 3}, {3: 4}])
def test_what_is_no_state_dict_is_told(content: object, tmp_path: Path) -> None:
    assert "ave" in refusal(save(tmp_path / "a.pth", content))


@KINDS
def test_shared_storages_and_views_are_copied(zipped: bool, tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    state = {"a": whole, "tied": whole, "row": whole[2], "turned": whole.T, "some": whole[::2, 1:5]}
    state["repeated"] = torch.tensor([3.0]).expand(7)
    wanted = {name: tensor.numpy().copy() for name, tensor in state.items()}
    with open_arrays(save(tmp_path / "a.pth", state, zipped=zipped)) as arrays:
        assert_same(arrays, wanted)


@KINDS
def test_a_storage_shared_by_thousands_is_refused(zipped: bool, tmp_path: Path) -> None:
    tensor = torch.ones(10_000)
    state = {f"a{i}": tensor.view(100, 100) for i in range(1000)}
    assert "the tensors have" in refusal(save(tmp_path / "a.pth", state, zipped=zipped))


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    assert "TorchScript" in refusal(path)


def test_a_tar_archive_is_refused_also_behind_a_pickles_start(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("storages")
        info.size = 10
        archive.addfile(info, io.BytesIO(bytes(10)))
    assert "tar archive" in refusal(path)
    header = bytearray(path.read_bytes())
    header[:100] = LEGACY_START.ljust(100, b"\0")
    header[148:156] = b"        "
    header[148:156] = f"{sum(header[:512]):06o}\0 ".encode()
    path.write_bytes(header)
    assert "it is both a tar archive and a pickle" in refusal(path)


def test_a_name_without_bound_is_refused(tmp_path: Path) -> None:
    assert "this name has 2000 characters" in refusal(
        save(tmp_path / "a.pth", {"a" * 2000: torch.ones(500)})
    )
