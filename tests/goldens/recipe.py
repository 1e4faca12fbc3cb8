"""Weights and inputs that any machine can rebuild bit for bit, from names and shapes alone.

The goldens' makers (TF-Slim, Keras, torchvision, timm) were fed with these arrays. A key is hashed
from name and shape, Philox gives the words, and integer arithmetic turns them into numbers. Every
eighth channel of a norm has a tiny variance and gamma, so that a wrong epsilon shows.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_STD = math.sqrt((2.0**32 - 1.0) / 3.0)  # of the sum of four 16-bit numbers


def _words(name: str, shape: tuple[int, ...]) -> NDArray[np.uint64]:
    text = f"|{name}|{'x'.join(map(str, shape))}"
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
    words: NDArray[np.uint64] = np.random.Philox(key=key).random_raw(math.prod(shape))
    return words


def normal(name: str, shape: tuple[int, ...]) -> Array:
    """Float64 values of zero mean and unit variance: four 16-bit halves summed (Irwin-Hall)."""
    words = _words(name, shape)
    total = sum(
        ((words >> np.uint64(s)) & np.uint64(0xFFFF)).astype(np.int64) for s in (0, 16, 32, 48)
    )
    return ((np.asarray(total) - 131070).astype(np.float64) / _STD).reshape(shape)


def uniform(name: str, shape: tuple[int, ...], low: float, high: float) -> Array:
    """Float64 values in [low, high)."""
    share = (_words(name, shape) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return (low + (high - low) * share).reshape(shape)


def _with_tiny_channels(array: Array, factor: float) -> Array:
    array[5::8] *= factor
    return array


def weights(name: str, shape: tuple[int, ...]) -> Array:
    """The array of a variable, in its home's layout, told by the last part of its name."""
    last = name.replace(".", "/").rpartition("/")[2]
    if last in ("num_batches_tracked", "global_step"):
        return np.zeros(shape, np.int64)
    if last in ("beta", "bias", "biases"):
        return (normal(name, shape) * 0.1).astype(np.float32)
    if last in ("moving_mean", "running_mean"):
        return (normal(name, shape) * 0.5).astype(np.float32)
    if last in ("moving_variance", "running_var"):
        return _with_tiny_channels(uniform(name, shape, 2.0, 6.0), 1e-6).astype(np.float32)
    if last == "gamma" or (last == "weight" and len(shape) == 1):
        return _with_tiny_channels(uniform(name, shape, 0.5, 1.5), 2e-3).astype(np.float32)
    if last == "weight":  # torch: out first
        fan_in = math.prod(shape[1:])
    elif last == "depthwise_kernel":
        fan_in = shape[0] * shape[1] * shape[3]
    else:  # TensorFlow: out last
        fan_in = math.prod(shape[:-1])
    return (normal(name, shape) * math.sqrt(2.0 / fan_in)).astype(np.float32)


def images(shape: tuple[int, ...]) -> Array:
    """A batch [N, H, W, C]: noise over tiles of 16 x 16 pixels."""
    n, height, width, channels = shape
    tiles = (n, -(-height // 16), -(-width // 16), channels)
    coarse = normal("input/tile", tiles).repeat(16, axis=1).repeat(16, axis=2)
    fine = normal("input", shape)
    return (fine * 0.5 + coarse[:, :height, :width]).astype(np.float32)
