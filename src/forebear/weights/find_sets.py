"""Finds the sets of weights in a file: each prefix of names under which one network is filled.

Trainers wrap a network in dicts, modules and scopes, and save other things with it. A name in a
file is therefore read as prefix + name in the library. Names of dicts are a part of the prefix. The
body of the network must be filled completely, and below the prefix nothing else may look like a
part of it. The head may be elsewhere, under any name: it is the one leftover matrix that takes the
features and has a bias.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from forebear.errors import WeightsError
from forebear.limits import CHANNELS
from forebear.network.plan.layer_names import naming_scheme_of
from forebear.network.plan.naming_schemes import NAMING_SCHEMES
from forebear.network.plan.plan import Plan
from forebear.text import truncated
from forebear.weights.sequential_names import with_names
from forebear.weights.set_words import is_average, is_beside, is_contrastive, is_projection
from forebear.weights.variable_names import Pair, pairs

Shape = tuple[int, ...]
AVERAGE = "ExponentialMovingAverage"  # TensorFlow's name of a variable's moving average
OBJECT = "/.ATTRIBUTES/VARIABLE_VALUE"  # the end of a name that TF2 gives a variable without one
# Arrays that are not weights: step counters, Caffe's mean colour, and Adam's powers.
_BESIDE = ("global_step", "mean_rgb", "beta1_power", "beta2_power", "n_averaged")
GROUP_SUM = "_2_gconv/kernel"  # a constant kernel of keras-applications
WRAPPERS = ("module", "_orig_mod")  # of DataParallel and torch.compile, at any place in a name
_NORM_ARRAYS = ("running_mean", "running_var", "gamma", "moving_mean", "moving_variance")


@dataclass(frozen=True, slots=True)
class WeightSet:
    """One set of weights in a file."""

    label: str  # the prefix of its names: "state_dict.module."; "" if there is none
    keys: Mapping[str, str]  # {name in the library: name in the file}
    exact: bool  # the body has the network's shapes, for some number of input channels
    channels: int = 3  # input channels
    classes: int | None = None  # outputs of the head; None: there is no head
    left: tuple[str, ...] = ()  # names in the file of layers that could be a head, and are not

    @property
    def is_average(self) -> bool:
        """Whether the arrays are averages of others."""
        return any(map(is_average, parts(self.label)))


class Wanted:
    """The names and shapes of a network in its library."""

    def __init__(self, plan: Plan) -> None:
        """Reads them off the plan, which has logits.

        Raises:
            ValueError: The library has no names for these layers.
        """
        found = pairs(plan)
        self.plan = plan
        self.head = [pair for pair in found if pair.ours.startswith("logits.")]
        self.body = {pair.theirs: pair for pair in found if pair not in self.head}
        self.needed = {pair.theirs for pair in found if pair.needed and pair not in self.head}
        self.anchor = next(pair.theirs for pair in found if pair.needed)
        self.separator = "/" if "/" in self.anchor else "."
        scheme = NAMING_SCHEMES[naming_scheme_of(plan)]
        own = self.head[0].theirs.rpartition(self.separator)[0]
        self.scopes = (own, *scheme.other_logits)  # of the head
        self.starts = {_letters(name) for name in self.body}  # as in conv, bn, layer

    @property
    def features(self) -> int:
        """The inputs of the head."""
        return self.head[0].shape[1]

    def looks_foreign(self, name: str) -> bool:
        """Whether a name looks like one of the body, but the network has no such array."""
        if name in self.body or is_no_weight(name) or self.is_head(name):
            return False
        return _letters(name) in self.starts

    def is_head(self, name: str) -> bool:
        """Whether a name is that of an array of the head."""
        return name.rpartition(self.separator)[0] in self.scopes

    def channels(self, keys: Mapping[str, str], shape: Callable[[str], Shape]) -> int | None:
        """Returns the number of input channels; None if the shapes are not the network's."""
        first = self.body[self.anchor]
        wide = first.layout.shape((first.shape[0], CHANNELS + 1, *first.shape[2:]))
        given = shape(keys[self.anchor])
        if len(given) != len(wide) or CHANNELS + 1 not in wide:
            return None
        channels = given[wide.index(CHANNELS + 1)]
        expected = {name: self.body[name].their_shape for name in keys if name in self.body}
        expected[self.anchor] = first.layout.shape((first.shape[0], channels, *first.shape[2:]))
        same = all(shape(keys[name]) == wanted for name, wanted in expected.items())
        return channels if same else None


class FileNames:
    """The names and shapes of all arrays in a file, or in a mapping."""

    def __init__(
        self,
        names: Iterable[str],
        shape: Callable[[str], Shape],
        scope: Callable[[str], str] = lambda _: "",
    ) -> None:
        """Reads the names.

        Args:
            names: The names of all arrays.
            shape: Returns the shape of an array.
            scope: Returns the part of a name that is names of dicts.
        """
        self.bare = {name.removesuffix(":0"): name for name in names}
        self.plain = plain_names(self.bare.values())
        self.shape, self.scope = shape, scope


