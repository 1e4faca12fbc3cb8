"""Torch7 files are read by their modules. tests/peers/test_torch7.py compares with OpenCV."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import forebear
from forebear.limits import TORCH7_NESTING
from forebear.tables.dialects import PAPER_CIFAR, PAPER_V2_IMAGENET, TORCHVISION_V1
from forebear.weights.readers.detect import open_arrays
from forebear.weights.readers.torch7 import objects
from forebear.weights.readers.torch7.torch7_file import Torch7Arrays, is_torch7
from tests.network.making import make
from tests.weights.readers.making import damaged, refusal
from tests.weights.torch7_making import Function, Made, Storage, model_of, sequence, written

TABLE = forebear.Table(
    "small",
    (forebear.Conv("conv1", 8, 7, stride=2), forebear.Pool("pool1")),
    "bottleneck",
    (
        forebear.Block("block1", 2, 4, 16, 1),
        forebear.Block("block2", 2, 8, 32, 2, groups=4),
    ),
)
SMALL = forebear.Table(
    "cifar",
    (forebear.Conv("conv1", 8, 3),),
    "basic",
    (forebear.Block("block1", 1, 8, 8, 1), forebear.Block("block2", 2, 16, 16, 2)),
    image_size=32,
)
NORM = "nn.SpatialBatchNormalization"
NETWORK = make(TABLE, TORCHVISION_V1, num_classes=5)
MODEL = model_of(NETWORK)
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def put(folder: Path, content: Any) -> Path:
    path = folder / "a.t7"
    path.write_bytes(written(content))
    return path


def assert_same(path: Path, network: forebear.Network, within: float = 0.0) -> forebear.Network:
    found = forebear.load(path)
    with torch.inference_mode():
        ours, theirs = found.eval()(IMAGES), network.eval()(IMAGES)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=within)
    return found


@pytest.mark.parametrize("library", ["nn", "cudnn"])
def test_a_network_has_the_function_of_its_modules(library: str, tmp_path: Path) -> None:
    found = assert_same(put(tmp_path, model_of(NETWORK, library=library)), NETWORK)
    assert found.plan.table.blocks == TABLE.blocks
    assert found.plan.dialect.name == "torchvision"
    assert "read from a Torch7 file" in found.card.provenance["notes"]


def test_pre_activations_are_read(tmp_path: Path) -> None:
    """preresnet.lua: units that widen share the pre-activation with their projection."""
    network = make(TABLE, PAPER_V2_IMAGENET, num_classes=5)
    units = list(network.plan.units())
    assert {unit.taps_preact for unit in units} == {True, False}
    found = assert_same(put(tmp_path, model_of(network)), network, 3e-6)
    assert found.plan.dialect.order == "pre"


def test_norms_of_2015_have_a_deviation(tmp_path: Path) -> None:
    assert_same(put(tmp_path, model_of(NETWORK, old=True)), NETWORK, 3e-6)


def test_shortcuts_without_weights_add_zeros(tmp_path: Path) -> None:
    network = make(SMALL, replace(PAPER_CIFAR, shortcut="after"), num_classes=5)
    found = assert_same(put(tmp_path, model_of(network)), network)
    assert found.plan.dialect.shortcut == "after"
    assert found.plan.dialect.name == "torch7"


def test_the_network_of_a_table_is_found(tmp_path: Path) -> None:
    """DataParallelTable: a copy for each GPU, of which the first one counts."""
    parallel = sequence(MODEL, MODEL, kind="nn.DataParallelTable")
    optimizer = {"learningRate": 0.1, "nesterov": True, "state": np.ones(3), "hook": Function(7)}
    content = {
        "epoch": 90,
        "opt": optimizer,
        "model": parallel,
        "criterion": Made("nn.CrossEntropy"),
    }
    assert_same(put(tmp_path, content), NETWORK)
    assert_same(put(tmp_path, {"net": parallel, "opt": optimizer}), NETWORK)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"a": MODEL, "b": MODEL}, "this Torch7 file has a, b"),
        ({"epoch": 3}, "this Torch7 file has no network"),
    ],
)
def test_a_file_of_no_or_two_networks_is_refused(content: Any, why: str, tmp_path: Path) -> None:
    said = refusal(put(tmp_path, content | {"last": Made("torch.Timer")}))
    assert why in said
    assert "Expected one network" in said


def test_arrays_have_the_places_of_their_modules(tmp_path: Path) -> None:
    with open_arrays(put(tmp_path, MODEL)) as arrays:
        assert isinstance(arrays, Torch7Arrays)
        assert arrays.shape("1.weight") == (8, 3, 7, 7)
        assert arrays.dtype("2.running_var") == np.float32
        assert arrays.shape("5.1.1.1.1.weight") == (4, 8, 1, 1)


def test_objects_are_read_once_and_functions_are_skipped() -> None:
    shared = {1: "a"}
    content = {
        "functions": {1: Function(6), 2: Function(7), 3: Function(8)},
        "first": shared, "second": shared, "flag": True, "nothing": None,
        "numbers": np.arange(6.0).reshape(2, 3), "stored": Storage(np.arange(3)),
        "long": "x" * 5000,
    }  # fmt: skip
    found = objects.read_object(memoryview(written(content)))
    assert isinstance(found, dict)
    assert found["functions"] == {1.0: None, 2.0: None, 3.0: None}
    assert found["first"] is found["second"]
    assert found["flag"] is True
    assert found["numbers"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert found["stored"].tolist() == [0, 1, 2]
    assert found["long"] == ""


def changed(model: Made, place: int, **fields: Any) -> Made:
    modules = [*model.fields["modules"].values()]
    modules[place] = Made(modules[place].kind, {**modules[place].fields, **fields})
    return sequence(*modules)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: sequence(Made("nn.Tanh"), m), "node '1' (Tanh) is there"),
        (lambda m: sequence(Made("inn.Whiten"), m), "node '1' (inn.Whiten) is there"),
        (lambda m: sequence(Made("nn.SpatialCrossMapLRN"), m), "(SpatialCrossMapLRN) is there"),
        (lambda m: sequence(m, Made("nn.CAddTable")), "is no network of forebear"),
        (lambda m: sequence(sequence(m, kind="nn.ConcatTable")), "a table of tensors"),
        (
            lambda m: sequence(sequence(m, kind="nn.ConcatTable"), Made("nn.ReLU")),
            "module 2 (ReLU) takes a table of tensors",
        ),
        (lambda m: changed(m, 0, kW=0), "a kernel of [8, 3, 7, 7] is not (8, 3, 7, 0)"),
        (lambda m: changed(m, 0, weight=None), "module 1 (cudnn.SpatialConvolution) has no weight"),
        (
            lambda m: changed(m, 1, running_mean=None),
            "module 2 (BatchNormalization) has no running",
        ),
        (lambda m: changed(m, 1, running_var=None), "has no running_var"),
    ],
)
def test_other_networks_are_refused(
    change: Callable[[Made], Made], why: str, tmp_path: Path
) -> None:
    with pytest.raises(forebear.WeightsError) as caught:
        forebear.load(put(tmp_path, change(MODEL)))
    assert why in str(caught.value)


def start(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}i", *numbers)


def array(axes: int, *longs: int, tail: bytes = b"") -> bytes:
    """A table of one array."""
    name = b"torch.FloatTensor"
    head = start(3, 1, 1, 1) + struct.pack("<d", 1) + start(4, 2, 3) + b"V 1" + start(len(name))
    return head + name + start(axes) + struct.pack(f"<{len(longs)}q", *longs) + tail


STORED = start(4, 3, 3) + b"V 1" + start(18) + b"torch.FloatStorage"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (start(3, 1, 1, 9, 3) + b"V 1", "unknown type 9"),
        (start(3, 1, 2**30) + b"\3\0\0\0V 1", "extends beyond the end"),
        (start(3, 1, 1, 2, 2**30) + b"\3\0\0\0V 1", "extends beyond the end"),
        (start(4, 1, 3) + b"V 1" + start(3) + b"nn.", "ends in the middle of an object"),
        (array(9), "an array has 9 axes"),
        (array(1, 3, 1, 1, tail=start(1) + bytes(8)), "no values of its type"),
        (array(1, 2**40, 1, 1, tail=STORED + struct.pack("<q", 0)), "is not possible"),
        (array(1, 3, 1, 1, tail=STORED + struct.pack("<q", 2) + bytes(8)), "ends after its values"),
        (array(1, 3, 0, 1, tail=STORED + struct.pack("<q", 2) + bytes(8)), "ends after its values"),
        (array(1, 3, -1, 1, tail=STORED + struct.pack("<q", 3) + bytes(12)), "ends after its"),
        (array(1, 3, 1, 0, tail=STORED + struct.pack("<q", 3) + bytes(12)), "ends after its"),
        (array(1, 3, 1, 1, tail=STORED + struct.pack("<q", 2**50)), "larger than the file"),
        (array(1, 3, 1, 1, tail=STORED + struct.pack("<q", -1)), "larger than the file"),
    ],
)
def test_damaged_files_are_refused(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "a.t7"
    path.write_bytes(content)
    assert is_torch7(content)
    assert why in refusal(path)


def test_deep_files_are_refused(tmp_path: Path) -> None:
    content: dict[Any, Any] = {"V 1": 1}
    for _ in range(TORCH7_NESTING + 1):
        content = {1: content}
    assert "objects, or 200 in one another" in refusal(put(tmp_path, {"V 1": 1, 2: content}))


def test_many_objects_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "TORCH7_OBJECTS", 100)
    assert "more than 100 objects" in refusal(put(tmp_path, MODEL))


def test_modules_in_a_circle_are_refused(tmp_path: Path) -> None:
    modules: dict[int, Made] = {}
    circle = Made("nn.Sequential", {"modules": modules})
    modules[1] = circle
    text = written({"model": sequence(MODEL)})
    assert text.count(b"nn.Sequential") > 1
    head = b"V 1" + start(13) + b"nn.Sequential"
    inner = start(3, 2, 1, 2, 7) + b"modules" + start(3, 3, 1, 1) + struct.pack("<d", 1)
    (tmp_path / "a.t7").write_bytes(start(4, 1, 3) + head + inner + start(4, 1))
    assert "in a circle" in refusal(tmp_path / "a.t7")


def test_containers_that_have_each_other_are_refused(tmp_path: Path) -> None:
    """60 containers, each with the one before it twice, name 2**60 modules in 8 kB."""
    model = sequence()
    for _ in range(60):
        model = sequence(model, model)
    assert "in a circle, or too many" in refusal(put(tmp_path, {"model": model}))


def test_modules_that_share_arrays_do_not_outgrow_the_file(tmp_path: Path) -> None:
    """2,000 norms that share 1 MB made 12 MB each: their variances, and ones and zeros."""
    ones = np.ones(250_000, np.float32)
    norm = Made(NORM, {"running_mean": ones, "running_std": ones})
    said = refusal(put(tmp_path, {"model": sequence(*[norm] * 2_000)}))
    assert "its modules share arrays: module 2 makes" in said


def test_the_modules_of_a_shared_container_are_listed_once() -> None:
    module = objects.Module("nn.ReLU", {"modules": {1.0: objects.Module("nn.ReLU"), 2.0: True}})
    assert [one.kind for one in module.modules] == ["nn.ReLU"]
    assert module.modules is module.modules


def test_every_cut_is_refused(tmp_path: Path) -> None:
    whole = written(MODEL)
    for end in (*range(12, 400), *range(400, len(whole), 997)):
        (tmp_path / "a.t7").write_bytes(whole[:end])
        refusal(tmp_path / "a.t7")


@pytest.mark.parametrize("seed", range(50))
def test_mutations_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    from tests.fuzzing import fault

    assert fault("torch7", damaged(written(MODEL), seed), tmp_path / "x") is None
