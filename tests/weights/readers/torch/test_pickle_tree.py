"""Pickles that ask for code, or for too much memory, are refused before any is executed."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from forebear.weights.readers.torch.state_dict import LEGACY_START
from tests.weights.readers.making import Tempting, refusal
from tests.weights.readers.torch.making import KINDS, rezip, save


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


@KINDS
def test_a_value_shown_a_billion_times_is_refused(zipped: bool, tmp_path: Path) -> None:
    state = {"small": torch.ones(1), "a": torch.ones(1).expand(10**9)}
    said = refusal(save(tmp_path / "a.pth", state, zipped=zipped))
    assert "asks for 1000000000 values" in said
    state["a"] = torch.ones(1).expand(400, 400, 400)
    said = refusal(save(tmp_path / "a.pth", state, zipped=zipped))
    assert "a: with [400, 400, 400] the tensors have 256000004 bytes" in said


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
    deep = b"\x80\x02}K\x01" + b"\x85" * 1_100_000 + b"K\x01s."
    path = save(tmp_path / "a.pth", {"a": torch.ones(1)})
    assert "more than 1000000 objects" in refusal(rezip(path, {"data.pkl": deep}))
    path.write_bytes(LEGACY_START + deep)
    assert "more than 1000000 objects" in refusal(path)
