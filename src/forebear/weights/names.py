"""What the homes call each array and each end point: one table a source, filled from the plan.

Templates stand for every layer of a role; the plan fills their slots:
    {net} the table's name   {block} {unit} {layer} our names   {form} bottleneck_v1 and the like
    {b} {u} {n} numbers of block, unit, convolution from 1; {B} = b + 1, {v} = u - 1, {m} = n + 1
    {letter} the unit as Caffe letters it, a, b, c, ...
Each role has up to three parts: the convolution, the norm, and what the layer gives out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from forebear.errors import near_misses
from forebear.network.measure import arrays
from forebear.network.plan import Layer, Plan
from forebear.weights import layouts
from forebear.weights.layouts import Layout

Role = Literal[
    "root",
    "pool1",
    "layer",
    "preact",
    "conv",
    "shortcut",
    "unit",
    "block",
    "postnorm",
    "pool",
    "logits",
]
Part = Literal["conv", "norm", "out"]


@dataclass(frozen=True, slots=True)
class Source:
    """How one home names things."""

    scopes: dict[tuple[Role, Part], str]  # of arrays (conv, norm) and of end points (all parts)
    arrays: dict[str, str]  # our array to their array, "conv.weight" to "weights"
    separator: str
    kernel: Layout
    dense: Layout  # of the logits
    hidden: frozenset[str] = frozenset()  # parts that hold arrays and are no end points
    rows: dict[str, str] | None = None  # our row to their layer, where no template serves
    other_logits: tuple[str, ...] = ()  # further scopes under which the logits were published


_SLIM_ARRAYS = {
    "conv.weight": "weights",
    "conv.bias": "biases",
    "weight": "weights",
    "bias": "biases",
    "norm.weight": "gamma",
    "norm.bias": "beta",
    "norm.running_mean": "moving_mean",
    "norm.running_var": "moving_variance",
}
_KERAS_ARRAYS = _SLIM_ARRAYS | {
    "conv.weight": "kernel",
    "conv.bias": "bias",
    "weight": "kernel",
    "bias": "bias",
}
_TORCH_ARRAYS = {
    "conv.weight": "weight",
    "conv.bias": "bias",
    "weight": "weight",
    "bias": "bias",
    "norm.weight": "weight",
    "norm.bias": "bias",
    "norm.running_mean": "running_mean",
    "norm.running_var": "running_var",
    "norm.num_batches_tracked": "num_batches_tracked",
}

# tf_slim 1.1.0: a convolution's norm lies in its scope, the pre-activation's is its own scope.
# fmt: off
_SLIM = Source(
    {
        ("root", "conv"):     "{net}/{layer}",
        ("root", "norm"):     "{net}/{layer}/BatchNorm",
        ("root", "out"):      "{net}/{layer}",
        ("pool1", "out"):     "{net}/{layer}",
        ("layer", "conv"):    "{net}/{layer}",
        ("layer", "norm"):    "{net}/{layer}/BatchNorm",
        ("layer", "out"):     "{net}/{layer}",
        ("preact", "norm"):   "{net}/{block}/{unit}/{form}/preact",
        ("preact", "out"):    "{net}/{block}/{unit}/{form}/preact",
        ("shortcut", "conv"): "{net}/{block}/{unit}/{form}/shortcut",
        ("shortcut", "norm"): "{net}/{block}/{unit}/{form}/shortcut/BatchNorm",
        ("shortcut", "out"):  "{net}/{block}/{unit}/{form}/shortcut",
        ("conv", "conv"):     "{net}/{block}/{unit}/{form}/conv{n}",
        ("conv", "norm"):     "{net}/{block}/{unit}/{form}/conv{n}/BatchNorm",
        ("conv", "out"):      "{net}/{block}/{unit}/{form}/conv{n}",
        ("unit", "out"):      "{net}/{block}/{unit}/{form}",
        ("block", "out"):     "{net}/{block}",
        ("postnorm", "norm"): "{net}/postnorm",
        ("postnorm", "out"):  "{net}/postnorm",
        ("pool", "out"):      "global_pool",
        ("logits", "conv"):   "{net}/logits",
        ("logits", "out"):    "{net}/logits",
    },
    _SLIM_ARRAYS, "/", layouts.HWIO, layouts.HWIO_LINEAR, frozenset({"conv", "norm"}),
)
_SLIM_ALEXNET = Source(
    _SLIM.scopes | {("logits", "conv"): "{net}/fc8", ("logits", "out"): "{net}/fc8"},
    _SLIM_ARRAYS, "/", layouts.HWIO, layouts.HWIO_LINEAR, frozenset({"conv", "norm"}),
)
# keras/src/applications/resnet.py; keras-applications 1.0.8 calls the logits probs.
_KERAS = Source(
    {
        ("root", "conv"):     "{layer}_conv",
        ("root", "norm"):     "{layer}_bn",
        ("root", "out"):      "{layer}_relu",
        ("pool1", "out"):     "{layer}_pool",
        ("preact", "norm"):   "conv{B}_block{u}_preact_bn",
        ("preact", "out"):    "conv{B}_block{u}_preact_relu",
        ("shortcut", "conv"): "conv{B}_block{u}_0_conv",
        ("shortcut", "norm"): "conv{B}_block{u}_0_bn",
        ("conv", "conv"):     "conv{B}_block{u}_{n}_conv",
        ("conv", "norm"):     "conv{B}_block{u}_{n}_bn",
        ("conv", "out"):      "conv{B}_block{u}_{n}_relu",
        ("unit", "out"):      "conv{B}_block{u}_out",
        ("postnorm", "norm"): "post_bn",
        ("postnorm", "out"):  "post_relu",
        ("pool", "out"):      "avg_pool",
        ("logits", "conv"):   "predictions",
        ("logits", "out"):    "predictions",
    },
    _KERAS_ARRAYS, "/", layouts.HWIO, layouts.IO, other_logits=("probs",),
)
# keras-applications resnet50.py: Caffe's names.
_KERAS_OLD = Source(
    {
        ("root", "conv"):     "{layer}",
        ("root", "norm"):     "bn_{layer}",
        ("pool1", "out"):     "max_pooling2d",
        ("shortcut", "conv"): "res{B}{letter}_branch1",
        ("shortcut", "norm"): "bn{B}{letter}_branch1",
        ("conv", "conv"):     "res{B}{letter}_branch2{branch}",
        ("conv", "norm"):     "bn{B}{letter}_branch2{branch}",
        ("pool", "out"):      "avg_pool",
        ("logits", "conv"):   "fc1000",
        ("logits", "out"):    "fc1000",
    },
    _KERAS_ARRAYS, "/", layouts.HWIO, layouts.IO,
)
# torchvision/models/resnet.py and timm/models/resnet.py.
_TORCHVISION = Source(
    {
        ("root", "conv"):     "conv1",
        ("root", "norm"):     "bn1",
        ("root", "out"):      "relu",
        ("pool1", "out"):     "maxpool",
        ("preact", "norm"):   "layer{b}.{v}.preact",
        ("shortcut", "conv"): "layer{b}.{v}.downsample.0",
        ("shortcut", "norm"): "layer{b}.{v}.downsample.1",
        ("shortcut", "out"):  "layer{b}.{v}.downsample",
        ("conv", "conv"):     "layer{b}.{v}.conv{n}",
        ("conv", "norm"):     "layer{b}.{v}.bn{n}",
        ("unit", "out"):      "layer{b}.{v}",
        ("block", "out"):     "layer{b}",
        ("postnorm", "norm"): "norm",
        ("pool", "out"):      "avgpool",
        ("logits", "conv"):   "fc",
        ("logits", "out"):    "fc",
    },
    _TORCH_ARRAYS, ".", layouts.SAME, layouts.SAME,
)
_TORCHVISION_ALEXNET = Source(
    {
        ("root", "conv"):     "{row}",
        ("root", "out"):      "features.1",
        ("pool1", "out"):     "{row}",
        ("layer", "conv"):    "{row}",
        ("layer", "out"):     "{row}",
        ("logits", "conv"):   "classifier.6",
        ("logits", "out"):    "classifier.6",
    },
    _TORCH_ARRAYS, ".", layouts.SAME, layouts.SAME,
    rows={
        "conv1": "features.0", "pool1": "features.2", "conv2": "features.3", "pool2": "features.5",
        "conv3": "features.6", "conv4": "features.8", "conv5": "features.10",
        "pool5": "features.12", "average": "avgpool", "fc6": "classifier.1", "fc7": "classifier.4",
    },
)
# timm/models/resnetv2.py: the norm before convolution n + 1 is the one after convolution n.
_TIMM_V2 = Source(
    {
        ("root", "conv"):     "stem.conv",
        ("pool1", "out"):     "stem.pool",
        ("preact", "norm"):   "stages.{w}.blocks.{v}.norm1",
        ("shortcut", "conv"): "stages.{w}.blocks.{v}.downsample.conv",
        ("conv", "conv"):     "stages.{w}.blocks.{v}.conv{n}",
        ("conv", "norm"):     "stages.{w}.blocks.{v}.norm{m}",
        ("unit", "out"):      "stages.{w}.blocks.{v}",
        ("block", "out"):     "stages.{w}",
        ("postnorm", "norm"): "norm",
        ("postnorm", "out"):  "norm",
        ("pool", "out"):      "head.global_pool",
        ("logits", "conv"):   "head.fc",
        ("logits", "out"):    "head.fc",
    },
    _TORCH_ARRAYS, ".", layouts.SAME, layouts.OIHW_LINEAR,
)
# akamaster/pytorch_resnet_cifar10, resnet.py; pre-activations continue its way of naming.
_CIFAR = Source(
    _TORCHVISION.scopes | {
        ("preact", "norm"):   "layer{b}.{v}.bn0",
        ("shortcut", "conv"): "layer{b}.{v}.shortcut.0",
        ("shortcut", "norm"): "layer{b}.{v}.shortcut.1",
        ("shortcut", "out"):  "layer{b}.{v}.shortcut",
        ("postnorm", "norm"): "bn",
        ("logits", "conv"):   "linear",
        ("logits", "out"):    "linear",
    },
    _TORCH_ARRAYS, ".", layouts.SAME, layouts.SAME,
)
# fmt: on
SOURCES: dict[str, Source] = {
    "slim": _SLIM,
    "slim-alexnet": _SLIM_ALEXNET,
    "keras": _KERAS,
    "keras-old": _KERAS_OLD,
    "torchvision": _TORCHVISION,
    "torchvision-alexnet": _TORCHVISION_ALEXNET,
    "timm": _TORCHVISION,
    "timm-v2": _TIMM_V2,
    "cifar": _CIFAR,
}


@dataclass(frozen=True, slots=True)
class Pair:
    """One array on both sides."""

    ours: str  # key of the network's state_dict
    theirs: str
    shape: tuple[int, ...]  # torch's
    layout: Layout
    needed: bool = True  # False: a counter that older files lack

    @property
    def their_shape(self) -> tuple[int, ...]:
        """The shape in the home's layout."""
        return self.layout.shape(self.shape)


