"""The registry of published networks: "library/name" maps to a table and a dialect.

`name` is the name that the original library uses.
"""

from __future__ import annotations

import fnmatch
from dataclasses import replace
from typing import NamedTuple

from forebear.errors import near_misses
from forebear.tables import dialects, resnet, resnext
from forebear.tables.alexnet import ALEXNET, ALEXNET_V2
from forebear.tables.dialects import DIALECTS, Dialect
from forebear.tables.resnet import HE_2016
from forebear.tables.rows import Table


class Entry(NamedTuple):
    """A published network: its table, and the dialect of the library that published it."""

    table: Table
    dialect: Dialect


# Versions and folders of the original code. The tables' sources name them after the paper.
_TF_SLIM = "tf_slim 1.1.0, nets"
_KERAS_3 = "Keras 3.15, applications"
_KERAS_APPLICATIONS = "keras-applications 1.0.8"
_TORCHVISION_MODELS = "torchvision 0.28, models"
_TIMM_MODELS = "timm 1.0.31, models"


def _entry(table: Table, dialect: Dialect, *files: str) -> Entry:
    """Returns a registry entry. The library's files are appended to the table's source."""
    sources = [table.source, *files]
    if dialect.order == "pre" and HE_2016 not in table.source:
        sources.insert(1, f"{HE_2016}, pre-activation units")
    return Entry(replace(table, source="; ".join(sources)), dialect)


def _slim() -> dict[str, Entry]:
    nets = {"alexnet_v2": _entry(ALEXNET_V2, dialects.SLIM_ALEXNET, f"{_TF_SLIM}/alexnet.py")}
    for version, dialect in (("v1", dialects.SLIM_V1), ("v2", dialects.SLIM_V2)):
        file = f"{_TF_SLIM}/resnet_{version}.py"
        for depth in (50, 101, 152, 200):
            name = f"resnet_{version}_{depth}"
            nets[name] = _entry(resnet.imagenet(name, depth), dialect, file)
    return nets


def _keras() -> dict[str, Entry]:
    nets = {}
    for suffix, dialect, file in (
        ("", dialects.KERAS_V1, "resnet.py"),
        ("V2", dialects.KERAS_V2, "resnet_v2.py"),
    ):
        for depth in (50, 101, 152):
            name = f"ResNet{depth}{suffix}"
            nets[name] = _entry(resnet.imagenet(name, depth), dialect, f"{_KERAS_3}/{file}")
    old = resnet.imagenet("ResNet50_old", 50)
    nets["ResNet50_old"] = _entry(old, dialects.KERAS_OLD, f"{_KERAS_APPLICATIONS}, resnet50.py")
    for depth in (50, 101):
        name = f"ResNeXt{depth}"
        table = resnext.imagenet(name, depth, 32, 4)
        nets[name] = _entry(
            table, dialects.KERAS_RESNEXT, f"{_KERAS_APPLICATIONS}, resnet_common.py"
        )
    return nets


def _torchvision() -> dict[str, Entry]:
    alexnet = _entry(ALEXNET, dialects.TORCHVISION_ALEXNET, f"{_TORCHVISION_MODELS}/alexnet.py")
    tables = [resnet.imagenet(f"resnet{depth}", depth) for depth in (18, 34, 50, 101, 152)]
    tables += [
        resnext.imagenet("resnext50_32x4d", 50, 32, 4),
        resnext.imagenet("resnext101_32x8d", 101, 32, 8),
        resnext.imagenet("resnext101_64x4d", 101, 64, 4),
        resnet.imagenet("wide_resnet50_2", 50, widen=2),
        resnet.imagenet("wide_resnet101_2", 101, widen=2),
    ]
    file = f"{_TORCHVISION_MODELS}/resnet.py"
    nets = {table.name: _entry(table, dialects.TORCHVISION_V1, file) for table in tables}
    return {"alexnet": alexnet, **nets}


def _timm() -> dict[str, Entry]:
    tables = [resnet.imagenet(f"resnet{depth}", depth) for depth in resnet.UNITS]
    tables += [
        resnext.imagenet("resnext50_32x4d", 50, 32, 4),
        resnext.imagenet("resnext101_32x4d", 101, 32, 4),
        resnext.imagenet("resnext101_32x16d", 101, 32, 16),  # Mahajan et al. 2018 (1805.00932)
        resnext.imagenet("resnext101_32x32d", 101, 32, 32),
        resnext.imagenet("resnext101_32x48d", 101, 32, 48),
    ]
    file = f"{_TIMM_MODELS}/resnet.py"
    nets = {table.name: _entry(table, dialects.TIMM_V1, file) for table in tables}
    for depth in (18, 34, 50, 101, 152):
        name = f"resnetv2_{depth}"
        dialect = dialects.TIMM_PREACT_BASIC if depth < 50 else dialects.TIMM_PREACT
        nets[name] = _entry(resnet.imagenet(name, depth), dialect, f"{_TIMM_MODELS}/resnetv2.py")
    return nets


