"""forebear's own format: a safetensors file that describes its network completely.

The metadata hold the table and its source, the dialect, the class names, the preprocessing, the
metrics, the provenance of the weights, and a SHA-256 of the arrays, which is verified when they are
read. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from forebear.errors import ForebearError, WeightsError
from forebear.files import write_whole
from forebear.network.model_card import ModelCard
from forebear.network.network import Network
from forebear.network.plan.expand import expand
from forebear.tables.files import (
    dialect_from_dict,
    preprocessing_from_dict,
    table_from_dict,
    table_to_dict,
)
from forebear.tables.preprocessing import Preprocessing

FORMAT = "forebear weights 1"  # in the metadata; a test checks that each version remains readable


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
    )
    built = network.plan
    if card.classes and built.num_classes != len(card.classes):
        raise ValueError(
            f"{len(card.classes)} class names for {built.num_classes} logits: expected one name "
            "for each logit. Pass as many names as there are logits, or none."
        )
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    metadata = {
        "format": FORMAT,
        # The source has its own key, so that older versions of forebear can still read the table.
        "table": json.dumps(table_to_dict(replace(built.table, source=""))),
        "table_source": built.table.source,
        "dialect": json.dumps(asdict(built.dialect)),
        "built": json.dumps(
            {
                "num_classes": built.num_classes,
                "in_channels": built.in_channels,
                "output_stride": built.output_stride,
                "global_pool": built.global_pool,
                "include_root": built.include_root,
                "folded": built.folded,
            }
        ),
        "classes": json.dumps(card.classes, ensure_ascii=False),
        "preprocessing": json.dumps(asdict(card.preprocessing)),
        "metrics": json.dumps(dict(card.metrics)),
        "provenance": json.dumps(dict(card.provenance), ensure_ascii=False),
        "sha256": digest(tensors),
    }
    write_whole(Path(path), lambda partial: save_file(tensors, partial, metadata))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of all names, dtypes, shapes and values, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def describes_itself(path: Path) -> bool:
    """Whether `save` wrote a file, in any version of the format."""
    try:
        with safe_open(path, "pt") as file:
            return str((file.metadata() or {}).get("format")).startswith("forebear weights ")
    except (OSError, SafetensorError):
        return False


def load_file(path: Path) -> Network:
    """Loads a saved network with its card, in evaluation mode.

    Raises:
        WeightsError: The file is missing or damaged, or forebear did not write it.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path}: the file cannot be read ({error}). Expected a .safetensors file that "
            "forebear wrote. Pass another file or a run folder."
        ) from error
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path}: its metadata have format={metadata.get('format')!r}. Expected {FORMAT!r}. "
            "Pass a file that forebear.save wrote, or update forebear."
        )
    if metadata.get("sha256") != digest(tensors):
        raise WeightsError(
            f"{path}: the file is damaged, because its arrays do not match their SHA-256. Expected "
            "the arrays that were saved. Use a fresh copy of the file."
        )
    try:
        table = table_from_dict(json.loads(metadata["table"]))
        plan = expand(
            replace(table, source=metadata.get("table_source", "")),
            dialect_from_dict(json.loads(metadata["dialect"])),
            **json.loads(metadata["built"]),
        )
        with torch.device("meta"):
            network = Network(plan)
        network.load_state_dict(tensors, assign=True)
        network.card = ModelCard(
            classes=tuple(json.loads(metadata["classes"])),
            preprocessing=preprocessing_from_dict(json.loads(metadata["preprocessing"])),
            metrics=json.loads(metadata["metrics"]),
            provenance=json.loads(metadata["provenance"]),
        )
        return network.eval()
    except (KeyError, TypeError, ValueError, RuntimeError, ForebearError) as error:
        raise WeightsError(
            f"{path}: its metadata and its arrays are not consistent ({error}). Expected the file "
            "as forebear wrote it. Use a fresh copy of the file."
        ) from error
