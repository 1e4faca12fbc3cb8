"""Contenders of a comparison: what equals what, what cannot run, and what a step computes."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import forebear
from forebear.engines.engine import LIBRARIES, EngineName
from forebear.network.plan.cost import parameters
from forebear.network.plan.expand import expand
from forebear.tables.registry import NETWORKS, find
from forebear.tasks import speed_contenders
from forebear.tasks.speed_contenders import (
    EQUALS,
    PEERS,
    Conditions,
    engine_step,
    equal_network,
    full_name,
    peer_step,
    reason,
    training_step,
)

CPU = Conditions(
    batch=2, side=32, backward=False, device=torch.device("cpu"), precision="fp32"
)  # fmt: skip
BF16 = replace(CPU, precision="bf16")
CUDA = replace(CPU, device=torch.device("cuda"))
TRAINING = replace(CPU, backward=True)
SMALL = forebear.create("paper/resnet20").eval()


def test_a_name_without_its_family() -> None:
    lines: list[str] = []
    assert full_name("slim/resnet_v1_50", lines.append) == "slim/resnet_v1_50"
    assert full_name("ResNet50", lines.append) == "keras/ResNet50"
    assert lines == []
    assert full_name("resnet50", lines.append) == "torchvision/resnet50"
    assert lines == [
        "resnet50: torchvision/resnet50 is compared. timm/resnet50 and paper/resnet50 have this "
        "name too."
    ]


@pytest.mark.parametrize("name", ["mine.toml", "folder/mine.json"])
def test_table_files_are_not_compared(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: a comparison does not take table files"):
        full_name(name)


def test_an_unknown_name() -> None:
    with pytest.raises(ValueError, match="network='resnet51' is unknown"):
        full_name("resnet51")


@pytest.mark.parametrize(
    ("name", "peers"),
    [
        ("torchvision/resnet50", ["torchvision", "timm"]),
        ("torchvision/alexnet", ["torchvision", "timm"]),
        ("timm/resnetv2_50", ["timm"]),
        ("timm/resnet50", ["timm"]),
        ("keras/ResNet50V2", ["keras"]),
        ("slim/resnet_v1_50", []),
        ("slim/resnet_v2_50", []),
        ("slim/alexnet_v2", []),
        ("paper/resnet50", []),
    ],
)
def test_equal_networks(name: str, peers: list[str]) -> None:
    """TF-Slim's networks have another stride, another padding or another AlexNet."""
    for peer in peers:
        assert equal_network(peer, name) == name.partition("/")[2]
    for peer in set(PEERS) - set(peers):
        with pytest.raises(ValueError, match=name):
            equal_network(peer, name)


def test_a_network_without_an_equal_says_so() -> None:
    with pytest.raises(ValueError, match="^slim/x has no equal network in torchvision, timm or ke"):
        equal_network("timm", "slim/x")
    wanted = "^torchvision has no network that equals timm/x; the timm networks are compared with t"
    with pytest.raises(ValueError, match=wanted):
        equal_network("torchvision", "timm/x")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("operator torchvision::nms does not exist\nmore"),
         "operator torchvision::nms does not exist"),
        (ImportError("\n\n  first\nsecond"), "first"),
        (KeyError(), "KeyError"),
        (ValueError("a\tb"), r"a\tb"),
        (ValueError("x" * 999), "x" * 300 + "..."),
    ],
)  # fmt: skip
def test_reasons_are_one_line(error: Exception, line: str) -> None:
    assert reason(error) == line


@pytest.mark.parametrize(
    ("engine", "conditions", "message"),
    [
        ("onnxruntime", TRAINING, "onnxruntime has no backward pass"),
        ("openvino", CUDA, "openvino runs on the CPU, not on cuda"),
        ("onnxruntime", CUDA, "onnxruntime runs on the CPU, not on cuda"),
        ("onnxruntime", BF16, "onnxruntime computes in fp32 and int8, not bf16"),
    ],
)
def test_engines_that_cannot_run(
    engine: EngineName, conditions: Conditions, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIBRARIES, engine, (engine, "torch"))  # it is installed
    with pytest.raises(ValueError, match=f"^{message}$"):
        engine_step(SMALL, engine, conditions)


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIBRARIES, "openvino", ("openvino", "no_such_module"))
    wanted = r"^no_such_module is not installed; run pip install 'forebear\[openvino\]'$"
    with pytest.raises(ValueError, match=wanted):
        engine_step(SMALL, "openvino", CPU)


