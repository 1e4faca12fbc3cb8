"""Writes the files of this folder with MXNet 1.9.1; README.md has the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

setattr(np, "bool", bool)  # noqa: B010 - MXNet 1.9.1 uses this name, which NumPy 1.24 dropped

import mxnet  # noqa: E402
from mxnet.gluon.model_zoo.vision import resnet  # noqa: E402

FOLDER = Path(__file__).parent
SIDE = 33  # pixels: odd, so that the place of each window shows
NETWORKS = {
    "v1_basic": (resnet.ResNetV1, resnet.BasicBlockV1, [8, 8, 12]),
    "v1_bottleneck": (resnet.ResNetV1, resnet.BottleneckV1, [8, 16, 24]),
    "v2_basic": (resnet.ResNetV2, resnet.BasicBlockV2, [8, 8, 12]),
    "v2_bottleneck": (resnet.ResNetV2, resnet.BottleneckV2, [8, 16, 24]),
}


def values(name: str, shape: tuple[int, ...], random: np.random.RandomState) -> Any:
    """Random values that keep the scale of the activations."""
    if name.endswith(("gamma", "running_var")):
        return random.uniform(0.5, 1.5, shape)
    deviation = 0.1 if len(shape) == 1 else (2 / np.prod(shape[1:])) ** 0.5
    return random.normal(0, deviation, shape)


def main() -> None:
    """Writes two .params files and a symbol of each network, and all images and logits."""
    found: dict[str, Any] = {}
    for seed, (name, (network, unit, channels)) in enumerate(NETWORKS.items()):
        random = np.random.RandomState(seed)
        images = random.normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)
        net = network(unit, [1, 2], channels, classes=5)
        net.initialize()
        net.hybridize()
        net(mxnet.nd.array(images))
        for key, parameter in net.collect_params().items():
            parameter.set_data(mxnet.nd.array(values(key, parameter.shape, random)))
        found |= {f"{name}.images": images, f"{name}.logits": net(mxnet.nd.array(images)).asnumpy()}
        net.export(str(FOLDER / name))
        net.save_parameters(str(FOLDER / f"gluon_{name}.params"))
    np.savez_compressed(FOLDER / "expected.npz", **found)


if __name__ == "__main__":
    main()
