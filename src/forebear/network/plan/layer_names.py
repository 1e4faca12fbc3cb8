"""Names of layers and end points in the original libraries, by the tables in `naming_schemes`."""

from __future__ import annotations

from collections.abc import Iterator

from forebear.errors import near_misses
from forebear.network.plan.end_points import end_points
from forebear.network.plan.naming_schemes import (
    NAMING_SCHEMES,
    NamingScheme,
    Part,
    Role,
    Slots,
)
from forebear.network.plan.plan import Layer, Plan


def naming_scheme_of(plan: Plan, names: str | None = None) -> str:
    """Returns the key in NAMING_SCHEMES of a network's naming scheme.

    Args:
        plan: The network.
        names: The requested naming scheme. None uses that of the dialect.

    Raises:
        ValueError: The naming scheme is unknown, or it is for AlexNet and the network is not one.
    """
    if names is None:
        return plan.dialect.names
    if names not in NAMING_SCHEMES:
        raise ValueError(
            f"names={names!r}: this naming scheme is unknown. Expected one of "
            f"{', '.join(NAMING_SCHEMES)}. Pass one of these.{near_misses(names, NAMING_SCHEMES)}"
        )
    if plan.body and f"{names}-alexnet" in NAMING_SCHEMES:
        return f"{names}-alexnet"
    family = names.removesuffix("-alexnet")
    if not plan.body and family != names:
        raise ValueError(
            f"names={names!r}: this naming scheme is for AlexNet, but {plan.table.name} has "
            f"residual blocks. Expected {family!r}. Pass names={family!r}."
        )
    if plan.dialect.order == "pre" and names == "timm":
        return "timm-v2"
    return names


def roles(plan: Plan, scheme: NamingScheme) -> Iterator[tuple[Layer, Role, Slots]]:
    """Yields every layer with its role and the slots of its templates, in execution order."""

    def slots(layer: Layer) -> Slots:
        return {
            "net": plan.table.name,
            "layer": layer.name,
            "row": scheme.rows.get(layer.name, ""),
            "out": scheme.outs.get(layer.name, ""),
        }

    for layer in plan.root:
        yield layer, "pool1" if layer.kind == "pool" else "root", slots(layer)
    for layer in plan.body:
        yield layer, "layer", slots(layer)
    for b, (block, units) in enumerate(plan.blocks, start=1):
        for u, unit in enumerate(units, start=1):
            inside = _unit_slots(plan, block, b, u)
            for layer in unit.layers():
                if layer is unit.preact:
                    yield layer, "preact", slots(layer) | inside
                elif layer is unit.shortcut:
                    yield layer, "shortcut", slots(layer) | inside
            for n, layer in enumerate(unit.convs, start=1):
                numbers = {
                    "n": str(n),
                    "m": str(n + 1),
                    "l": str(n - 1),
                    "i": str(3 * (n - 1)),
                    "j": str(3 * (n - 1) + 1),
                    "branch": chr(ord("a") + n - 1),
                }
                yield layer, "conv", slots(layer) | inside | numbers
    head: tuple[tuple[Role, Layer | None], ...] = (
        ("postnorm", plan.postnorm),
        ("pool", plan.pool),
        ("logits", plan.logits),
    )
    for role, last in head:
        if last is not None:
            yield last, role, slots(last)


def _block_slots(plan: Plan, block: str, b: int) -> Slots:
    return {
        "net": plan.table.name,
        "block": block,
        "b": str(b),
        "B": str(b + 1),
        "w": str(b - 1),
    }


def _unit_slots(plan: Plan, block: str, b: int, u: int) -> Slots:
    version = "v1" if plan.dialect.order == "post" else "v2"
    lettered = len(plan.blocks[b - 1][1]) <= 26
    return _block_slots(plan, block, b) | {
        "unit": f"unit_{u}",
        "form": f"{plan.table.form}_{version}",
        "u": str(u),
        "v": str(u - 1),
        "g": str(sum(len(units) for _, units in plan.blocks[: b - 1]) + u - 1),
        "kind": "ResNetBlock" if plan.table.form == "basic" else "BottleneckResNetBlock",
        # The Caffe models with 101 and 152 layers use a, b1, b2, ...
        "letter": chr(ord("a") + u - 1) if lettered else "a" if u == 1 else f"b{u - 1}",
    }


def original_end_points(plan: Plan) -> dict[str, str]:
    """Returns {original name: path} of every end point that the original library has a name for.

    If the library has a separate name for a convolution or a norm, the path is that of the part.
    An example is torchvision's bn1, which precedes a ReLU.
    """
    scheme = NAMING_SCHEMES[naming_scheme_of(plan)]
    places: dict[str, tuple[Role, Slots, tuple[Part, ...]]] = {
        layer.path: (role, slots, _parts(layer, role, scheme))
        for layer, role, slots in roles(plan, scheme)
    }
    for b, (block, units) in enumerate(plan.blocks, start=1):
        places[block] = ("block", _block_slots(plan, block, b), ("out",))
        for u, unit in enumerate(units, start=1):
            places[unit.path] = ("unit", _unit_slots(plan, block, b, u), ("out",))
    found: dict[str, str] = {}
    for path in end_points(plan):
        role, slots, parts = places.get(path, ("logits", {}, ()))
        for part in parts:
            template = scheme.scopes.get((role, part))
            if template is not None:
                name = template.format(**slots)
                found[name] = path if part == "out" else f"{path}.{part}"
    if scheme.parts == ("out",) and plan.logits is not None:
        found["predictions"] = "predictions"  # TF-Slim's name, which has no scope
    return found


def _parts(layer: Layer, role: Role, scheme: NamingScheme) -> tuple[Part, ...]:
    """Returns the parts of a layer that are tensors in the original library."""
    parts: list[Part] = []
    if layer.kind == "conv":
        parts.append("conv")
    if layer.norm:
        parts.append("norm")
    # If the parts have separate names, the output has one only if it ends in an activation.
    ends = layer.kind != "conv" or layer.activation != "none"
    if ends or role == "shortcut" or scheme.parts == ("out",):
        parts.append("out")
    return tuple(part for part in parts if part in scheme.parts)
