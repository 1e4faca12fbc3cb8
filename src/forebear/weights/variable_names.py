"""Names and layouts of all arrays in the original libraries: one table for each library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from forebear.network.plan.cost import arrays
from forebear.network.plan.layer_names import naming_scheme_of, roles
from forebear.network.plan.naming_schemes import NAMING_SCHEMES, Part, Role
from forebear.network.plan.plan import Layer, Plan
from forebear.weights import layouts
from forebear.weights.layouts import Layout


@dataclass(frozen=True, slots=True)
class Source:
    """How one library stores arrays. `forebear.network.plan.naming_schemes` has the scopes."""

    arrays: dict[str, str]  # {forebear's array name: the library's}, {"conv.weight": "weights"}
    separator: str
    kernel: Layout
    dense: Layout  # layout of the classifier's weight
    grouped: tuple[str, Layout] | None = None  # name and layout of grouped kernels
    flat: tuple[str, ...] = ()  # convolutions that are stored as matrices over a flattened map


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
_PADDLE = _TORCH | {"norm.running_mean": "_mean", "norm.running_var": "_variance"}
del _PADDLE["norm.num_batches_tracked"]
_CAFFE2 = {
    "conv.weight": "w", "conv.bias": "b", "weight": "w", "bias": "b", "norm.weight": "s",
    "norm.bias": "b", "norm.running_mean": "rm", "norm.running_var": "riv",
}
_FLAX = _KERAS | {
    "norm.weight": "scale", "norm.bias": "bias", "norm.running_mean": "mean",
    "norm.running_var": "var",
}
_DEPTHWISE = ("depthwise_kernel", layouts.DEPTHWISE)
SOURCES: dict[str, Source] = {
    "slim":                Source(_SLIM, "/", layouts.HWIO, layouts.HWIO_LINEAR),
    "slim-alexnet":        Source(_SLIM, "/", layouts.HWIO, layouts.HWIO_LINEAR),
    "keras":               Source(_KERAS, "/", layouts.HWIO, layouts.IO, _DEPTHWISE),
    "keras-old":           Source(_KERAS, "/", layouts.HWIO, layouts.IO, _DEPTHWISE),
    "kerashub":            Source(_KERAS, "/", layouts.HWIO, layouts.IO),
    "torchvision":         Source(_TORCH, ".", layouts.SAME, layouts.SAME),
    "torchvision-alexnet": Source(_TORCH, ".", layouts.SAME, layouts.SAME, flat=("fc6", "fc7")),
    "timm":                Source(_TORCH, ".", layouts.SAME, layouts.SAME),
    "timm-v2":             Source(_TORCH, ".", layouts.SAME, layouts.OIHW_LINEAR),
    "cifar":               Source(_TORCH, ".", layouts.SAME, layouts.SAME),
    "transformers":        Source(_TORCH, ".", layouts.SAME, layouts.SAME),
    "weiaicunzai":         Source(_TORCH, ".", layouts.SAME, layouts.SAME),
    "paddle":              Source(_PADDLE, ".", layouts.SAME, layouts.IO),
    "caffe2":              Source(_CAFFE2, ".", layouts.SAME, layouts.SAME),
    "detectron2":          Source(_TORCH, ".", layouts.SAME, layouts.SAME),
    "flax":                Source(_FLAX, "/", layouts.HWIO, layouts.IO),
    "transformers-flax":   Source(_FLAX, "/", layouts.HWIO, layouts.IO),
}
# fmt: on
_AXES = {0: "scalar", 1: "C", 2: "OI", 4: "OIHW"}  # torch's layouts, by the number of axes


@dataclass(frozen=True, slots=True)
class Pair:
    """One array, with its names in forebear and in the original library."""

    ours: str  # key in the network's state_dict
    theirs: str  # name in the original library
    shape: tuple[int, ...]  # in torch's layout
    layout: Layout  # in the original library
    needed: bool = True  # False: a counter that older checkpoints do not have

    @property
    def their_shape(self) -> tuple[int, ...]:
        """The shape in the original library's layout."""
        return self.layout.shape(self.shape)

    @property
    def axes(self) -> str:
        """The axes of the original layout, such as HWIO. `forebear.weights.layouts` lists them."""
        return self.layout.axes or _AXES[len(self.shape)]


def pairs(plan: Plan, names: str | None = None) -> list[Pair]:
    """Returns every array of a network under both names, in execution order.

    Args:
        plan: The network.
        names: The naming scheme. None uses that of the dialect.

    Raises:
        ValueError: The naming scheme is unknown, has no name for an array, or has the same name for
            two arrays.
    """
    key = naming_scheme_of(plan, names)
    found: dict[str, Pair] = {}
    for pair in _named(plan, key):
        if not pair.theirs:
            raise ValueError(f"names={key!r} has no name for {pair.ours}. {_remedy(plan)}")
        if pair.theirs in found:
            raise ValueError(
                f"names={key!r} gives {found[pair.theirs].ours} and {pair.ours} the same name, "
                f"{pair.theirs}. {_remedy(plan)}"
            )
        found[pair.theirs] = pair
    return list(found.values())


def _remedy(plan: Plan) -> str:
    schemes = [
        name for name in NAMING_SCHEMES if not name.endswith("-alexnet")
    ]  # naming_scheme_of adds that suffix
    fitting = [name for name in schemes if _names_all(plan, name)]
    if not fitting:
        return (
            f"No naming scheme covers all arrays of {plan.table.name}. Use forebear's own names, "
            "those of state_dict."
        )
    return (
        f"Expected a naming scheme that covers all arrays of {plan.table.name}: "
        f"{', '.join(fitting)}. Pass one of these."
    )


def _names_all(plan: Plan, names: str) -> bool:
    """Whether a naming scheme has a different name for each array."""
    found = [pair.theirs for pair in _named(plan, naming_scheme_of(plan, names))]
    return all(found) and len({*found}) == len(found)


def _named(plan: Plan, key: str) -> Iterator[Pair]:
    """Yields every array under both names; `theirs` is empty if the library has no name."""
    scheme, source = NAMING_SCHEMES[key], SOURCES[key]
    for layer, role, slots in roles(plan, scheme):
        for array, shape in _arrays(layer, source):
            part: Part = "norm" if array.startswith("norm") else "conv"
            template = scheme.scopes.get((role, part), "")
            if "{row}" in template and not slots["row"]:
                template = ""
            last, layout = _stored(layer, role, array, source)
            theirs = f"{template.format(**slots)}{source.separator}{last}" if template else ""
            needed = array != "norm.num_batches_tracked"
            yield Pair(f"{layer.path}.{array}", theirs, shape, layout, needed)


def _arrays(layer: Layer, source: Source) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from arrays(layer).items()
    if layer.norm and "norm.num_batches_tracked" in source.arrays:
        yield "norm.num_batches_tracked", ()


def _stored(layer: Layer, role: Role, array: str, source: Source) -> tuple[str, Layout]:
    """Returns the library's name of an array within its scope, and its layout."""
    name = source.arrays[array]
    if role == "logits" and array == "weight":
        return name, source.dense
    if array != "conv.weight":
        return name, layouts.SAME
    if layer.groups > 1 and source.grouped is not None:
        return source.grouped
    return name, layouts.FLAT if layer.name in source.flat else source.kernel
