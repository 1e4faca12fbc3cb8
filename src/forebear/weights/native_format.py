"""Self-describing weights: a safetensors file that rebuilds its network, and unpickles nothing.

Beside the arrays, in the metadata: the table and its source, the dialect, class names,
preprocessing, metrics, where the weights are from, and a SHA-256 of the arrays, which is checked
when they are read.
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

FORMAT = "forebear weights 1"  # in the metadata; a test keeps a file of each format readable


def save(
    network: Network,
    path: Path | str,
    *,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    metrics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, str] | None = None,
) -> None:
    """Writes a network and all that it needs, whole or not at all.

    Args:
        network: what is left out below comes from its card.
        path: of the file, which is replaced.
        classes: names, in the order of the logits.
        preprocessing: what a picture goes through.
        metrics: what was measured: plain numbers and text.
        provenance: where the weights are from: file, SHA-256, licence.

    Raises:
        ValueError: as many class names as the network has logits are expected.
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
            f"{len(card.classes)} class names for {built.num_classes} logits: expected as many. "
            "Pass a name for each logit, or none."
        )
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    metadata = {
        "format": FORMAT,
        # The source has its own key, so that forebear without it still reads the table.
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
    """SHA-256 over names, types, shapes and values, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def describes_itself(path: Path) -> bool:
    """Whether a file is one that `save` wrote, of any format."""
    try:
        with safe_open(path, "pt") as file:
            return str((file.metadata() or {}).get("format")).startswith("forebear weights ")
    except (OSError, SafetensorError):
        return False


def load_file(path: Path) -> Network:
    """Rebuilds a saved network, in evaluation mode, with its card.

    Raises:
        WeightsError: no such file, a damaged one, or one that forebear did not write.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path}: cannot be read ({error}). Expected a .safetensors file that forebear wrote. "
            "Pass a run folder, or make the file again."
        ) from error
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path}: its metadata do not describe a network (format="
            f"{metadata.get('format')!r}). Expected {FORMAT!r}. Pass a file that forebear wrote."
        )
    if metadata.get("sha256") != digest(tensors):
        raise WeightsError(
            f"{path}: its arrays are not those that were saved (their SHA-256 differs). The file "
            "is damaged. Take a copy of the original."
        )
    try:
        table = table_from_dict(json.loads(metadata["table"]))
        spelled = expand(
            replace(table, source=metadata.get("table_source", "")),
            dialect_from_dict(json.loads(metadata["dialect"])),
            **json.loads(metadata["built"]),
        )
        with torch.device("meta"):
            network = Network(spelled)
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
            f"{path}: its table and its arrays do not make a network ({error}). The file is "
            "damaged or was changed. Take a copy of the original."
        ) from error