@pytest.mark.parametrize(("conditions", "dtype"), [(CPU, torch.float32), (BF16, torch.bfloat16)])
def test_a_step_of_eager_torch(conditions: Conditions, dtype: torch.dtype) -> None:
    """The input size is the comparison's, not the network's."""
    logits: Any = engine_step(SMALL, "torch", replace(conditions, side=40, width=48))()
    assert logits.shape == (2, 10)
    assert logits.dtype == dtype
    assert next(SMALL.parameters()).dtype == torch.float32


def test_a_step_of_a_graph() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    logits: Any = engine_step(SMALL, "onnxruntime", replace(CPU, side=40, width=48))()
    assert logits.shape == (2, 10)


@pytest.mark.parametrize(
    ("conditions", "allowed"),
    [
        (CPU, "1e-04 is allowed in fp32"),
        (BF16, "5e-02 is allowed in bf16"),
        (CUDA, "1e-04 is allowed in fp32"),
    ],
)
def test_an_engine_with_other_logits(
    conditions: Conditions, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong:
        def __init__(self, _: object, precision: str, *, device: torch.device) -> None:
            assert (precision, device) == (conditions.precision, conditions.device)

        __enter__ = make = lambda self, *_: self

        def __exit__(self, *_: object) -> None: ...

        def __call__(self, pixels: Any) -> Any:
            return np.zeros((len(pixels), 10), np.float32)

    monkeypatch.setattr(speed_contenders, "EngineMaker", Wrong)
    with pytest.raises(ValueError, match=f"by 1.0e.00 of the largest logit, where {allowed}"):
        engine_step(SMALL, "torch", conditions)


class Linear(nn.Module):
    """Keeps the dtype of its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 4, 5)
        self.given: list[Tensor] = []
        self.dtypes: list[torch.dtype] = []

    def __deepcopy__(self, _: object) -> Linear:
        return self

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        assert self.training
        self.given.append(x)
        self.dtypes.append(logits.dtype)
        return logits


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_steps_use_autocast(precision: Any) -> None:
    model = Linear().eval()
    conditions = replace(TRAINING, side=2, precision=precision)
    step = training_step(model, conditions, classes=5)
    grads: list[torch.dtype] = []
    hook: Any = model.linear.weight.register_hook
    hook(lambda grad: grads.append(grad.dtype))
    step()
    assert model.dtypes == [torch.bfloat16 if precision == "bf16" else torch.float32]
    assert grads == [torch.float32]  # of the weights, which stay in fp32
    assert model.linear.weight.grad is None
    assert model.given[0].shape == (2, 3, 2, 2)
    assert not torch.is_autocast_enabled("cpu")


def fake(monkeypatch: pytest.MonkeyPatch, **models: Any) -> None:
    library = SimpleNamespace(
        __version__="9.9",
        models=SimpleNamespace(**models),
        is_model=lambda name: name in models,
        create_model=lambda name: models[name](weights=None),
    )
    monkeypatch.setattr(speed_contenders, "_imported", lambda name: library)


@pytest.mark.parametrize("peer", ["torchvision", "timm"])
@pytest.mark.parametrize("conditions", [CPU, BF16, TRAINING])
def test_a_step_of_a_peer(
    peer: str, conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = forebear.create("torchvision/resnet18")
    given: list[Tensor] = []

    def resnet18(weights: None) -> nn.Module:
        found = forebear.create("torchvision/resnet18")
        found.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
        return found

    fake(monkeypatch, resnet18=resnet18)
    peer_step(network, peer, "torchvision/resnet18", conditions)()
    assert given[0].shape == (2, 3, 32, 32)
    assert given[0].dtype == (torch.bfloat16 if conditions is BF16 else torch.float32)
    assert given[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("peer", ["torchvision", "timm"])
def test_a_peer_with_another_network(peer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, resnet18=lambda weights: nn.Linear(2, 3))
    name = "torchvision/resnet18"
    wanted = f"^resnet18 of {peer} is another network: it has 9 parameters instead of 11,689,512$"
    with pytest.raises(ValueError, match=wanted):
        peer_step(forebear.create(name), peer, name, CPU)


@pytest.mark.parametrize("peer", ["torchvision", "timm"])
def test_a_peer_without_the_network(peer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch)
    with pytest.raises(ValueError, match=f"^{peer} 9.9 has no network alexnet$"):
        peer_step(SMALL, peer, "torchvision/alexnet", CPU)


def test_a_peer_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision for another torch: its import fails, and no operator is put in its place."""
    (tmp_path / "torchvision").mkdir()
    init = tmp_path / "torchvision/__init__.py"
    init.write_text("raise RuntimeError('operator torchvision::nms does not exist\\nmore')\n")
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    wanted = (
        r"^torchvision cannot be imported \(operator torchvision::nms does not exist\); install a "
        r"build for this machine and torch \d[^\n]*$"
    )
    with pytest.raises(ValueError, match=wanted):
        peer_step(SMALL, "torchvision", "torchvision/resnet18", CPU)


def test_a_peer_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="^timm is not installed; run pip install timm$"):
        peer_step(SMALL, "timm", "timm/resnet18", CPU)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (TRAINING, "keras is compared in forward passes only"),
        (BF16, "keras is compared on the CPU in fp32 only, not on cpu in bf16"),
        (CUDA, "keras is compared on the CPU in fp32 only, not on cuda in fp32"),
    ],
)
def test_keras_cannot_run_like_this(conditions: Conditions, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        peer_step(SMALL, "keras", "keras/ResNet50", conditions)


class KerasModel:
    """Stands for a model of Keras, of the given parameters."""

    def __init__(self, *shape: int, log: list[Any]) -> None:
        self.trainable_weights = [SimpleNamespace(shape=shape)]
        self.log = log

    def predict(self, images: Any, verbose: int) -> None:
        self.log.append(images.shape)

    def predict_on_batch(self, images: Any) -> None:
        self.predict(images, 0)


def test_a_step_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[Any] = []
    size = sum(one.numel() for one in SMALL.parameters())

    def make(**options: Any) -> KerasModel:
        log.append(options)
        return KerasModel(size, log=log)

    applications = SimpleNamespace(ResNet50=make, ResNet101=lambda **_: KerasModel(7, log=log))
    library = SimpleNamespace(applications=applications, __version__="9.9")
    monkeypatch.setattr(speed_contenders, "_imported", lambda name: library)
    peer_step(SMALL, "keras", "keras/ResNet50", CPU)()
    options, *shapes = log
    assert options["input_shape"] == (32, 32, 3)
    assert options["classifier_activation"] is None
    assert shapes == [(2, 32, 32, 3)] * 2
    with pytest.raises(ValueError, match="^keras 9.9 has no network ResNet50_old$"):
        peer_step(SMALL, "keras", "keras/ResNet50_old", CPU)
    with pytest.raises(ValueError, match="^ResNet101 of keras is another network: it has 7 par"):
        peer_step(SMALL, "keras", "keras/ResNet101", CPU)


def rows(peer: str) -> list[str]:
    """The networks that a peer has, as far as the rule says so."""
    names = [name for name in NETWORKS if peer in EQUALS.get(name.partition("/")[0], ())]
    return [name for name in names if (peer, name) != ("timm", "torchvision/alexnet")]


@pytest.mark.peer
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("peer", ["torchvision", "timm"])
def test_real_peers_have_the_same_number_of_parameters(peer: str) -> None:
    library = pytest.importorskip(peer)
    for name in rows(peer):
        entry = find(name)
        ours = parameters(expand(*entry, num_classes=1000))[0]
        with torch.device("meta"):
            model = speed_contenders._made(library, peer, name.partition("/")[2])
        assert sum(one.numel() for one in model.parameters()) == ours, name


@pytest.mark.peer
@pytest.mark.filterwarnings("default")
def test_keras_has_the_same_number_of_parameters() -> None:
    pytest.importorskip("keras")
    network = forebear.create("keras/ResNet50").eval()
    logits: Any = peer_step(network, "keras", "keras/ResNet50", CPU)()
    assert logits.shape == (2, 1000)
