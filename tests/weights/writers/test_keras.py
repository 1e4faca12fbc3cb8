"""What forebear writes, read back by forebear, and by Keras itself where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forebear import WeightsError
from forebear.weights.readers.detect import open_arrays
from forebear.weights.writers.keras import Layer, write_keras, write_keras_legacy
from tests.weights.readers.goldens.keras.make_keras import model, weights
from tests.weights.readers.making import GOLDENS, assert_same, expected, shared

pytest.importorskip("h5py")
WRITERS = {"a.weights.h5": write_keras, "a.h5": write_keras_legacy}
BOTH = pytest.mark.parametrize("name", WRITERS)
LAYERS: list[Layer] = [
    ("conv1_conv", "Conv2D", [("kernel", np.ones((3, 3, 1, 2), "f4")), ("bias", np.ones(2, "f4"))]),
    ("a_conv", "Conv2D", [("kernel", np.zeros((1, 1, 2, 2), "f4"))]),
    ("deep", "DepthwiseConv2D", [("depthwise_kernel", np.ones((3, 3, 2, 2), "f4"))]),
    (
        "conv1_bn",
        "BatchNormalization",
        [
            (name, np.full(2, i, "f4"))
            for i, name in enumerate(("gamma", "beta", "moving_mean", "moving_variance"))
        ],
    ),
    ("predictions", "Dense", [("kernel", np.ones((2, 3), "f4")), ("bias", np.zeros(3, "f4"))]),
]
ARRAYS = {f"{layer}/{name}": array for layer, _, each in LAYERS for name, array in each}


@BOTH
def test_what_is_written_is_read_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name, LAYERS)
    with open_arrays(tmp_path / name) as arrays:
        assert_same(arrays, ARRAYS)


@BOTH
def test_equal_arrays_give_equal_bytes(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name, LAYERS)
    before = (tmp_path / name).read_bytes()
    WRITERS[name](tmp_path / name, LAYERS, replace=True)
    assert (tmp_path / name).read_bytes() == before


@BOTH
def test_a_file_that_is_there_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(WeightsError, match="this file already exists"):
        WRITERS[name](tmp_path / name, LAYERS)
    assert (tmp_path / name).read_text() == "mine"


@BOTH
def test_a_folder_that_is_missing_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be written"):
        WRITERS[name](tmp_path / "nowhere" / name, LAYERS)
    assert list(tmp_path.iterdir()) == []


@BOTH
@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (("a", "Conv3D", [("kernel", np.ones(1))]), "class 'Conv3D'.*Did you mean Conv2D"),
        (("a", "Conv2D", []), "weights are none. Expected those of Conv2D: kernel, bias"),
        (
            ("a", "Dense", [("bias", np.ones(1)), ("kernel", np.ones(1))]),
            "weights are bias, kernel",
        ),
        (("a", "BatchNormalization", [("gamma", np.ones(1))]), "weights are gamma"),
        (("a", "DepthwiseConv2D", [("kernel", np.ones(1))]), "depthwise_kernel, bias"),
    ],
)
def test_a_layer_that_keras_would_not_load_is_refused(
    name: str, layer: Layer, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=told):
        WRITERS[name](tmp_path / name, [*LAYERS, layer])
    assert list(tmp_path.iterdir()) == []


def test_another_ending_than_keras_wants_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.weights\.h5"):
        write_keras(tmp_path / "a.h5", LAYERS)


def keras_module(which: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    return pytest.importorskip(which)


def layers_of(made: Any, arrays: dict[str, NDArray[Any]]) -> list[Layer]:
    """The model's layers in its order, with other arrays."""
    return [
        (layer, kind, [(name, arrays[f"{layer}/{name}"]) for name in names])
        for layer, kind, names in weights(made)
        if names
    ]


# Keras 3 reads both files, Keras 2 (tf_keras) the legacy one.
PEERS = [("keras", "a.weights.h5"), ("keras", "a.h5"), ("tf_keras", "a.h5")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("which", "name"), PEERS)
def test_keras_reads_every_class_of_layer(
    which: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras = keras_module(which, monkeypatch)
    arrays = expected(GOLDENS / "keras3.keras")
    made = model(keras, nested=False)
    layers = layers_of(made, arrays)
    WRITERS[name](tmp_path / name, layers)
    made.load_weights(tmp_path / name)
    wanted = [array for _, _, each in layers for _, array in each]
    found = [array for layer in made.layers for array in layer.get_weights()]
    assert [array.tobytes() for array in found] == [array.tobytes() for array in wanted]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("which", "name"), PEERS)
@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_keras_gives_the_logits_of_the_network_that_was_written(
    which: str, name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras = keras_module(which, monkeypatch)
    stem = f"{'keras3' if which == 'keras' else 'keras2'}_tiny_{kind}"
    path = shared(f"goldens/checkpoints/{stem}.expected.npz")
    made = tiny(which, kind)
    arrays = {key.replace("probs/", "predictions/"): a for key, a in expected(path).items()}
    WRITERS[name](tmp_path / name, layers_of(made, arrays))
    made.load_weights(tmp_path / name)
    with np.load(path) as golden:
        logits = np.asarray(made(golden["__input__"], training=False))
        np.testing.assert_allclose(logits, golden["__logits__"], rtol=2e-4, atol=1e-5)
    keras.backend.clear_session()


def tiny(which: str, kind: str) -> Any:
    """The small network of the goldens, from Keras's own blocks of units."""
    if which == "keras":
        from keras.src.applications import resnet

        units = {"v1": "stack_residual_blocks_v1", "v2": "stack_residual_blocks_v2"}[kind]
    else:
        from tf_keras.src.applications import resnet

        units = {"v1": "stack1", "v2": "stack2"}[kind]

    def blocks(x: Any) -> Any:
        for i, (filters, count) in enumerate(((4, 2), (6, 2), (8, 3))):
            stride = 1 if i == (0 if kind == "v1" else 2) else 2
            x = getattr(resnet, units)(x, filters, count, stride1=stride, name=f"conv{i + 2}")
        return x

    common = {"weights": None, "input_shape": (32, 32, 3), "classes": 5}
    # The third argument: biases, which the blocks of both dialects have.
    return resnet.ResNet(blocks, kind == "v2", True, classifier_activation=None, **common)
