"""forebear's own format: a safetensors file that describes its network completely.

The metadata hold the table and its source, the dialect, the class names, the preprocessing, the
metrics, the provenance of the weights, and a SHA-256 of the arrays and of all other metadata, which
is verified when they are read. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from forebear.errors import WeightsError
from forebear.files import write_whole
from forebear.network.calibration import calibration_from_dict
from forebear.network.model_card import ModelCard
from forebear.network.multi_label import multi_label_from_dict
from forebear.network.network import Network
from forebear.network.plan.cost import arrays, check_map
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Plan
from forebear.tables.checks import check_keys, check_words, shown
from forebear.tables.files import (
    dialect_from_dict,
    dialect_to_dict,
    preprocessing_from_dict,
    preprocessing_to_dict,
    table_from_dict,
    table_to_dict,
)
from forebear.tables.preprocessing import Preprocessing
from forebear.text import truncated
from forebear.untrusted import opened, parse_json
from forebear.weights.readers.errors import reading, refused

FORMAT = "forebear weights 2"  # in the metadata; a test checks that each version remains readable
FORMAT_1 = "forebear weights 1"  # its SHA-256 covers the arrays only
# Multi-label networks only, whose probabilities are no softmax: older versions refuse the file.
FORMAT_3 = "forebear weights 3"
_EXPECTED = "a whole .safetensors file that forebear wrote"
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    """The arguments that a network was planned for."""

    num_classes: int | None
    in_channels: int = 3
    output_stride: int | None = None
    global_pool: bool = True
    include_root: bool = True
    folded: bool = False

    def __post_init__(self) -> None:
        check_words(self, "built")


def save(
    network: Network,
    path: Path | str,
    *,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    metrics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, str] | None = None,
) -> None:
    """Saves a network with all its metadata. The file is written atomically.

    Args:
        network: The network. Its card supplies all metadata that are not passed below.
        path: The file, which is replaced if it exists.
        classes: The class names in the order of the logits.
        preprocessing: The preprocessing of the images.
        metrics: Measured values, as plain numbers and strings.
        provenance: The source of the weights: file, SHA-256, licence.

    Raises:
        ValueError: The number of class names differs from the number of logits.
    """
    card = network.card
    card = ModelCard(
        classes=card.classes if classes is None else tuple(classes),
        preprocessing=preprocessing or card.preprocessing,
        metrics=card.metrics if metrics is None else metrics,
        provenance=card.provenance if provenance is None else provenance,
        calibration=card.calibration,
        multi_label=card.multi_label,
    )
    card.require_logits(network.plan.num_classes)
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    metadata = _metadata(network.plan, card)
    metadata["sha256"] = digest(tensors, metadata)
    write_whole(Path(path), lambda partial: save_file(tensors, partial, metadata))


def _metadata(plan: Plan, card: ModelCard) -> dict[str, str]:
    built = _Built(**{name: getattr(plan, name) for name in _Built.__dataclass_fields__})
    metadata = {
        "format": FORMAT if card.multi_label is None else FORMAT_3,
        # The source has its own key, so that older versions of forebear can still read the table.
        "table": json.dumps(table_to_dict(replace(plan.table, source=""))),
        "table_source": plan.table.source,
        "dialect": json.dumps(dialect_to_dict(plan.dialect)),
        "built": json.dumps(asdict(built)),
        "classes": json.dumps(card.classes, ensure_ascii=False),
        "preprocessing": json.dumps(preprocessing_to_dict(card.preprocessing)),
        "metrics": json.dumps(_finite(card.metrics), allow_nan=False),
        "provenance": json.dumps(_finite(card.provenance), allow_nan=False),
    }
    if card.calibration is not None:  # a key of its own, which older versions of forebear ignore
        metadata["calibration"] = json.dumps(card.calibration.as_dict(), allow_nan=False)
    if card.multi_label is not None:
        metadata["multi_label"] = json.dumps(card.multi_label.as_dict(), allow_nan=False)
    return metadata


def _finite(value: Any) -> Any:
    """Returns plain data with None in place of numbers that are not finite. JSON has none."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Returns the SHA-256 of all names, dtypes, shapes and values, in the order of the names.

    Args:
        tensors: The arrays.
        metadata: They are hashed first, without "sha256" and in the order of their keys. None
            hashes the arrays only, as the first version of the format did.
    """
    total = hashlib.sha256()
    if metadata is not None:
        rows = sorted((key, value) for key, value in metadata.items() if key != "sha256")
        total.update(f"{json.dumps(rows)}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Opens a safetensors file. safetensors would wait for a pipe, and read a device for ever."""
    with opened(path), safe_open(path, "pt") as file:
        yield file


