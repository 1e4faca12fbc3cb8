"""A Keras model with automatic layer names loads by its graph.

The graphs here have the form that Keras 2 and Keras 3 write, with the weights of a network of
forebear's under automatic names. MLPerf Tiny's published file, with Keras' logits, is beside the
repository.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import forebear
from forebear import WeightsError
from forebear.tables.dialects import KERAS2_V1, Dialect
from forebear.tables.rows import Block, Conv, Table
from forebear.weights.variable_names import pairs
from tests.weights.readers.making import damaged

h5py = pytest.importorskip("h5py")

SHARED = Path(__file__).parents[3] / "shared" / "goldens" / "families"
TABLE = Table(
    "resnet8",
    (Conv("conv1", 4, 3),),
    "basic",
    (Block("block1", 1, 4, 4), Block("block2", 2, 6, 6, stride=2)),
    classes=5,
    image_size=16,
)
DIALECT = replace(
    KERAS2_V1,
    name="tiny",
    conv_padding="same",
    norm_eps=1e-3,
    shortcut="change",
    shortcut_norm=False,
)
KINDS = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization", "Dense": "dense"}


class Model:
    """The graph of a network, layer by layer, and the weights of each."""

    def __init__(self, network: forebear.Network, *, keras3: bool = False) -> None:
        self.layers: list[dict[str, Any]] = []
        self.weights: dict[str, dict[str, Any]] = {}
        self.held: dict[str, dict[str, Any]] = {}
        self.keras3, self.count = keras3, Counter[str]()
        state = network.state_dict()
        for pair in pairs(network.plan, "keras"):
            layer, _, weight = pair.theirs.rpartition("/")
            array = np.ascontiguousarray(pair.layout.store(state[pair.ours].numpy()))
            self.held.setdefault(layer, {})[weight] = array
        x = self.add("InputLayer", [], batch_input_shape=[None, 16, 16, 3])
        x = self.relu(self.conv("conv1", x, 4, 3, 1))
        for unit, channels, stride in (
            ("conv2_block1", 4, 1),
            ("conv3_block1", 6, 2),
            ("conv3_block2", 6, 1),
        ):
            y = self.relu(self.conv(f"{unit}_1", x, channels, 3, stride))
            y = self.conv(f"{unit}_2", y, channels, 3, 1)
            if stride > 1:
                x = self.conv(f"{unit}_0", x, channels, 1, stride)
            x = self.relu(self.add("Add", [x, y]))
        x = self.add("AveragePooling2D", [x], pool_size=[8, 8], strides=[8, 8], padding="valid")
        x = self.add("Flatten", [x])
        x = self.add("Dense", [x], units=5, use_bias=True, activation="softmax")
        self.weights[x] = self.held["predictions"]

    def add(self, kind: str, inputs: list[str], **config: Any) -> str:
        base, number = KINDS.get(kind, kind.lower()), self.count[kind]
        name = f"{base}_{number}" if number else base
        self.count[kind] += 1
        nodes: list[Any] = [[[one, 0, 0, {}] for one in inputs]] if inputs else []
        if self.keras3 and inputs:
            given = [
                {"class_name": "__keras_tensor__", "config": {"keras_history": [one, 0, 0]}}
                for one in inputs
            ]
            nodes = [{"args": given if len(given) == 1 else [given], "kwargs": {}}]
        self.layers.append(
            {"class_name": kind, "config": {"name": name} | config, "inbound_nodes": nodes}
        )
        return name

    def relu(self, x: str) -> str:
        return self.add("Activation", [x], activation="relu")

    def conv(self, name: str, x: str, filters: int, kernel: int, stride: int) -> str:
        x = self.add(
            "Conv2D",
            [x],
            filters=filters,
            kernel_size=[kernel] * 2,
            strides=[stride] * 2,
            padding="same",
            use_bias=True,
            activation="linear",
        )
        self.weights[x] = self.held[f"{name}_conv"]
        if f"{name}_bn" in self.held:
            x = self.add("BatchNormalization", [x], epsilon=1e-3, momentum=0.99, axis=[3])
            self.weights[x] = self.held[f"{name}_bn"]
        return x

    def layer(self, name: str) -> dict[str, Any]:
        return next(one for one in self.layers if one["config"]["name"] == name)

    @property
    def config(self) -> str:
        return json.dumps({"class_name": "Functional", "config": {"layers": self.layers}})

    def write(self, path: Path, config: str | None = None) -> Path:
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = self.config if config is None else config
            group = file.create_group("model_weights")
            group.attrs["layer_names"] = np.array([name.encode() for name in self.weights])
            for name, weights in self.weights.items():
                own = group.create_group(name)
                names = [f"{name}/{weight}:0" for weight in weights]
                own.attrs["weight_names"] = np.array([one.encode() for one in names])
                for one, array in zip(names, weights.values(), strict=True):
                    own[one] = array
        return path


def initial(dialect: Dialect = DIALECT) -> forebear.Network:
    torch.manual_seed(0)
    network = forebear.create(TABLE, dialect=dialect)
    for name, one in network.state_dict().items():
        if "num_batches" not in name:
            one.copy_(torch.rand_like(one) + 0.2 if "var" in name else 0.3 * torch.randn_like(one))
    return network.eval()


@pytest.mark.parametrize("keras3", [False, True])
@pytest.mark.parametrize("shortcut_norm", [False, True])
def test_a_graph_gives_the_network_of_its_weights(
    keras3: bool, shortcut_norm: bool, tmp_path: Path
) -> None:
    theirs = initial(replace(DIALECT, shortcut_norm=shortcut_norm))
    ours = forebear.load(Model(theirs, keras3=keras3).write(tmp_path / "net.h5"))
    images = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))
    assert ours.table == TABLE
    named = replace(ours.dialect, name="tiny", preprocessing=DIALECT.preprocessing)
    assert named == replace(theirs.dialect, pool_padding="same", pool_fill="lowest")


def test_pixels_are_taken_as_they_are(tmp_path: Path) -> None:
    network = forebear.load(Model(initial()).write(tmp_path / "net.h5"))
    image = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    assert np.array_equal(network.preprocess(image)[0].numpy(), image.transpose(2, 0, 1))
    assert "their pixels are taken as they are" in network.card.provenance["notes"]


def _changed(name: str, **config: Any) -> Callable[[Model], None]:
    return lambda model: model.layer(name)["config"].update(config)


def _feed(name: str, *inputs: str) -> Callable[[Model], None]:
    nodes = [[[one, 0, 0, {}] for one in inputs]]
    return lambda model: model.layer(name).update(inbound_nodes=nodes)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_changed("conv2d_3", dilation_rate=[2, 2]), "conv2d_3 has another padding, rate"),
        (_changed("conv2d_3", padding="valid"), "conv2d_3 has another padding, rate"),
        (_changed("conv2d_3", strides=[1, 2]), "conv2d_3 has strides=[1, 2]"),
        (_changed("conv2d_5", strides=[1, 1]), "conv2d_5 has another stride"),
        (_changed("batch_normalization", epsilon=0.1), "it has several epsilons"),
        (_changed("conv2d_3", data_format="channels_first"), "conv2d_3 has data_format"),
        (_changed("activation_2", activation="selu"), "activation_2 after add is no ReLU"),
        (_changed("averagepooling2d", pool_size=[4, 4]), "does not pool the whole map"),
        (_changed("inputlayer", batch_input_shape=None), "it is no residual network"),
        (_changed("conv2d_3", strides=[1e999, 1e999]), "cannot convert float infinity"),
        (_feed("add_1", "inputlayer", "conv2d_5"), "inputlayer does not start from activation_2"),
        (_feed("conv2d_3", "conv2d_3"), "conv2d_3 leads to itself"),
        (_feed("add", "activation"), "it has no additions of two branches"),
        (_feed("conv2d_3", "activation_2", "activation_2"), "conv2d_3 has 2 inputs"),
        (lambda model: model.add("Dropout", ["activation"]), "it has 2 outputs"),
        (lambda model: model.layers.clear(), "it has no additions of two branches"),
    ],
)
def test_another_graph_is_refused_with_the_layer(
    change: Callable[[Model], None], named: str, tmp_path: Path
) -> None:
    model = Model(initial())
    change(model)
    with pytest.raises(WeightsError) as caught:
        forebear.load(model.write(tmp_path / "net.h5"))
    assert named in str(caught.value)
    assert "Its model_config was read too" in str(caught.value)


def test_a_damaged_graph_is_refused_or_harmless(tmp_path: Path) -> None:
    model = Model(initial())
    data = model.config.encode()
    for seed in range(60):
        text = damaged(data, seed).decode("ascii", "replace").replace("\0", " ")
        with suppress(WeightsError):  # any other exception fails the test
            forebear.load(model.write(tmp_path / "net.h5", text))


@pytest.mark.skipif(not SHARED.is_dir(), reason="its files are beside the repository")
def test_mlperf_tinys_file_gives_keras_logits() -> None:
    network = forebear.load(SHARED / "real" / "mlperf_tiny_resnet8.h5")
    with np.load(SHARED / "real" / "mlperf_tiny_resnet8.expected.npz") as arrays:
        images = torch.from_numpy(arrays["32x32/input"].astype("f4")).permute(0, 3, 1, 2)
        with torch.inference_mode():
            found = network(images).numpy()
        assert np.abs(found - arrays["32x32/logits"]).max() < 2e-5  # logits of size 19
