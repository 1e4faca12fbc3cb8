"""Makes objects_*.zip in this folder with the real Keras: python make_objects.py keras3, or keras2.

Needs tensorflow-cpu 2.21.0, keras 3.15.1 and tf_keras 2.21.0. The networks have two bottleneck
units with the names of Keras Applications, or two basic units with automatic names. All files of a
version are in one archive. The programs of the SavedModels are replaced by empty files, because
forebear does not read them.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
IMAGES = np.random.default_rng(5).normal(size=(2, 32, 32, 3)).astype(np.float32)


def named(keras: Any) -> Any:
    """A network with the names and the layers of keras.applications.ResNet50."""
    layers = keras.layers

    def conv(x: Any, name: str, channels: int, kernel: int, stride: int = 1) -> Any:
        x = layers.Conv2D(
            channels, kernel, stride, "same" if kernel == 3 else "valid", name=f"{name}_conv"
        )(x)
        return layers.BatchNormalization(epsilon=1.001e-5, name=f"{name}_bn")(x)

    given = keras.Input((None, None, 3))
    x = layers.ZeroPadding2D(3, name="conv1_pad")(given)
    x = layers.ReLU(name="conv1_relu")(conv(x, "conv1", 4, 7, 2))
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, 2, name="pool1_pool")(x)
    for name, width, stride in (("conv2_block1", 2, 1), ("conv3_block1", 3, 2)):
        short = conv(x, f"{name}_0", 4 * width, 1, stride)
        y = layers.ReLU(name=f"{name}_1_relu")(conv(x, f"{name}_1", width, 1, stride))
        y = layers.ReLU(name=f"{name}_2_relu")(conv(y, f"{name}_2", width, 3))
        y = conv(y, f"{name}_3", 4 * width, 1)
        x = layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([short, y]))
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return keras.Model(given, layers.Dense(7, name="predictions")(x))


def automatic(keras: Any) -> Any:
    """A network for small images, whose layers have the names that Keras gives them."""
    layers = keras.layers

    def conv(x: Any, channels: int, kernel: int, stride: int = 1) -> Any:
        x = layers.Conv2D(channels, kernel, stride, padding="same")(x)
        return layers.BatchNormalization()(x)

    given = keras.Input((32, 32, 3))
    x = layers.Activation("relu")(conv(given, 4, 3))
    for channels, stride in ((4, 1), (6, 2)):
        y = layers.Activation("relu")(conv(x, channels, 3, stride))
        y = conv(y, channels, 3)
        x = conv(x, channels, 1, stride) if stride > 1 else x
        x = layers.Activation("relu")(layers.add([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(given, layers.Dense(5)(x))


def stir(model: Any, seed: int) -> None:
    """Gives every weight and every statistic a random value."""
    rng = np.random.default_rng(seed)
    model.set_weights(
        [
            rng.normal(0, 0.4, w.shape) if w.ndim > 1 else rng.uniform(0.5, 1.5, w.shape)
            for w in model.get_weights()
        ]
    )


def keep(folder: Path) -> None:
    """Leaves only what forebear reads of a SavedModel."""
    (folder / "saved_model.pb").write_bytes(b"")
    (folder / "fingerprint.pb").unlink()
    (folder / "assets").rmdir()


def main(which: str) -> None:
    """Writes the files of one version of Keras, with their logits."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import tensorflow as tf

    if which == "keras2":
        import tf_keras as keras
    else:
        import keras
    model = named(keras)
    stir(model, 1)
    model.compile("adam", "mse")
    model.fit(IMAGES, np.zeros((2, 7)), verbose=0)
    stir(model, 1)  # the values of the optimizer stay
    logits: dict[str, Any] = {"named": np.asarray(model(IMAGES, training=False))}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if which == "keras3":
            tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(f"{made}/objects")
            model.export(folder / "saved", verbose=False)
        else:
            model.save_weights(f"{made}/objects")
            model = automatic(keras)
            stir(model, 2)
            logits["automatic"] = np.asarray(model(IMAGES, training=False))
            model.save(folder / "saved")
        keep(folder / "saved")
        (folder / "checkpoint").unlink(missing_ok=True)
        np.savez_compressed(folder / "expected.npz", **logits)
        shutil.make_archive(str(HERE / f"objects_{which}"), "zip", folder)


if __name__ == "__main__":
    main(sys.argv[1])