def source_of(plan: Plan, names: str | None = None) -> Source:
    """The source that names a network's arrays: its dialect's own, or the one asked for.

    Raises:
        ValueError: no source has that name.
    """
    if names is None:
        return SOURCES[plan.dialect.names]
    if names not in SOURCES:
        raise ValueError(
            f"names={names!r}: expected one of {', '.join(SOURCES)}.{near_misses(names, SOURCES)}"
        )
    chain, order = plan.table.layers, plan.dialect.order
    if chain and names in ("slim", "torchvision"):
        return SOURCES[f"{names}-alexnet"]
    if order == "pre" and names == "timm":
        return SOURCES["timm-v2"]
    return SOURCES[names]


def pairs(plan: Plan, names: str | None = None) -> list[Pair]:
    """Every array of a network under both names, in the order in which the layers run.

    Raises:
        ValueError: a source that has no name for one of the layers.
    """
    source = source_of(plan, names)
    found = []
    for layer, role, slots in _roles(plan):
        for array, shape in arrays(layer).items():
            part: Part = "norm" if array.startswith("norm") else "conv"
            found.append(_pair(source, layer, role, part, array, shape, slots, names))
            if array == "norm.running_var" and "norm.num_batches_tracked" in source.arrays:
                counter = _pair(
                    source, layer, role, part, "norm.num_batches_tracked", (), slots, names
                )
                found.append(counter)
    return found


