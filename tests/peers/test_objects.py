"""The real Keras writes checkpoints of objects and SavedModels; we read them with equal logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import forebear
from tests.peers.test_frameworks import CLOSE, IMAGES, Slim, gap, ours, stir

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("default")]


def checkpoint(model: Any, path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(path))


WRITERS: dict[str, Callable[[Any, Path], object]] = {
    "checkpoint": checkpoint,
    "weights": lambda model, path: model.save_weights(str(path)),
    "export": lambda model, path: model.export(str(path)),
    "save": lambda model, path: model.save(str(path)),
}


@pytest.mark.parametrize("name", ["ResNet50", "ResNet50V2"])
@pytest.mark.parametrize(
    ("library", "how"),
    [
        ("keras", "checkpoint"),
        ("keras", "export"),
        ("tf_keras", "checkpoint"),
        ("tf_keras", "weights"),
        ("tf_keras", "export"),
        ("tf_keras", "save"),
    ],
)
def test_objects_of_the_real_keras_give_equal_logits(
    tmp_path: Path, library: str, how: str, name: str
) -> None:
    keras = pytest.importorskip(library)
    model = getattr(keras.applications, name)(weights=None, classifier_activation=None)
    stir(model)
    WRITERS[how](model, tmp_path / "a")
    net = forebear.load(tmp_path / "a")
    assert net.table.name == name
    found = gap(ours(net), model(IMAGES, training=False))
    print(f"\n{library} {name} {how}: {found:.1e}")
    assert found < CLOSE


@pytest.mark.parametrize("name", ["resnet_v1_50", "resnet_v2_50"])
def test_saved_models_of_tf_slim_give_equal_logits(tmp_path: Path, name: str) -> None:
    """As TensorFlow 1 wrote them, and again as objects, as in TensorFlow Hub."""
    slim = Slim(name, 1001)
    tf = pytest.importorskip("tensorflow")
    with slim.v1.Session(graph=slim.graph) as session:
        session.run(slim.start)
        expected = session.run(slim.logits, {slim.images: IMAGES})
        tensors = {"images": slim.images}, {"logits": slim.logits}
        slim.v1.saved_model.simple_save(session, str(tmp_path / "a"), *tensors)
    tf.saved_model.save(tf.saved_model.load(str(tmp_path / "a")), str(tmp_path / "b"))
    for folder in ("a", "b"):
        net = forebear.load(tmp_path / folder)
        assert (net.table.name, net.plan.num_classes) == (name, 1001)
        found = gap(ours(net), expected)
        print(f"\nSavedModel of {name}: {found:.1e}")
        assert found < CLOSE
