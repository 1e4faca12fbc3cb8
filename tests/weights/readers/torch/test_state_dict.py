from __future__ import annotations

import io
import pickle
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch

from forebear import WeightsError
from forebear.weights.readers.detect import open_arrays
from forebear.weights.readers.torch.state_dict import LEGACY_START, TorchArrays
from tests.weights.readers.making import Tempting, assert_same, expected, refusal, shared

KINDS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(path: Path, content: object, *, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def rezip(path: Path, changed: dict[str, bytes], method: int = 0) -> Path:
    """Writes an archive again with other members, or by another method."""
    with ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    folder = next(iter(members)).split("/")[0]
    members |= {f"{folder}/{name}": data for name, data in changed.items()}
    with ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


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


@KINDS
@pytest.mark.parametrize("call", ["system", "exec", "eval"])
@pytest.mark.parametrize("place", ["alone", "beside", "nested", "key"])
def test_code_is_refused_by_name_and_not_run(
    zipped: bool, call: str, place: str, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    evil = Tempting(canary, call)
    content: object = {
        "alone": evil,
        "beside": {"a": torch.ones(1), "b": evil},
        "nested": {"state_dict": {"a": torch.ones(1)}, "epoch": [1, {"x": (evil,)}]},
        "key": OrderedDict([(evil, torch.ones(1))]),
    }[place]
    said = refusal(save(tmp_path / "a.pth", content, zipped=zipped))
    assert call in said
    assert "nothing was executed" in said
    assert not canary.exists()


@pytest.mark.parametrize("protocol", [0, 3, 4])
def test_code_in_other_protocols_is_refused(protocol: int, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    data = pickle.dumps(Tempting(canary, "system"), protocol)
    path = save(tmp_path / "a.pth", {"a": torch.ones(1)})
    assert refusal(rezip(path, {"data.pkl": data}))
    path.write_bytes(LEGACY_START + data)
    refusal(path)
    assert not canary.exists()


def test_a_whole_module_is_refused_with_what_to_do(tmp_path: Path) -> None:
    said = refusal(save(tmp_path / "a.pth", torch.nn.Linear(2, 2)))
    assert "torch.nn.modules.linear.Linear" in said
    assert "save only model.state_dict()" in said


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
def test_a_value_shown_a_billion_times_is_refused(zipped: bool, tmp_path: Path) -> None:
    state = {"small": torch.ones(1), "a": torch.ones(1).expand(10**9)}
    said = refusal(save(tmp_path / "a.pth", state, zipped=zipped))
    assert "asks for 1000000000 values" in said
    state["a"] = torch.ones(1).expand(400)
    said = refusal(save(tmp_path / "a.pth", state, zipped=zipped))
    assert "a: with [400] the tensors have 1604 bytes" in said


@KINDS
def test_a_storage_shared_by_many_is_refused(zipped: bool, tmp_path: Path) -> None:
    tensor = torch.ones(10_000)
    state = {f"a{i}": tensor.view(100, 100) for i in range(100)}
    assert "every value stored" in refusal(save(tmp_path / "a.pth", state, zipped=zipped))


@KINDS
def test_a_shape_beyond_its_storage_is_refused(zipped: bool, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.ones(77, 3)}, zipped=zipped)
    small, large = b"K\x4d", b"J\x00\xca\x9a\x3b"  # 77, and 10 ** 9
    if zipped:
        with ZipFile(path) as archive:
            pickled = archive.read("a/data.pkl")
        refusal(rezip(path, {"data.pkl": pickled.replace(small, large)}))
        numel = pickled.replace(b"K\xe7", b"J\x00\xca\x9a\x3b").replace(small, large)
        refusal(rezip(path, {"data.pkl": numel}))
    else:
        data = path.read_bytes()
        path.write_bytes(data.replace(small, large))
        refusal(path)
        path.write_bytes(data.replace(b"K\xe7", large).replace(small, large))
        refusal(path)


def test_tuples_without_bound_do_not_reach_the_stack(tmp_path: Path) -> None:
    deep = b"\x80\x02}K\x01" + b"\x85" * 300_000 + b"K\x01s."
    path = save(tmp_path / "a.pth", {"a": torch.ones(1)})
    assert "more than 50000 tuples" in refusal(rezip(path, {"data.pkl": deep}))
    path.write_bytes(LEGACY_START + deep)
    assert "more than 50000 tuples" in refusal(path)


def test_a_flipped_bit_in_the_values_is_found(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.ones(1000)})
    data = bytearray(path.read_bytes())
    data[data.index(b"\x00\x00\x80\x3f") + 400] ^= 1
    path.write_bytes(data)
    assert "CRC-32" in refusal(path)


def test_an_archive_without_checksums_is_read(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        path = save(tmp_path / "a.pth", {"a": torch.ones(3)})
    finally:
        torch.serialization.set_crc32_options(before)
    with open_arrays(path) as arrays:
        assert_same(arrays, {"a": np.ones(3, "f4")})


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.zeros(1000)})
    assert "compressed" in refusal(rezip(path, {}, ZIP_DEFLATED))


def test_members_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.zeros(10)})
    assert "differ only in case" in refusal(rezip(path, {"DATA.pkl": b""}))


def test_a_second_directory_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.zeros(10)})
    data = path.read_bytes()
    path.write_bytes(data + data[-22:])
    refusal(path)
    path.write_bytes(data[:64] + data)  # moved: Python's zipfile would make up for it
    refusal(path)


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


def test_an_older_torch_reads_no_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.ones(1)})
    monkeypatch.setattr(torch, "__version__", "2.9.1")
    with pytest.raises(WeightsError, match=r"torch 2\.9\.1.*Expected 2\.10 or later"):
        TorchArrays(path)
