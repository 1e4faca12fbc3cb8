"""Each golden file as a network of ours, its inputs, and what must come out."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import forebear
from forebear.network.plan.layer_names import original_end_points
from forebear.tables.resnet import IMAGENET_ROOT
from forebear.tables.rows import Block, Table
from forebear.weights.variable_names import pairs
from tests.goldens import recipe
from tests.goldens.recipe import Array

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared" / "goldens"
NAMING_SCHEMES = {"tf-slim": "slim", "keras": "keras", "torchvision": "torchvision", "timm": "timm"}


@dataclass
class Case:
    """One golden: a network filled with the recipe's weights, and the file's arrays."""

    name: str
    network: forebear.Network
    images: torch.Tensor
    arrays: dict[str, Array]
    training: bool

    @property
    def tolerance(self) -> float:
        """Absolute, on logits: AlexNet and the deepest networks add up more rounding."""
        deep = any(word in self.name for word in ("alexnet", "152", "200"))
        return 2e-4 if deep else 1e-4


def files(folder: Path) -> list[Path]:
    """The golden files of networks in a folder."""
    return sorted(
        path
        for path in folder.glob("*.npz")
        if not path.name.startswith(("preprocess", "cifar_published"))
    )


def read(path: Path, answer: str = "", wrong: object = None) -> Case:
    """The case of one file; with one answer of its dialect wrong, to see that it matters."""
    with np.load(path) as archive:
        arrays = dict(archive)
    meta = json.loads(str(arrays.pop("meta")))
    network = _network(path.stem, meta)
    if answer:
        dialect = replace(network.dialect, **{answer: wrong})  # type: ignore[arg-type]
        network = forebear.create(
            network.table, dialect=dialect, num_classes=network.plan.num_classes
        )
    given = {
        pair.theirs: recipe.weights(_name_in_file(pair.theirs, path.stem), pair.their_shape)
        for pair in pairs(network.plan)
    }
    forebear.load_arrays(network, given)
    training = "__train" in path.stem
    images = torch.from_numpy(recipe.images(tuple(meta["input_shape_nhwc"]))).permute(0, 3, 1, 2)
    return Case(path.stem, network.train(training), images.contiguous(), arrays, training)


def _name_in_file(name: str, stem: str) -> str:
    """The makers' name: keras-applications calls the logits probs, the others predictions."""
    if stem.startswith(("kerasapps_Res", "keras2_tiny")):
        return name.replace("predictions/", "probs/")
    return name


def _network(stem: str, meta: dict[str, Any]) -> forebear.Network:
    kwargs = meta.get("kwargs", {})
    if stem.startswith("slim_tiny"):
        return _slim_tiny(meta, kwargs)
    if stem.startswith("keras") and "tiny" in stem:
        return _keras_tiny(meta)
    if stem.startswith("cifar"):
        model = meta["model"].split()[0]
        dialect = "paper-cifar-b" if "option=B" in meta["model"] else None
        return forebear.create(f"paper/{model}", dialect=dialect)
    if stem.startswith("kerasapps"):
        name = stem.removeprefix("kerasapps_").partition("__")[0]
        name = {"old_ResNet50": "ResNet50_old"}.get(name, name)
        return forebear.create(f"keras/{name}")
    if stem.startswith("keras_") and "notop" in stem:
        return forebear.create(f"keras/{meta['model']}", num_classes=None)
    stride = kwargs.get("output_stride")
    if "replace_stride_with_dilation" in kwargs:
        stride = 32 // 2 ** sum(kwargs["replace_stride_with_dilation"])
    pooled = kwargs.get("global_pool", kwargs.get("spatial_squeeze", True))
    return forebear.create(
        f"{NAMING_SCHEMES[meta['dialect']]}/{meta['model']}",
        num_classes=kwargs.get("num_classes", meta.get("num_classes", 1000)),
        output_stride=stride,
        global_pool=pooled,
    )


def _slim_tiny(meta: dict[str, Any], kwargs: dict[str, Any]) -> forebear.Network:
    # TF-Slim's stride is that of a block's last unit; ours that of a block against the one above.
    strides = [1, *meta["strides"][:-1]]
    blocks = tuple(
        Block(f"block{n}", units, depth, depth * 4, stride)
        for n, (depth, units, stride) in enumerate(
            zip(meta["base_depth"], meta["num_units"], strides, strict=True), start=1
        )
    )
    table = Table(meta["scope"], IMAGENET_ROOT, blocks=blocks)
    return forebear.create(
        table,
        dialect="slim-" + meta["model"].removeprefix("resnet_"),
        num_classes=meta["num_classes"],
        output_stride=kwargs.get("output_stride"),
        global_pool=kwargs.get("global_pool", True),
        include_root=kwargs.get("include_root_block", True),
    )