def describes_itself(path: Path) -> bool:
    """Whether `save` wrote a file, in any version of the format."""
    try:
        with reading(path, _EXPECTED), _open(path) as file:
            return str((file.metadata() or {}).get("format")).startswith("forebear weights ")
    except WeightsError:
        return False


def load_file(path: Path) -> Network:
    """Loads a saved network with its card, in evaluation mode.

    Raises:
        WeightsError: The file is missing or damaged, forebear did not write it, or it holds values
            that no network has. The message is one line.
    """
    with reading(path, _EXPECTED), _open(path) as file:
        metadata = file.metadata() or {}
        version = metadata.get("format")
        if version not in (FORMAT, FORMAT_1, FORMAT_3):
            raise refused(
                path,
                f"its metadata have format={shown(version)}",
                f"{FORMAT_3!r}, {FORMAT!r} or {FORMAT_1!r}",
                "Pass a file that forebear.save wrote, or update forebear.",
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        hashed = digest(tensors, None if version == FORMAT_1 else metadata)
        if metadata.get("sha256") != hashed:
            what = "its arrays do" if version == FORMAT_1 else "its arrays and its metadata do"
            raise refused(
                path,
                f"the file is damaged, because {what} not match their SHA-256",
                "the file as it was saved",
                "Use a fresh copy of the file.",
            )
    try:
        return _build(metadata, tensors)
    except KeyError as error:
        said = f"the metadata lack {error}"
    except Exception as error:  # torch raises any exception for values that it cannot use
        said = truncated(error, 600).rstrip(".")
    raise refused(
        path,
        f"its metadata and its arrays are not consistent ({said})",
        "the file as forebear wrote it",
        "Use a fresh copy of the file.",
    )


def _build(metadata: Mapping[str, str], tensors: dict[str, Tensor]) -> Network:
    """Returns the network that a file describes.

    Raises:
        KeyError: A key is missing.
        ValueError, TableError: A value is not possible.
    """
    data = {
        key: parse_json(metadata[key])
        for key in ("table", "dialect", "built", "classes", "preprocessing", "metrics")
    }
    built = _Built(**check_keys(_Built, data["built"], "built"))
    table = replace(table_from_dict(data["table"]), source=metadata.get("table_source", ""))
    plan = expand(table, dialect_from_dict(data["dialect"]), **asdict(built))
    classes = data["classes"]
    card = ModelCard(
        classes=tuple(classes) if isinstance(classes, list) else classes,
        preprocessing=preprocessing_from_dict(data["preprocessing"]),
        metrics=data["metrics"],
        provenance=parse_json(metadata["provenance"]),
        calibration=calibration_from_dict(parse_json(metadata.get("calibration", "null"))),
        multi_label=multi_label_from_dict(parse_json(metadata.get("multi_label", "null"))),
    )
    if (metadata["format"] == FORMAT_3) != (card.multi_label is not None):
        raise ValueError(f"format={metadata['format']!r} does not fit the key multi_label")
    card.require_logits(plan.num_classes)
    check_map(plan, *card.preprocessing.shape)
    _check_arrays(plan, tensors)
    with torch.device("meta"):
        network = Network(plan)
    network.load_state_dict(tensors, assign=True)
    network.card = card
    return network.eval()


def _check_arrays(plan: Plan, tensors: Mapping[str, Tensor]) -> None:
    """Checks the arrays before any module is made, as a plan can ask for more than a file holds."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in plan.layers():
        shapes |= {f"{layer.path}.{name}": shape for name, shape in arrays(layer).items()}
        if layer.norm:
            shapes[f"{layer.path}.norm.num_batches_tracked"] = ()
    missing, left = shapes.keys() - tensors.keys(), tensors.keys() - shapes.keys()
    if missing or left:
        first = min(missing or left)
        raise ValueError(
            f"{len(missing)} arrays are missing and {len(left)} are unexpected. The first is "
            f"{truncated(first)}"
        )
    found = (tensor.dtype for tensor in tensors.values() if tensor.dtype in _DTYPES)
    floats = next(found, _DTYPES[0])
    for name, shape in shapes.items():
        tensor = tensors[name]
        dtype = torch.int64 if name.endswith("num_batches_tracked") else floats
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise ValueError(
                f"{name}: {tensor.dtype} {list(tensor.shape)} instead of {dtype} {list(shape)}"
            )