def _pair(
    source: Source,
    layer: Layer,
    role: Role,
    part: Part,
    array: str,
    shape: tuple[int, ...],
    slots: dict[str, str],
    names: str | None,
) -> Pair:
    template = source.scopes.get((role, part))
    if template is None or ("{row}" in template and not slots["row"]):
        raise ValueError(
            f"names={names!r} has no name for {layer.path}.{array}. Expected a source of the same "
            "family. Leave names out for the dialect's own."
        )
    scope, last = template.format(**slots), source.arrays[array]
    layout = layouts.SAME
    if role == "logits" and array == "weight":
        layout = source.dense
    elif array == "conv.weight":
        layout = source.kernel
        if source.arrays is _KERAS_ARRAYS and layer.groups > 1:
            layout, last = layouts.DEPTHWISE, "depthwise_kernel"
        if source is _TORCHVISION_ALEXNET and layer.name in ("fc6", "fc7"):
            layout = layouts.FLAT
    ours = f"{layer.path}.{array}"
    theirs = f"{scope}{source.separator}{last}"
    return Pair(ours, theirs, shape, layout, needed="num_batches_tracked" not in array)


def _roles(plan: Plan) -> Iterator[tuple[Layer, Role, dict[str, str]]]:
    """Every layer with its role and the slots of its templates."""
    rows = source_rows(plan)
    base = {"net": plan.table.name, "row": ""}
    for layer in plan.root:
        slots = base | {"layer": layer.name, "row": rows.get(layer.name, "")}
        yield layer, "pool1" if layer.kind == "pool" else "root", slots
    for layer in plan.body:
        yield layer, "layer", base | {"layer": layer.name, "row": rows.get(layer.name, "")}
    for b, (block, units) in enumerate(plan.blocks, start=1):
        for u, unit in enumerate(units, start=1):
            slots = base | unit_slots(plan, block, b, u)
            for layer in unit.layers():
                if layer is unit.preact:
                    yield layer, "preact", slots
                elif layer is unit.shortcut:
                    yield layer, "shortcut", slots
                else:
                    n = unit.convs.index(layer) + 1
                    numbers = {"n": str(n), "m": str(n + 1), "branch": chr(ord("a") + n - 1)}
                    yield layer, "conv", slots | numbers
    for layer in plan.head():
        role: Role = {"norm": "postnorm", "mean": "pool", "logits": "logits"}[layer.kind]  # type: ignore[assignment]
        yield layer, role, base


