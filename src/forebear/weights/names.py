"""What the homes call each array, and how it lies: one table a home, filled from the plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from forebear.network.measure import arrays
from forebear.network.plan import Layer, Plan
from forebear.network.scopes import HOMES, Part, Role, home_of, roles
from forebear.weights import layouts
from forebear.weights.layouts import Layout


@dataclass(frozen=True, slots=True)
class Source:
    """How one home stores arrays; `forebear.network.scopes` says under which scopes."""

    arrays: dict[str, str]  # our array to their array, "conv.weight" to "weights"
    separator: str
    kernel: Layout
    dense: Layout  # of the logits
    grouped: tuple[str, Layout] | None = None  # array and layout of grouped kernels
    flat: tuple[str, ...] = ()  # convolutions that are matrices over a flattened map


# fmt: off
_NORM = {
    "norm.weight":       "gamma",
    "norm.bias":         "beta",
    "norm.running_mean": "moving_mean",
    "norm.running_var":  "moving_variance",
}
_SLIM = _NORM | {
    "conv.weight": "weights", "conv.bias": "biases", "weight": "weights", "bias": "biases",
}
_KERAS = _NORM | {
    "conv.weight": "kernel", "conv.bias": "bias", "weight": "kernel", "bias": "bias",
}
_TORCH = {
    "conv.weight":              "weight",
    "conv.bias":                "bias",
    "weight":                   "weight",
    "bias":                     "bias",
    "norm.weight":              "weight",
    "norm.bias":                "bias",
    "norm.running_mean":        "running_mean",
    "norm.running_var":         "running_var",
    "norm.num_batches_tracked": "num_batches_tracked",
}
_DEPTHWISE = ("depthwise_kernel", layouts.DEPTHWISE)
SOURCES: dict[str, Source] = {
    "slim":                Source(_SLIM, "/", layouts.HWIO, layouts.HWIO_LINEAR),
    "slim-alexnet":        Source(_SLIM, "/", layouts.HWIO, layouts.HWIO_LINEAR),
    "keras":               Source(_KERAS, "/", layouts.HWIO, layouts.IO, _DEPTHWISE),
    "keras-old":           Source(_KERAS, "/", layouts.HWIO, layouts.IO, _DEPTHWISE),
    "torchvision":         Source(_TORCH, ".", layouts.SAME, layouts.SAME),
    "torchvision-alexnet": Source(_TORCH, ".", layouts.SAME, layouts.SAME, flat=("fc6", "fc7")),
    "timm":                Source(_TORCH, ".", layouts.SAME, layouts.SAME),
    "timm-v2":             Source(_TORCH, ".", layouts.SAME, layouts.OIHW_LINEAR),
    "cifar":               Source(_TORCH, ".", layouts.SAME, layouts.SAME),
}
# fmt: on


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


def pairs(plan: Plan, names: str | None = None) -> list[Pair]:
    """Every array of a network under both names, in the order in which the layers run.

    Args:
        plan: the network.
        names: the home; None takes the dialect's own.

    Raises:
        ValueError: an unknown home, or one that has no name for one of the layers.
    """
    key = home_of(plan, names)
    home, source = HOMES[key], SOURCES[key]
    found = []
    for layer, role, slots in roles(plan, home):
        for array, shape in _arrays(layer, source):
            part: Part = "norm" if array.startswith("norm") else "conv"
            template = home.scopes.get((role, part))
            if template is None or ("{row}" in template and not slots["row"]):
                raise ValueError(
                    f"names={key!r} has no name for {layer.path}.{array}. Expected a home of the "
                    "same family. Leave names out for the dialect's own."
                )
            last, layout = _stored(layer, role, array, source)
            theirs = f"{template.format(**slots)}{source.separator}{last}"
            needed = array != "norm.num_batches_tracked"
            found.append(Pair(f"{layer.path}.{array}", theirs, shape, layout, needed))
    return found


def _arrays(layer: Layer, source: Source) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from arrays(layer).items()
    if layer.norm and "norm.num_batches_tracked" in source.arrays:
        yield "norm.num_batches_tracked", ()


def _stored(layer: Layer, role: Role, array: str, source: Source) -> tuple[str, Layout]:
    """The home's name for an array within its scope, and its layout."""
    name = source.arrays[array]
    if role == "logits" and array == "weight":
        return name, source.dense
    if array != "conv.weight":
        return name, layouts.SAME
    if layer.groups > 1 and source.grouped is not None:
        return source.grouped
    return name, layouts.FLAT if layer.name in source.flat else source.kernel