def _paper() -> dict[str, Entry]:
    nets: dict[str, Entry] = {}

    def add(table: Table, dialect: Dialect, *files: str) -> None:
        nets[table.name] = _entry(table, dialect, *files)

    resnext_lua = "facebookresearch/ResNeXt, models/resnext.lua"
    preresnet_lua = "fb.resnet.torch, models/preresnet.lua"
    akamaster = "akamaster/pytorch_resnet_cifar10, resnet.py"
    he_1k = "KaimingHe/resnet-1k-layers, resnet-pre-act.lua"

    # He et al. 2015: table 2 compares plain networks with option A, table 3 compares the options.
    for depth in (18, 34):
        add(resnet.imagenet(f"resnet{depth}", depth), dialects.PAPER_V1_A)
        add(resnet.imagenet(f"resnet{depth}_b", depth), dialects.PAPER_V1)
        add(resnet.imagenet(f"resnet{depth}_c", depth), dialects.PAPER_V1_C)
        add(resnet.imagenet(f"plain{depth}", depth, shortcuts=False), dialects.PAPER_V1)
    for depth in (50, 101, 152):
        add(resnet.imagenet(f"resnet{depth}", depth), dialects.PAPER_V1)
    add(resnet.imagenet("preresnet200", 200), dialects.PAPER_V2_IMAGENET, preresnet_lua)
    add(resnext.imagenet("resnext50_32x4d", 50, 32, 4), dialects.PAPER_RESNEXT, resnext_lua)
    add(resnext.imagenet("resnext101_64x4d", 101, 64, 4), dialects.PAPER_RESNEXT, resnext_lua)
    for depth in (20, 32, 44, 56, 110, 1202):
        add(resnet.cifar(f"resnet{depth}", depth), dialects.PAPER_CIFAR, akamaster)
    add(resnet.cifar("preresnet110", 110), dialects.PAPER_V2_A)
    for depth in (164, 1001):
        add(resnet.cifar(f"preresnet{depth}", depth, "bottleneck"), dialects.PAPER_V2, he_1k)
    add(resnext.cifar("resnext29_8x64d", 8, 64), dialects.PAPER_CIFAR_RESNEXT, resnext_lua)
    add(resnext.cifar("resnext29_16x64d", 16, 64), dialects.PAPER_CIFAR_RESNEXT, resnext_lua)
    for depth in (18, 34, 50):
        add(resnet.cifar_resnet(f"resnet{depth}_cifar", depth), dialects.PAPER_CIFAR_B)
    return nets


NETWORKS: dict[str, Entry] = {
    f"{library}/{name}": entry
    for library, nets in (
        ("slim", _slim()),
        ("keras", _keras()),
        ("torchvision", _torchvision()),
        ("timm", _timm()),
        ("paper", _paper()),
    )
    for name, entry in nets.items()
}


def networks(pattern: str = "*") -> list[str]:
    """Returns the names of the published networks that match a pattern such as `"slim/*"`."""
    return [name for name in NETWORKS if fnmatch.fnmatchcase(name, pattern)]


def find(name: str) -> Entry:
    """Returns the table and the dialect of a published network.

    Raises:
        ValueError: The name is unknown. The message suggests similar names.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    bare = [known for known in NETWORKS if known.split("/")[1] == name]
    near = f" Did you mean {' or '.join(bare)}?" if bare else near_misses(name, NETWORKS)
    raise ValueError(
        f"network={name!r} is unknown. Expected a name such as slim/resnet_v1_50. "
        f"Run `forebear list` to see all names.{near}"
    )


def find_dialect(name: str) -> Dialect:
    """Returns the dialect of a given name.

    Raises:
        ValueError: The name is unknown. The message lists all dialects.
    """
    if name in DIALECTS:
        return DIALECTS[name]
    raise ValueError(
        f"dialect={name!r} is unknown. Expected one of {', '.join(DIALECTS)}. "
        f"Pass one of these.{near_misses(name, DIALECTS)}"
    )
