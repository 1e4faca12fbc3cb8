from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from forebear.data.images.preprocess import normalise
from forebear.tables.preprocessing import KERAS_CAFFE, SLIM_VGG, TIMM_V2, Preprocessing
from tests.engines.test_onnx_model import distance, expected, pixels, prepared, sized
from tests.network.making import make, table

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from forebear.engines import engine
from forebear.engines.graph_network import GraphNetwork
from forebear.engines.make import open_graph
from forebear.engines.onnx_model import write_onnx


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("rule", [KERAS_CAFFE, TIMM_V2, SLIM_VGG], ids=["BGR", "std", "mean"])
def test_it_takes_what_the_network_takes(rule: Preprocessing, inside: bool, tmp_path: Path) -> None:
    network = prepared(make(table("basic"), "timm", num_classes=3), sized(rule, 64))
    write_onnx(network, tmp_path / "m.onnx", pixels=inside)
    graph = GraphNetwork(*open_graph(tmp_path / "m.onnx", threads=1))
    given = pixels(network.preprocessing)
    images = np.stack([normalise(one, network.preprocessing) for one in given])
    found = graph(torch.from_numpy(images)).numpy()
    assert distance(found, expected(network, given)) < 1e-5
    assert graph.table.name == "small"
    assert graph.preprocessing == network.preprocessing


def test_a_missing_runtime_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engine.LIBRARIES, "onnxruntime", ("onnx", "no_such_module"))
    with pytest.raises(ValueError, match=r"pip install 'forebear\[onnx\]'"):
        open_graph(tmp_path / "m.onnx")