def source_rows(plan: Plan) -> dict[str, str]:
    """Our rows' names in torchvision's AlexNet."""
    return _TORCHVISION_ALEXNET.rows or {} if plan.body else {}


def unit_slots(plan: Plan, block: str, b: int, u: int) -> dict[str, str]:
    """The slots of everything in unit u of block b."""
    version = "v1" if plan.dialect.order == "post" else "v2"
    units = len(plan.blocks[b - 1][1])
    letter = chr(ord("a") + u - 1) if units <= 26 else "a" if u == 1 else f"b{u - 1}"
    return {
        "block": block,
        "unit": f"unit_{u}",
        "form": f"{plan.table.form}_{version}",
        "b": str(b),
        "B": str(b + 1),
        "w": str(b - 1),
        "u": str(u),
        "v": str(u - 1),
        "letter": letter,
    }


def original_end_points(plan: Plan) -> dict[str, str]:
    """{the home's name: our path} of every end point that the home has a name for.

    Where the home names a convolution or a norm by itself, as torchvision's bn1 before its ReLU,
    the path is that of the part.
    """
    from forebear.network.ends import end_points  # imports torch, which names alone do without

    source = source_of(plan)
    found: dict[str, str] = {}

    def add(role: Role, path: str, slots: dict[str, str], parts: tuple[Part, ...]) -> None:
        for part in parts:
            template = source.scopes.get((role, part))
            if template is None or part in source.hidden:
                continue
            name = template.format(**slots)
            found[name] = path if part == "out" else f"{path}.{part}"

    base = {"net": plan.table.name}
    layers = {layer.path: (layer, role, slots) for layer, role, slots in _roles(plan)}
    numbers = {
        unit.path: (block, b, u)
        for b, (block, units) in enumerate(plan.blocks, start=1)
        for u, unit in enumerate(units, start=1)
    }
    blocks = {block: b for b, (block, _) in enumerate(plan.blocks, start=1)}
    for path in end_points(plan):
        if path in layers:
            layer, role, slots = layers[path]
            parts: tuple[Part, ...] = ("conv", "norm") if layer.norm else ("conv",)
            if layer.kind in ("norm",):
                parts = ("norm",)
            if layer.kind in ("pool", "average", "mean", "logits"):
                parts = ()
            shown = layer.relu or source.hidden or layer.kind != "conv" or role == "shortcut"
            add(role, path, slots, (*parts, "out") if shown else parts)
        elif path in numbers:
            add("unit", path, base | unit_slots(plan, *numbers[path]), ("out",))
        elif path in blocks:
            add("block", path, base | {"block": path, **_block_slots(blocks[path])}, ("out",))
        elif plan.dialect.names.startswith("slim"):
            found["predictions"] = path
    return found


def _block_slots(b: int) -> dict[str, str]:
    return {"b": str(b), "B": str(b + 1), "w": str(b - 1)}
