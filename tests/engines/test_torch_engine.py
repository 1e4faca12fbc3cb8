from __future__ import annotations

import pytest
import torch

from forebear.engines.engine import EnginePrecision
from forebear.engines.torch_engine import TorchEngine
from forebear.hardware import processor
from forebear.tables.preprocessing import KERAS_CAFFE, SLIM_VGG, TIMM_V2, Preprocessing
from tests.engines.test_onnx_model import distance, expected, pixels, prepared, sized
from tests.network.making import make, table


@pytest.mark.parametrize("rule", [KERAS_CAFFE, TIMM_V2, SLIM_VGG], ids=["BGR", "std", "mean"])
@pytest.mark.parametrize("dialect", ["keras-v1", "slim-v2"])
def test_equal_logits(dialect: str, rule: Preprocessing) -> None:
    network = prepared(make(table(), dialect, num_classes=4), sized(rule, 65))
    before = {name: array.clone() for name, array in network.state_dict().items()}
    given = pixels(network.preprocessing)
    wanted = expected(network, given)
    assert distance(TorchEngine(network)(given), wanted) < 4e-6
    assert all(array.equal(before[name]) for name, array in network.state_dict().items())


@pytest.mark.skipif(
    processor().level != "avx512-bf16", reason="this processor has no AVX-512 for bfloat16"
)
def test_bf16_is_near() -> None:
    network = prepared(make(table(), "torchvision", num_classes=4), sized(TIMM_V2, 65))
    given = pixels(network.preprocessing)
    wanted = expected(network, given)
    engine = TorchEngine(network, precision="bf16")
    assert 1e-5 < distance(engine(given), wanted) < 0.05
    assert next(network.parameters()).dtype.itemsize == 4


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32),
                                                  ("bf16", torch.bfloat16)])  # fmt: skip
def test_logits_stay_on_the_device(precision: EnginePrecision, dtype: torch.dtype) -> None:
    """The device "meta" has shapes only."""
    network = prepared(make(table("basic"), "torchvision", num_classes=4), sized(TIMM_V2, 65))
    engine = TorchEngine(network, precision=precision, device="meta")
    logits = engine.logits(torch.empty(2, 65, 65, 3, dtype=torch.uint8, device="meta"))
    assert (logits.shape, logits.dtype, logits.device.type) == ((2, 4), dtype, "meta")
    assert next(network.parameters()).device.type == "cpu"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")  # torch's own
def test_compiled_logits_are_equal() -> None:
    network = prepared(make(table("basic"), "torchvision", num_classes=4), sized(TIMM_V2, 65))
    given = pixels(network.preprocessing)
    engine = TorchEngine(network, compiled=True)
    assert engine.name == "compile"
    assert distance(engine(given), expected(network, given)) < 1e-5


def test_threads_are_those_that_are_asked_for() -> None:
    before = torch.get_num_threads()
    try:
        network = prepared(make(table("basic"), "torchvision", num_classes=4), sized(TIMM_V2, 65))
        TorchEngine(network)
        assert torch.get_num_threads() == before
        TorchEngine(network, threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
