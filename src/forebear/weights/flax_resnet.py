"""The ResNets of Flax: those of its ImageNet example, and those of transformers 4.

The example (flax, examples/imagenet/models.py) numbers its units through all blocks. A projection
starts a block, as its first unit changes the channels or the resolution. Its 3x3 convolutions and
its pool have TensorFlow's SAME padding, and the root has 3 pixels on each side.

transformers' FlaxResNet (models/resnet/modeling_flax_resnet.py) has the names and the function of
the class for PyTorch, with one exception: a stride is always in the 3x3 convolution.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from forebear.errors import TableError, WeightsError
from forebear.tables.dialects import TORCHVISION_V1, Dialect
from forebear.tables.preprocessing import TORCHVISION
from forebear.tables.rows import Block, Conv, Form, Pool, Table
from forebear.weights.choose_set import RenamedArrays
from forebear.weights.readers.base import Arrays
from forebear.weights.readers.errors import refused
from forebear.weights.transformers_resnet import TRANSFORMERS, published_name

Shape = tuple[int, ...]

# examples/imagenet/input_pipeline.py: the centre crop of 224 / 256 of the shorter side, bicubic.
# The updates of flax.linen.BatchNorm take the biased variance.
FLAX = replace(
    TORCHVISION_V1,
    name="flax",
    conv_padding="same",
    pool_padding="same",
    norm_variance="biased",
    init="fan-in",
    names="flax",
    preprocessing=replace(TORCHVISION, interpolation="bicubic"),
)
TRANSFORMERS_FLAX = replace(
    TRANSFORMERS, name="transformers-flax", norm_variance="biased", names="transformers-flax"
)
STRIDE_IGNORED = (
    "config.json has downsample_in_bottleneck=true, which transformers' FlaxResNet ignores: the "
    "strides are in the 3x3 convolutions, as in the class that wrote the file"
)
_SOURCE = "flax, examples/imagenet/models.py"
_BACKBONE = "resnet/"  # before the names of the body if there is a classifier
_EMBEDDER = "embedder/embedder/convolution/kernel"
_ROOT = 7  # pixels: the kernel of the example's root
_KERNEL = re.compile(
    r"(?:(?P<prefix>.*)/)?(?P<kind>Bottleneck|)ResNetBlock_(?P<unit>\d{1,4})/"
    r"Conv_(?P<conv>[0-2])/kernel"
)


def is_of_transformers(names: Iterable[str]) -> bool:
    """Whether arrays of a Flax file have the names of transformers' ResNets."""
    return any(name in (_EMBEDDER, _BACKBONE + _EMBEDDER) for name in names)


def with_backbone(arrays: Arrays) -> Arrays:
    """Returns the arrays of transformers under the names that they have with a classifier."""
    if any(name.startswith(_BACKBONE) for name in arrays):
        return arrays
    return RenamedArrays(arrays, {_BACKBONE + name: name for name in arrays})


def needs_config(arrays: Arrays) -> WeightsError:
    """Returns the error for a file of transformers without its config."""
    return refused(
        arrays.path,
        "this is the flax_model.msgpack of a ResNet of transformers",
        "its config.json beside it, which has the strides",
        "Pass the folder with both.",
    )


def example_network(arrays: Arrays) -> tuple[Table, Dialect] | None:
    """Returns the network of Flax's example whose convolutions a file has, if it has them."""
    names = set(arrays)
    units: dict[int, dict[int, Shape]] = {}
    found: tuple[str, str] | None = None
    for name in arrays:
        match = _KERNEL.fullmatch(name)
        if match is None:
            continue
        prefix = f"{match['prefix']}/" if match["prefix"] else ""
        if f"{prefix}bn_init/mean" not in names:
            continue  # a slot of an optimizer, which has no statistics
        found = found or (prefix, match["kind"])
        if found == (prefix, match["kind"]):
            unit = units.setdefault(int(match["unit"]), {})
            unit[int(match["conv"])] = arrays.shape(name)
    if found is None or sorted(units) != [*range(len(units))]:
        return None
    prefix, kind = found
    root = arrays.shape(first) if (first := f"{prefix}conv_init/kernel") in names else ()
    starts = [
        number
        for number in range(len(units))
        if number == 0 or f"{prefix}{kind}ResNetBlock_{number}/conv_proj/kernel" in names
    ]
    form: Form = "bottleneck" if kind else "basic"
    if len(root) != 4 or root[:2] != (_ROOT, _ROOT):
        return None
    try:
        blocks = _blocks(units, starts, form)
        return None if blocks is None else (_table(root[3], form, blocks), FLAX)
    except TableError:  # of a size that no network has
        return None


def _table(channels: int, form: Form, blocks: tuple[Block, ...]) -> Table:
    """Returns the table of the example, with the name that its blocks have in timm."""
    conv, pool = Conv("conv1", channels, _ROOT, stride=2, padding=_ROOT // 2), Pool("pool1")
    table = Table("resnet", (conv, pool), form, blocks, source=_SOURCE)
    plain = replace(table, root=(replace(conv, padding="same"), pool))
    return replace(table, name=published_name(plain))


def _blocks(
    units: Mapping[int, Mapping[int, Shape]], starts: list[int], form: Form
) -> tuple[Block, ...] | None:
    """Returns the blocks that start at these units; None if a kernel is missing."""
    blocks, last = [], 1 if form == "basic" else 2
    ends = [*starts[1:], len(units)]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True), start=1):
        kernels = [units[start].get(place, ()) for place in (0, last)]
        if any(len(kernel) != 4 for kernel in kernels):
            return None
        width, channels = (kernel[3] for kernel in kernels)
        stride = 1 if number == 1 else 2
        blocks.append(Block(f"block{number}", end - start, width, channels, stride))
    return tuple(blocks)
