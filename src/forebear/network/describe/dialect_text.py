"""The fields of a dialect as text, for the commands describe, diff and dialects.

Nothing here imports torch.
"""

from __future__ import annotations

from forebear.network.plan.plan import Layer, Plan
from forebear.tables.dialects import Dialect
from forebear.tables.preprocessing import Preprocessing

# {field of Dialect: (title, {value: text})}; values without a text are printed as they are
_QUESTIONS: dict[str, tuple[str, dict[object, str]]] = {
    "order": (
        "norm and ReLU",
        {"post": "after each convolution (v1)", "pre": "before each convolution (v2)"},
    ),
    "strided_unit": (
        "strided unit",
        {"first": "first of a block", "last": "last of the block before"},
    ),
    "strided_conv": (
        "strided convolution",
        {"conv1": "conv1 of the unit", "conv2": "conv2 of a bottleneck"},
    ),
    "conv_padding": (
        "convolution padding",
        {"explicit": "equal on both sides", "same": "TensorFlow's SAME"},
    ),
    "pool_padding": (
        "pool windows",
        {"explicit": "padded equally on both sides", "same": "SAME (even maps: at the end only)"},
    ),
    "pool_fill": ("pool border", {"lowest": "-inf", "zero": "zeros"}),
    "norm_eps": ("epsilon", {}),
    "norm_decay": ("running mean keeps", {}),
    "norm_variance": ("running variance", {}),
    "root_norm": ("norm in the root", {True: "yes", False: "no"}),
    "root_relu": ("ReLU in the root", {True: "yes", False: "no"}),
    "bias_before_norm": ("bias before a norm", {True: "yes", False: "no"}),
    "bias_without_norm": ("bias without a norm", {True: "yes", False: "no"}),
    "shortcut": (
        "shortcuts project",
        {
            "widen": "where channels change",
            "change": "where channels or stride change",
            "first": "in each block's first unit",
            "always": "in every unit",
            "after": "nowhere, zeros come after",
            "split": "nowhere, zeros on both sides",
        },
    ),
    "shortcut_norm": ("norm in projections", {True: "yes", False: "no"}),
    "final_norm": ("norm after the last block", {True: "yes", False: "no"}),
    "head": ("logits stored as", {"conv": "a 1x1 convolution", "linear": "a linear layer"}),
    "background": (
        "published weights",
        {True: "background class first", False: "no background class"},
    ),
    "init": ("initial weights", {}),
    "names": ("variable names", {}),
}
# {field of Preprocessing: title}
_PREPROCESSING = {
    "size": "image size",
    "resize": "resize and crop",
    "interpolation": "interpolation",
    "order": "channel order",
    "scale": "scale",
    "mean": "mean",
    "std": "std",
}
_RESIZES = {
    "shorter": "shorter side to {side}, centre crop",
    "central": "central {central:g} of each side, then to {size}",
    "square": "to {size}",
    "pad": "to fit {size}, black around",
    "none": "none",
}


def answers(dialect: Dialect) -> dict[str, tuple[str, str]]:
    """Returns {field: (title, text)} of all fields of a dialect and of its preprocessing."""
    found = {}
    for name, (asked, words) in _QUESTIONS.items():
        value = getattr(dialect, name)
        said = decimal(value) if isinstance(value, float) else str(value)
        found[name] = (asked, words.get(value, said))
    rule = dialect.preprocessing
    said_of = {
        "size": "x".join(map(str, rule.shape)),
        "resize": _resize(rule),
        "interpolation": rule.interpolation,
        "order": rule.order,
        "scale": _factor(rule.scale),
        "mean": _numbers(rule.mean),
        "std": _numbers(rule.std),
    }
    for name, said in said_of.items():
        if name != "interpolation" or rule.resize != "none":
            found[f"preprocessing.{name}"] = (_PREPROCESSING[name], said)
    return found


def question(field: str) -> str:
    """Returns the title of a field, which is the first item in `answers`."""
    group, _, name = field.partition(".")
    return _PREPROCESSING[name] if group == "preprocessing" else _QUESTIONS[field][0]


def decimal(value: float) -> str:
    """Returns a number in the notation of papers, 1e-5."""
    return f"{value:g}".replace("e-0", "e-")


def strided_layer(plan: Plan) -> tuple[Layer, bool] | None:
    """Returns the last convolution with a stride, and whether its unit is the last of its block.

    Returns None if no block has several units and a stride.
    """
    strided = [
        (layer, unit is units[-1])
        for _, units in plan.blocks
        for unit in units
        for layer in unit.convs
        if layer.step > 1 and len(units) > 1
    ]
    return strided[-1] if strided else None


def summary(plan: Plan) -> str:
    """Returns one line with the choices that most often explain different results."""
    said = answers(plan.dialect)
    parts = []
    strided = strided_layer(plan)
    if strided is not None:
        layer, last = strided
        parts.append(f"stride in {layer.name} of a block's {'last' if last else 'first'} unit")
    if any(layer.kind == "pool" and layer.padding != 0 for layer in plan.root):
        border = ", zeros around" if plan.dialect.pool_fill == "zero" else ""
        parts.append(f"pool {said['pool_padding'][1]}{border}")
    if any(layer.norm for layer in plan.layers()):
        parts.append(f"epsilon {said['norm_eps'][1]}")
    if plan.table.activation != "relu":
        parts.append(f"{plan.table.activation} in each ReLU's place")
    parts.append(pixels(plan.dialect.preprocessing))
    return "; ".join(parts)


def pixels(rule: Preprocessing) -> str:
    """Returns the preprocessing as one phrase."""
    kind = "" if rule.resize == "none" else f" ({rule.interpolation})"
    resize = "no resize" if rule.resize == "none" else _resize(rule)
    scale = "" if rule.scale == 1 else f" x {_factor(rule.scale)}"
    std = "" if set(rule.std) == {1.0} else f" / {_numbers(rule.std)}"
    return f"{resize}{kind}, {rule.order}{scale} - {_numbers(rule.mean)}{std}"


def _resize(rule: Preprocessing) -> str:
    size = "x".join(map(str, rule.shape))
    return _RESIZES[rule.resize].format(side=rule.side, size=size, central=rule.central)


def _factor(scale: float) -> str:
    """Returns a factor below 1 as a fraction such as 1/255, like its source."""
    return f"{scale:g}" if scale >= 1 else f"1/{1 / scale:g}"


def _numbers(values: tuple[float, ...]) -> str:
    same = len(set(values)) == 1
    return f"{values[0]:g}" if same else f"({', '.join(f'{value:g}' for value in values)})"