def find_sets(wanted: Wanted, file: FileNames, *, heads: bool = True) -> list[WeightSet]:
    """Returns the sets of weights that fill a network's body, in the order of the file.

    Args:
        wanted: The names of the network.
        file: The names of all arrays in the file.
        heads: Whether to look for the heads.

    Raises:
        WeightsError: The head is not one layer, or several arrays could be the head.
    """
    plain, shape, scope = file.plain, file.shape, file.scope
    filled = dict(_filled(wanted, plain))
    bodies = {key for keys in filled.values() for key in keys.values()}
    scopes = {prefix: scope(keys[wanted.anchor]) for prefix, keys in filled.items()}
    found = []
    for prefix, keys in filled.items():
        others = [other for other in filled if not prefix.startswith(other)]
        taken = {own for other, own in scopes.items() if other != prefix}
        own = scopes[prefix]
        rest = {
            name: key
            for name, key in plain.items()
            if key not in bodies
            and not is_no_weight(name)
            and not any(name.startswith(other) for other in others)
            and (scope(key) == own or (scope(key) not in taken and _is_sibling(scope(key), own)))
        }
        channels = wanted.channels(keys, shape)
        one = WeightSet(prefix, keys, channels is not None, channels or 3)
        if heads:
            one = _with_head(wanted, one, rest, shape)
        found += [one, *_moving(one, file.bare)]
    return found


