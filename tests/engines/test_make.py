from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from forebear.engines.make import EngineMaker, reference
from forebear.engines.torch_engine import TorchEngine
from tests.engines.test_onnx_model import distance
from tests.tasks.export.test_formats import small

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def test_engines_are_made_once_and_outlive_the_graph(tmp_path: Path) -> None:
    network = small()
    pixels, wanted = reference(network)
    with EngineMaker(network, "fp32", threads=1) as maker:
        engine = maker.make("onnxruntime")
        assert maker.make("onnxruntime") is engine
    assert distance(engine(pixels), wanted) < 1e-5
    assert pixels.shape == (8, 64, 64, 3)


def test_the_graph_is_kept_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "engines" / "key"
    with EngineMaker(small(), "fp32", folder=folder) as maker:
        maker.make("torch")
        assert not folder.exists()
        maker.make("onnxruntime")
    assert (folder / "fp32.onnx").is_file()


def test_the_device_is_that_of_torch() -> None:
    with EngineMaker(small(), "fp32", device="meta") as maker:
        engine = maker.make("torch")
        assert isinstance(engine, TorchEngine)
        given = torch.empty(1, 64, 64, 3, dtype=torch.uint8, device="meta")
        assert engine.logits(given).device.type == "meta"
        assert maker.make("onnxruntime")(np.zeros((1, 64, 64, 3), np.uint8)).shape[0] == 1