def _keras_tiny(meta: dict[str, Any]) -> forebear.Network:
    kind = meta["model"].split()[1]
    blocks = []
    for n, (filters, units) in enumerate(meta["filters_blocks"], start=1):
        width, channels, groups = filters, filters * 4, 1
        if kind == "resnext":
            groups, width = meta["groups"], 4 * (1 + n)
            channels = (64 // groups) * width
        blocks.append(Block(f"block{n}", units, width, channels, min(n, 2), groups))
    table = Table("tiny", IMAGENET_ROOT, blocks=tuple(blocks))
    home = "keras2" if meta["dialect"] == "keras2" else "keras"
    dialect = "keras-resnext" if kind == "resnext" else f"{home}-{kind}"
    return forebear.create(table, dialect=dialect, num_classes=meta["classes"])


@torch.no_grad()
def differences(case: Case) -> dict[str, float]:
    """The largest absolute difference of the logits, of the end points, of the moved averages.

    "scaled" is that of the end points over the largest value of each, where that is above 1: in
    float32 the rounding grows with the values.
    """
    network, arrays = case.network, case.arrays
    recorded = {key.removeprefix("end_point::").partition("::")[0] for key in arrays} - {
        "logits",
        "logits_float64",
        "updated",
        "mean_std",
        "output",
    }
    known = original_end_points(network.plan) if recorded else {}
    extra = dict(_beside(network, recorded, known))
    paths = {name: known.get(name) or extra[name] for name in recorded}
    wanted = {*paths.values(), "logits" if network.plan.logits else "pool"}
    found = network.end_points(case.images, sorted(wanted))
    logits = found["logits" if network.plan.logits else "pool"]
    largest = {"logits": _difference(logits, arrays["logits"]), "end points": 0.0, "moved": 0.0}
    largest["scaled"] = 0.0
    for name, path in paths.items():
        ours = _as_theirs(found[path])
        gap = max(gaps(ours, name, arrays), default=float("inf"))
        largest["end points"] = max(largest["end points"], gap)
        largest["scaled"] = max(largest["scaled"], gap / max(1.0, float(np.abs(ours).max())))
    state = network.state_dict()
    moved = {
        pair.theirs: state[pair.ours] for pair in pairs(network.plan) if "running" in pair.ours
    }
    for key, array in arrays.items():
        if key.startswith("updated::"):
            ours = moved[key.removeprefix("updated::")].numpy()
            largest["moved"] = max(largest["moved"], float(np.abs(ours - array).max()))
    return largest


def _beside(
    network: forebear.Network, recorded: set[str], known: dict[str, str]
) -> list[tuple[str, str]]:
    """Recorded names that are no end points of the home: ops and layers inside one."""
    found = []
    for name in sorted(recorded - set(known)):
        if name in ("pool1", f"{network.table.name}/pool1/MaxPool"):
            found.append((name, "root.pool1"))
        elif name.endswith("_2_gconv"):
            found.append((name, known[name.replace("_2_gconv", "_2_conv")]))
        elif name == "global_pool":
            found.append((name, "pool"))
        elif name.rpartition("/")[2] == "postnorm" or name.endswith("postnorm/Relu"):
            found.append((name, "postnorm"))
        else:
            raise KeyError(f"{name} of the golden file has no path in {network.table.name}")
    return found


def _as_theirs(tensor: torch.Tensor) -> Array:
    """NHWC."""
    array = tensor.numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def gaps(ours: Array, name: str, arrays: dict[str, Array]) -> list[float]:
    """Differences between one end point and everything that the file says of it."""
    if f"end_point::{name}" in arrays:
        return [
            _difference(torch.from_numpy(ours), arrays[f"end_point::{name}"], channels_last=True)
        ]
    if f"{name}::shape" not in arrays:
        return []
    shape = tuple(arrays[f"{name}::shape"])
    if ours.size != np.prod(shape) or (len(shape) == ours.ndim and ours.shape != shape):
        return [float("inf")]
    full = ours.reshape(shape).astype(np.float64)
    measured = np.array([full.mean(), full.std(), np.abs(full).max()])
    scale = np.maximum(1.0, np.abs(measured))
    found = [float((np.abs(measured - arrays[f"{name}::mean_std_absmax"]) / scale).max())]
    if full.ndim == 4:
        height, width = full.shape[1:3]
        slices = {
            "chan_mean": full.mean((0, 1, 2)),
            "top_left": full[0, :4, :4, :32],
            "bottom_right": full[0, -4:, -4:, :32],
            "center": full[0, height // 2, width // 2],
        }
        found += [float(np.abs(s - arrays[f"{name}::{k}"]).max()) for k, s in slices.items()]
    return found


def _difference(ours: torch.Tensor, theirs: Array, *, channels_last: bool = False) -> float:
    array = ours.numpy() if channels_last else _as_theirs(ours)
    if array.size != theirs.size:
        return float("inf")
    return float(np.abs(array.reshape(theirs.shape) - theirs).max())
