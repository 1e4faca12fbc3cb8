"""Makes this folder's files with the real Keras: python make_keras.py keras3, or keras2.

Needs tensorflow-cpu 2.21.0, keras 3.15.1 and tf_keras 2.21.0. One layer of each class that the
networks have, more than ten of one class, layers out of the order of their names, and a model
within a model.
"""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def model(keras: Any, *, nested: bool) -> Any:
    """The model, with fresh weights."""
    layers = keras.layers
    x = given = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv1_conv")(x)
    x = layers.BatchNormalization(name="conv1_bn")(x)
    x = layers.Activation("relu", name="conv1_relu")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="b_conv")(x)
    for number in range(11):  # conv2d_2 sorts after conv2d_10
        x = layers.Conv2D(2, 1, use_bias=not number % 2, name=f"a{10 - number}_conv")(x)
    if nested:
        inside = keras.Input((4, 4, 2))
        y = layers.Conv2D(3, 1, name="first_conv")(inside)
        y = layers.Conv2D(2, 1, name="second_conv")(y)
        x = keras.Model(inside, y, name="inner")(x)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return keras.Model(given, layers.Dense(5, name="predictions")(x))


def weights(made: Any) -> Iterator[tuple[str, str, list[str]]]:
    """Name, class and weights of every layer, also of models within."""
    for layer in made.layers:
        if hasattr(layer, "layers"):
            yield from weights(layer)
            continue
        kind = type(layer).__name__
        names = [v.name.removesuffix(":0").split("/")[-1] for v in layer.weights]
        if kind == "DepthwiseConv2D":  # Keras 3 calls it kernel
            names[0] = "depthwise_kernel"
        yield layer.name, kind, names


def main(which: str) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["TF_USE_LEGACY_KERAS"] = "1" if which == "keras2" else "0"
    if which == "keras2":
        import tf_keras as keras
    else:
        import keras
    rng = np.random.default_rng(3)
    folder = Path(__file__).parent
    for nested in (False, True):
        keras.backend.clear_session()
        made = model(keras, nested=nested)
        made.set_weights([rng.normal(size=w.shape).astype("f4") for w in made.get_weights()])
        names = [f"{layer}/{name}" for layer, _, each in weights(made) for name in each]
        stem = which + "_nested" * nested
        np.savez_compressed(
            folder / f"{stem}.expected.npz", **dict(zip(names, made.get_weights(), strict=True))
        )
        files = ["whole.h5", "keras", "h5" if which == "keras2" else "weights.h5"]
        for ending in files if not nested or which == "keras3" else files[:1]:
            path = folder / f"{stem}.{ending}"
            (made.save if ending in files[:2] else made.save_weights)(path)
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 9))
            path.unlink()


if __name__ == "__main__":
    main(sys.argv[1])
