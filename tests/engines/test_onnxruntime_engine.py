from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from forebear.errors import WeightsError
from forebear.tables.preprocessing import TIMM_V2
from tests.engines.test_onnx_model import distance, expected, pixels, prepared, sized
from tests.network.making import make, table

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from forebear.engines.onnx_model import write_onnx
from forebear.engines.onnxruntime_engine import OnnxRuntimeEngine


def test_floats_are_rounded_for_a_graph_of_uint8(tmp_path: Path) -> None:
    network = prepared(make(table(), "torchvision", num_classes=4), sized(TIMM_V2, 65))
    write_onnx(network, tmp_path / "m.onnx")
    given = pixels(network.preprocessing)
    engine = OnnxRuntimeEngine(tmp_path / "m.onnx")
    near = np.clip(given.astype(np.float32), 1, 254) + np.float32(0.3)
    assert distance(engine(near), expected(network, np.clip(given, 1, 254))) < 4e-6
    assert (engine.name, engine.precision) == ("onnxruntime", "fp32")


def test_the_optimised_graph_is_kept_and_equal(tmp_path: Path) -> None:
    network = prepared(make(table(), "torchvision", num_classes=4), sized(TIMM_V2, 65))
    write_onnx(network, tmp_path / "m.onnx")
    given = pixels(network.preprocessing)
    wanted = OnnxRuntimeEngine(tmp_path / "m.onnx")(given)
    cache = tmp_path / "cache"
    cache.mkdir()
    first = OnnxRuntimeEngine(tmp_path / "m.onnx", cache=cache)(given)
    (kept,) = cache.iterdir()
    assert kept.name.startswith("onnxruntime-")
    before = kept.stat().st_mtime_ns
    again = OnnxRuntimeEngine(tmp_path / "m.onnx", cache=cache)(given)
    assert np.array_equal(first, wanted)
    assert np.array_equal(again, wanted)
    assert kept.stat().st_mtime_ns == before
    kept.write_bytes(kept.read_bytes()[:100])
    assert np.array_equal(OnnxRuntimeEngine(tmp_path / "m.onnx", cache=cache)(given), wanted)
    assert kept.stat().st_size > 100


def test_a_damaged_graph_is_refused(tmp_path: Path) -> None:
    network = prepared(make(table(), "torchvision", num_classes=4), sized(TIMM_V2, 65))
    card = write_onnx(network, tmp_path / "m.onnx")
    content = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match="ONNX Runtime cannot load it"):
        OnnxRuntimeEngine(tmp_path / "m.onnx", card=card)


def test_a_cache_that_cannot_be_written_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = prepared(make(table(), "torchvision", num_classes=4), sized(TIMM_V2, 65))
    write_onnx(network, tmp_path / "m.onnx")
    given, cache = pixels(network.preprocessing), tmp_path / "cache"
    wanted = OnnxRuntimeEngine(tmp_path / "m.onnx")(given)
    missing = OnnxRuntimeEngine(tmp_path / "m.onnx", cache=cache)  # there is no such folder
    assert np.array_equal(missing(given), wanted)
    cache.mkdir()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("forebear.files.os.fsync", full)
    assert np.array_equal(OnnxRuntimeEngine(tmp_path / "m.onnx", cache=cache)(given), wanted)
    assert list(cache.iterdir()) == []
