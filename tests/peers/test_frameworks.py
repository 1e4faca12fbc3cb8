"""The real frameworks read what we write, and we read what they write; both give equal logits."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import forebear
from forebear.tasks.convert import convert
from tests.network.making import make

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("default")]
CLOSE = 2e-4  # of the largest logit
IMAGES = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype(np.float32)


def ours(net: forebear.Network) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        logits: np.ndarray[Any, Any] = net(torch.from_numpy(IMAGES).permute(0, 3, 1, 2)).numpy()
    return logits


def gap(found: Any, expected: Any) -> float:
    found, expected = (np.asarray(values).reshape(1, -1) for values in (found, expected))
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def keras_model(name: str) -> Any:
    """A real Keras model with its logits bare."""
    if name.startswith("ResNeXt"):
        tf_keras = pytest.importorskip("tf_keras")
        resnext = pytest.importorskip("keras_applications.resnext")
        parts = {key: getattr(tf_keras, key) for key in ("backend", "layers", "models", "utils")}
        model = getattr(resnext, name)(weights=None, **parts)
        model.layers[-1].activation = tf_keras.activations.linear
        return model
    keras = pytest.importorskip("keras")
    return getattr(keras.applications, name)(weights=None, classifier_activation=None)


def stir(model: Any) -> None:
    """Random weights everywhere, moving averages too; frozen layers stay."""
    random = np.random.default_rng(1)
    for layer in model.layers:
        if not layer.trainable or not layer.weights:
            continue
        values = []
        for array in layer.get_weights():
            if array.ndim > 1:
                fan_in = np.prod(array.shape[:-1]) if array.ndim == 4 else array.shape[0]
                values.append(random.normal(0, np.sqrt(1 / fan_in), array.shape))
            else:
                values.append(random.uniform(0.5, 1.5, array.shape))
        layer.set_weights(values)


@pytest.mark.parametrize("name", ["ResNet50", "ResNet50V2", "ResNeXt50"])
def test_real_keras_weights_load_and_give_equal_logits(tmp_path: Path, name: str) -> None:
    model = keras_model(name)
    stir(model)
    path = tmp_path / ("a.h5" if name == "ResNeXt50" else "a.weights.h5")
    model.save_weights(str(path))
    net = forebear.load(path)
    assert net.table.name == name
    found = gap(ours(net), model(IMAGES, training=False))
    print(f"\nkeras {name}: {found:.1e}")
    assert found < CLOSE


@pytest.mark.parametrize("name", ["ResNet50", "ResNet50V2"])
def test_real_keras_reads_what_we_write(tmp_path: Path, name: str) -> None:
    net = make(f"keras/{name}", num_classes=1000)
    forebear.save(net, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.weights.h5", to="keras")
    model = keras_model(name)
    model.load_weights(str(tmp_path / "b.weights.h5"))
    found = gap(model(IMAGES, training=False), ours(net))
    print(f"\nto keras {name}: {found:.1e}")
    assert found < CLOSE


class Slim:
    """tf_slim's network in a graph, through whatever of TensorFlow 1 is left."""

    def __init__(self, name: str, classes: int) -> None:
        tf = pytest.importorskip("tensorflow")
        pytest.importorskip("tf_keras")
        # TensorFlow looks for this package where tf_keras no longer keeps it.
        layers = importlib.import_module("tf_keras.src.legacy_tf_layers")
        sys.modules.setdefault("tf_keras.legacy_tf_layers", layers)
        part = importlib.import_module("tf_keras.src.legacy_tf_layers.normalization")
        sys.modules.setdefault("tf_keras.legacy_tf_layers.normalization", part)
        tf_slim = pytest.importorskip("tf_slim")
        from tf_slim.nets import resnet_v1, resnet_v2

        self.v1 = tf.compat.v1
        module = resnet_v1 if "v1" in name else resnet_v2
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.images = self.v1.placeholder(tf.float32, IMAGES.shape)
            with tf_slim.arg_scope(module.resnet_arg_scope()):
                build = getattr(module, name)
                self.logits, _ = build(self.images, classes, is_training=False)
            self.saver = self.v1.train.Saver(write_version=1)
            self.start = self.v1.global_variables_initializer()

    def saved(self, path: Path) -> Any:
        """Random weights into a file of version 1; the logits that they give."""
        with self.v1.Session(graph=self.graph) as session:
            session.run(self.start)
            self.saver.save(session, str(path), write_meta_graph=False, write_state=False)
            return session.run(self.logits, {self.images: IMAGES})

    def restored(self, path: Path) -> Any:
        """The logits that a checkpoint gives."""
        with self.v1.Session(graph=self.graph) as session:
            self.saver.restore(session, str(path))
            return session.run(self.logits, {self.images: IMAGES})


@pytest.mark.parametrize(("name", "classes"), [("resnet_v1_50", 1000), ("resnet_v2_50", 1001)])
def test_tf_slim_and_forebear_read_each_others_checkpoints(
    tmp_path: Path, name: str, classes: int
) -> None:
    slim = Slim(name, classes)
    expected = slim.saved(tmp_path / "a.ckpt")
    net = forebear.load(tmp_path / "a.ckpt")
    assert (net.table.name, net.plan.num_classes) == (name, classes)
    there = gap(ours(net), expected)
    lively = make(f"slim/{name}", num_classes=classes)
    forebear.save(lively, tmp_path / "b.safetensors")
    convert(tmp_path / "b.safetensors", tmp_path / "c.ckpt", to="slim")
    back = gap(slim.restored(tmp_path / "c.ckpt"), ours(lively))
    print(f"\ntf_slim {name}: read {there:.1e}, written {back:.1e}")
    assert max(there, back) < CLOSE
