"""The ResNet of Flax's ImageNet example, in the words of this project.

The facts are those of flax, examples/imagenet/models.py: the names of the layers, the order of
convolutions and norms, the padding of the root, and SAME for all else. `python -m
tests.peers.flax_example FOLDER` writes the goldens of tests/weights/test_flax_resnet.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SMALL = {"bottleneck": (2, 1, 1), "basic": (2, 2)}  # units of the goldens
CLASSES, FILTERS = 5, 4
SIZES = ((48, 33), (33, 40))  # pixels


def variables_and_logits(
    form: str, units: Sequence[int], images: np.ndarray[Any, Any], **sizes: int
) -> tuple[bytes, np.ndarray[Any, Any]]:
    """Returns a file of random variables as Flax writes it, and the logits of the network.

    Args:
        form: "basic" or "bottleneck".
        units: Of each block.
        images: [N, H, W, 3].
        sizes: `classes`, and `filters` of the root.
    """
    import flax
    import jax

    network = _network(form, tuple(units), **sizes)
    variables = flax.core.unfreeze(network.init(jax.random.key(0), images[:1]))
    draws = np.random.default_rng(0)
    variables = jax.tree_util.tree_map_with_path(
        lambda path, one: _drawn(path[-1].key, np.asarray(one), draws), variables
    )
    logits = np.asarray(network.apply(variables, images))
    return flax.serialization.to_bytes(variables), logits


def _drawn(name: str, array: np.ndarray[Any, Any], draws: np.random.Generator) -> Any:
    """Returns values with which no array can be left out unseen; kernels stay."""
    match name:
        case "scale" | "var":
            return draws.uniform(0.5, 1.5, array.shape).astype(np.float32)
        case "bias" | "mean":
            return draws.normal(0, 0.3, array.shape).astype(np.float32)
    return array


def _network(form: str, units: tuple[int, ...], *, classes: int, filters: int) -> Any:
    from flax import linen as nn
    from jax import numpy as jnp

    def norm(name: str | None = None) -> Any:
        return nn.BatchNorm(use_running_average=True, momentum=0.9, epsilon=1e-5, name=name)

    def conv(channels: int, kernel: int, stride: int = 1, **options: Any) -> Any:
        return nn.Conv(channels, (kernel, kernel), (stride, stride), use_bias=False, **options)

    class Unit(nn.Module):  # type: ignore[misc]
        width: int
        stride: int

        @nn.compact  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            width, out = self.width, self.width
            y = x
            if form == "bottleneck":
                out = 4 * width
                layers = [(width, 1, 1), (width, 3, self.stride), (out, 1, 1)]
            else:
                layers = [(width, 3, self.stride), (width, 3, 1)]
            for number, (channels, kernel, stride) in enumerate(layers):
                y = norm()(conv(channels, kernel, stride)(y))
                y = y if number == len(layers) - 1 else nn.relu(y)
            if x.shape != y.shape:
                x = norm("norm_proj")(conv(out, 1, self.stride, name="conv_proj")(x))
            return nn.relu(x + y)

    kind = "BottleneckResNetBlock" if form == "bottleneck" else "ResNetBlock"

    class Whole(nn.Module):  # type: ignore[misc]
        @nn.compact  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            x = conv(filters, 7, 2, padding=[(3, 3), (3, 3)], name="conv_init")(x)
            x = nn.relu(norm("bn_init")(x))
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
            place = 0
            for block, count in enumerate(units):
                for unit in range(count):
                    stride = 2 if block and not unit else 1
                    x = Unit(filters * 2**block, stride, name=f"{kind}_{place}")(x)
                    place += 1
            return nn.Dense(classes)(jnp.mean(x, axis=(1, 2)))

    return Whole()


def main(folder: Path) -> None:
    """Writes a file of each form, and the logits of images of 48 x 33 and 33 x 40 pixels."""
    draws = np.random.default_rng(1)
    expected: dict[str, np.ndarray[Any, Any]] = {}
    for form, units in SMALL.items():
        for size in SIZES:
            name = f"{form}/{size[0]}x{size[1]}"
            images = draws.normal(size=(1, *size, 3)).astype(np.float32)
            made, logits = variables_and_logits(
                form, units, images, classes=CLASSES, filters=FILTERS
            )
            (folder / f"{form}.msgpack").write_bytes(made)
            expected |= {f"{name}/images": images, f"{name}/logits": logits}
    np.savez_compressed(folder / "expected.npz", **expected)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
