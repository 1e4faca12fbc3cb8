"""Says what a checkpoint holds that is not one of forebear's networks.

Relatives of ResNets have layers of their own, whose names give them away. Of any other file, the
nearest network is named, with the first array that does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from forebear.text import truncated
from forebear.weights.find_sets import OBJECT, FileNames, Wanted, prefixes
from forebear.weights.structure import structures

_SHARE = 0.5  # of a network's arrays that must fit, so that it is named


@dataclass(frozen=True, slots=True)
class _Relative:
    pattern: re.Pattern[str]  # of a name that the other network does not have
    what: str


def _relative(pattern: str, what: str) -> _Relative:
    return _Relative(re.compile(pattern), what)


# The names are those of timm, torchvision and the original repositories.
_RELATIVES = (
    _relative(r"attnpool\.", "a ResNet of CLIP: attention in place of the global pool"),
    _relative(r"layer\d\.\d+\.conv2\.(?:conv|fc1|bn0|fc2)\.", "a ResNeSt: split attention"),
    _relative(r"layer\d\.\d+\.conv2\.(?:paths|attn)\.", "an SK-ResNet: selective kernels"),
    _relative(r"layer\d\.\d+\.convs\.\d", "a Res2Net: convolutions in a hierarchy of groups"),
    _relative(r"(?:layer\d|\d)\.\d+\.(?:se|se_module)\.", "an SE-ResNet: squeeze and excitation"),
    _relative(r"layer\d\.\d+\.attn\.", "a ResNet with attention in its units"),
    _relative(r"(?:blur_filter|aa\.filt|\.filt$)", "a ResNet with blurred pools"),
    _relative(r"layer\d\.\d+\.downsample\.2\.", "a ResNet-D: a pool before the projection"),
    _relative(r"_vd_|conv1_[123]\.", "a ResNet-vd: three root convolutions, pooled projections"),
    _relative(r"(?:^|\.)(?:conv1\.[36]|stem\.[036])\.weight", "a ResNet-C: a root of three layers"),
    _relative(r"standardized_conv2d|/group_norm", "a BiT ResNet: group norms and other kernels"),
    _relative(r"trunk_output\.", "a RegNet"),
    _relative(r"denseblock\d", "a DenseNet"),
    _relative(r"blocks\.\d+\.attn\.qkv|encoder\.layers\.encoder_layer", "a vision transformer"),
)  # fmt: skip


def what_it_is(file: FileNames) -> str:
    """Returns what the arrays of a file seem to be, as the end of a sentence; "" if unknown."""
    objects = next((name for name in file.plain if name.endswith(OBJECT)), None)
    if objects is not None:
        return (
            f"it is a TensorFlow 2 checkpoint of objects, and {truncated(objects)} has no name of "
            'its own; restore it in Keras and save it with model.save("model.keras")'
        )
    for one in _RELATIVES:
        name = next((name for name in file.plain if one.pattern.search(name)), None)
        if name is not None:
            return f"it seems to be {one.what} ({truncated(name)}), which forebear does not have"
    return max(_near(file), default=(0.0, ""))[1]


def _near(file: FileNames) -> Iterator[tuple[float, str]]:
    """Yields (fraction of the arrays that fit, what does not fit) of each network that is near."""
    for one in structures(file.plain, file.shape):
        wanted = one.wanted
        if wanted is None:
            continue
        for _, under in prefixes(wanted, file.plain):
            wrong = list(_differences(wanted, under, file))
            share = 1 - len(wrong) / len(wanted.needed)
            if share >= _SHARE and wrong:
                yield share, _line(one.dialect.name, one.table.name, wanted.needed, wrong)


def _differences(wanted: Wanted, under: dict[str, str], file: FileNames) -> Iterator[str]:
    for name in (name for name in wanted.body if name in wanted.needed):
        if name not in under:
            yield f"{name} is missing"
        elif name != wanted.anchor and file.shape(under[name]) != wanted.body[name].their_shape:
            expected, found = wanted.body[name].their_shape, file.shape(under[name])
            yield f"{name} is {truncated([*found])} instead of {truncated([*expected])}"
    for name in under:
        if wanted.looks_foreign(name):
            yield f"{name} is not in it"


def _line(dialect: str, network: str, needed: Iterable[str], wrong: list[str]) -> str:
    more = f", and {len(wrong) - 1} more arrays differ" if len(wrong) > 1 else ""
    return (
        f"the nearest network is a {network} of dialect {dialect} with {len({*needed})} arrays: "
        f"{truncated(wrong[0])}{more}"
    )
