from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forebear.weights.readers import pickled_arrays
from forebear.weights.readers.detect import open_arrays
from forebear.weights.readers.pickled_arrays import FOLDED_VARIANCE, dots
from tests.weights.readers.making import Tempting, assert_same, refusal

ARRAYS = {"conv1.weight": np.arange(6, dtype="f4").reshape(2, 3), "fc.bias": np.ones(3, "f2")}


def written(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_come_as_they_are(protocol: int, tmp_path: Path) -> None:
    names = {"StructuredToParameterName@@": {"conv1.weight": "conv2d_0.w_0"}}
    path = written(tmp_path / "w.pdparams", ARRAYS | names, protocol)
    with open_arrays(path) as arrays:
        assert arrays.format == "pickle of numpy arrays"
        assert_same(arrays, ARRAYS)


def test_the_names_of_dicts_come_first(tmp_path: Path) -> None:
    path = written(tmp_path / "w.pkl", {"model": ARRAYS, "__author__": "x", "epoch": 3})
    with open_arrays(path) as arrays:
        assert list(arrays) == ["model.conv1.weight", "model.fc.bias"]


def test_caffe2_names_get_dots_and_folded_norms_statistics(tmp_path: Path) -> None:
    ones = np.ones(2, "f4")
    blobs = {
        "conv1_w": np.ones((2, 3, 7, 7), "f4"),
        "res_conv1_bn_s": 3 * ones,
        "res_conv1_bn_b": ones,
        "res2_0_branch2a_w": np.ones((2, 2, 3, 3), "f4"),
        "conv1_w_momentum": ones,
        "lr": ones,
    }
    path = written(tmp_path / "w.pkl", {"blobs": blobs})
    with open_arrays(path) as arrays:
        assert sorted(arrays) == sorted(
            f"blobs.{name}"
            for name in (
                "conv1.w", "res_conv1_bn.s", "res_conv1_bn.b", "res_conv1_bn.rm",
                "res_conv1_bn.riv", "res2_0_branch2a.w", "lr",
            )
        )  # fmt: skip
        assert arrays["blobs.res_conv1_bn.s"].tolist() == [3, 3]
        assert arrays["blobs.res_conv1_bn.rm"].tolist() == [0, 0]
        assert np.allclose(arrays["blobs.res_conv1_bn.riv"] + 1e-5, 1)
        assert FOLDED_VARIANCE + 1e-5 == 1


def test_names_of_others_stay() -> None:
    assert dots(["pred_w", "conv1_b"]) == {"pred_w": "pred_w", "conv1_b": "conv1_b"}


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.pkl"
    assert "it holds no arrays with names" in refusal(written(path, {"a": 1}))
    assert "it holds no arrays with names" in refusal(written(path, [np.ones(2)]))
    said = refusal(written(path, {"w": torch.ones(2)}))
    assert "that torch.save did not write: the pickle refers to torch" in said
    monkeypatch.setattr(pickled_arrays, "PICKLED_ARRAYS_BYTES", 10)
    assert "at most 10 bytes" in refusal(written(path, ARRAYS))


def test_nothing_is_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    path = written(tmp_path / "w.pkl", {"w": Tempting(made, "system")})
    assert "which was not run" in refusal(path)
    assert not made.exists()
    path.write_bytes(b"\x80\x04\x95" + bytes(100))
    assert "a pickle that torch.save did not write: not a readable pickle" in refusal(path)