def _filled(wanted: Wanted, plain: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields each prefix under which the body is filled, with {name in the library: in the file}.

    The constant kernels of keras-applications are included, so that they are checked.
    """
    for prefix, under in prefixes(wanted, plain):
        if wanted.needed <= under.keys() and not any(map(wanted.looks_foreign, under)):
            kept = (name for name in under if name in wanted.body or name.endswith(GROUP_SUM))
            yield prefix, {name: under[name] for name in kept}


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Returns {name without wrappers and suffixes: name in the file}, without optimizers' slots.

    Places in an nn.Sequential have the names of torchvision's layers (`sequential_names`).
    A slot of TensorFlow has a variable's name as its scope: "conv1/weights/Momentum".
    """
    listed = {name.removesuffix(":0"): name for name in names}
    found: dict[str, str] = {}
    for name, key in listed.items():
        above = name.rpartition("/")[0]
        if above and above in listed:
            continue
        short = name.removesuffix(f"/{AVERAGE}")
        if "." in short and "/" not in short:
            short = ".".join(part for part in short.split(".") if part not in WRAPPERS)
        if short in found or (short != name and short in listed):
            short = name
        found[short] = key
    return with_names(found)


def parts(label: str) -> list[str]:
    """Returns the parts of a name or a prefix."""
    return [part for part in re.split(r"[./]", label) if part]


def is_no_weight(name: str) -> bool:
    """Whether a name is that of an array which is not a weight, such as a step counter."""
    return re.split(r"[./]", name)[-1] in _BESIDE or name.endswith(GROUP_SUM)


def prefixes(wanted: Wanted, plain: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields each prefix under which the first array of a network is.

    Args:
        wanted: The network.
        plain: {name: name in the file}, as of `plain_names`.

    Yields:
        The prefix, and {name without it: name in the file} of all arrays under it.
    """
    for name in plain:
        prefix = name.removesuffix(wanted.anchor)
        if prefix != name and (not prefix or prefix[-1] in "./"):
            yield (
                prefix,
                {
                    own.removeprefix(prefix): key
                    for own, key in plain.items()
                    if own.startswith(prefix)
                },
            )


def _letters(name: str) -> str:
    return re.match(r"[^\W\d_]*", name).group()  # type: ignore[union-attr]


def _is_sibling(scope: str, own: str) -> bool:
    """Whether two dicts are in the same dict, and the first does not belong to training."""
    above = own.rstrip(".").rpartition(".")[0]
    inside = not above or scope.startswith(f"{above}.")
    last = scope[len(above) :].strip(".")
    alone = bool(own) and inside and bool(last) and "." not in last
    return alone and not is_beside(last) and not is_average(last)


# ---- the head


def _with_head(
    wanted: Wanted, one: WeightSet, rest: Mapping[str, str], shape: Callable[[str], Shape]
) -> WeightSet:
    """Adds the head to a set, if there is one.

    Args:
        wanted: The names of the network.
        one: The body.
        rest: {name: name in the file} of other arrays that may belong to it.
        shape: Returns the shape of an array.
    """
    near = {name: key for name, key in rest.items() if name.startswith(one.label)}
    own = {name: near[name] for name in near if wanted.is_head(name.removeprefix(one.label))}
    if own and not one.exact:  # the shapes are refused later, with the head's
        return replace(one, keys={**one.keys, **_renamed_head(wanted, one.label, own)})
    if not one.exact:
        return one
    marked = parts(one.label)
    weight, bias = (pair.theirs.rpartition(wanted.separator)[2] for pair in wanted.head)
    heads: list[str] = []
    for within in (own, near, rest):
        heads = heads or _heads(wanted, within, shape, weight, bias)
    layers = _layers(wanted, heads, rest, shape)
    if any(map(is_contrastive, marked)):
        return replace(one, left=(*dict.fromkeys([*heads, *layers]),))
    projects = any(is_projection(part) for name in rest for part in parts(name))
    if layers and (projects or {"student", "teacher"} & {*marked}):
        return replace(one, left=(*layers,))
    if len(heads) == 1 and heads[0] in own:
        layers = _after(wanted, heads[0], rest, shape)
    if layers:
        raise _not_one_layer(wanted, layers)
    if not heads:
        return one
    scope = heads[0].removesuffix(weight)
    taken = {wanted.head[0].theirs: rest[heads[0]], wanted.head[1].theirs: rest[scope + bias]}
    (classes,) = shape(rest[scope + bias])
    return replace(one, keys={**one.keys, **taken}, classes=classes)


def _renamed_head(wanted: Wanted, label: str, own: Mapping[str, str]) -> dict[str, str]:
    scope = wanted.scopes[0]
    return {
        f"{scope}{wanted.separator}{name.rpartition(wanted.separator)[2]}": key
        for name, key in own.items()
    }


def _heads(
    wanted: Wanted,
    rest: Mapping[str, str],
    shape: Callable[[str], Shape],
    weight: str,
    bias: str,
) -> list[str]:
    """Returns the names of matrices that take the features and have a bias."""
    found = []
    for name, key in rest.items():
        scope = name.removesuffix(weight)
        if scope == name or scope + bias not in rest or (scope and scope[-1] not in "./"):
            continue
        outputs = shape(rest[scope + bias])
        if len(outputs) == 1 and shape(key) == _dense_shape(wanted.head[0], outputs[0]):
            found.append(name)
    return found


def _dense_shape(pair: Pair, outputs: int) -> Shape:
    return pair.layout.shape((outputs, *pair.shape[1:]))


def _layers(
    wanted: Wanted, heads: list[str], rest: Mapping[str, str], shape: Callable[[str], Shape]
) -> list[str]:
    """Returns the names of other layers that take the features or what the head computes.

    Norms are among them: between the features and the classes, they change the function.
    """
    outputs = {size for name in heads for size in shape(rest[name])} | {wanted.features}
    found = []
    for name, key in rest.items():
        size, last = shape(key), parts(name)[-1]
        if name in heads:
            continue
        kernel = len(size) in (2, 4) and last in ("weight", "weights", "kernel", "weight_v")
        if last in _NORM_ARRAYS or (kernel and outputs & {*size}):
            found.append(name)
    return found + (heads if found or len(heads) > 1 else [])


def _after(
    wanted: Wanted, head: str, rest: Mapping[str, str], shape: Callable[[str], Shape]
) -> list[str]:
    """Returns the names of layers with a bias that take what the library's own head computes."""
    weight, bias = (pair.theirs.rpartition(wanted.separator)[2] for pair in wanted.head)
    (inputs,) = shape(rest[head.removesuffix(weight) + bias])
    found = []
    for name, key in rest.items():
        below = rest.get(name.removesuffix(weight) + bias)
        if not name.endswith(weight) or below is None or len(shape(below)) != 1:
            continue
        one = wanted.head[0].layout.shape((*shape(below), inputs, *wanted.head[0].shape[2:]))
        if name != head and shape(key) == one:
            found.append(name)
    return [head, *found] if found else []


def _not_one_layer(wanted: Wanted, layers: list[str]) -> WeightsError:
    return WeightsError(
        f"its head is not one linear layer: it has {truncated(', '.join(sorted(layers)[:8]))}. "
        f"Expected one layer with a bias that takes the {wanted.features} features of "
        f"{wanted.plan.table.name}. Save the network without these layers, or leave them out by "
        'which="body" (--which body).'
    )


def _moving(one: WeightSet, there: Mapping[str, str]) -> list[WeightSet]:
    """Returns the moving averages that TensorFlow stores next to the variables of a set."""
    averages = {
        name: there[f"{key.removesuffix(':0')}/{AVERAGE}"]
        for name, key in one.keys.items()
        if f"{key.removesuffix(':0')}/{AVERAGE}" in there
    }
    if not averages:
        return []
    return [replace(one, label=f"{one.label}{AVERAGE}", keys={**one.keys, **averages})]
