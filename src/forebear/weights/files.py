"""Self-describing weights: a safetensors file that rebuilds its network, and unpickles nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from forebear.errors import ForebearError, WeightsError
from forebear.files import write_whole
from forebear.network.network import Network
from forebear.network.plan import plan
from forebear.tables.dialects import Dialect
from forebear.tables.files import table_from_dict, table_to_dict
from forebear.tables.preprocessing import Preprocessing

FORMAT = "forebear weights 1"  # the first line of the metadata; a later one will read this too


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A network with what is needed to use it."""

    network: Network
    classes: tuple[str, ...]  # in the order of the logits
    preprocessing: Preprocessing
    result: Mapping[str, Any]  # what was measured when it was saved


def save(path: Path, saved: Saved) -> None:
    """Writes a network whole, with table, dialect, classes, preprocessing and result."""
    network = saved.network
    built = network.plan
    metadata = {
        "format": FORMAT,
        "table": json.dumps(table_to_dict(built.table)),
        "dialect": json.dumps(asdict(built.dialect)),
        "built": json.dumps(
            {
                "num_classes": built.num_classes,
                "in_channels": built.in_channels,
                "output_stride": built.output_stride,
                "global_pool": built.global_pool,
                "include_root": built.include_root,
            }
        ),
        "classes": json.dumps(saved.classes, ensure_ascii=False),
        "preprocessing": json.dumps(asdict(saved.preprocessing)),
        "result": json.dumps(saved.result),
    }
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    write_whole(path, lambda partial: save_file(tensors, partial, metadata))


def load(path: Path) -> Saved:
    """Rebuilds a saved network, in evaluation mode.

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
            "Pass a run folder, or train again."
        ) from error
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path}: its metadata do not describe a network (format="
            f"{metadata.get('format')!r}). Expected {FORMAT!r}. Pass a file that forebear wrote."
        )
    try:
        network = Network(
            plan(
                table_from_dict(json.loads(metadata["table"])),
                _dialect(json.loads(metadata["dialect"])),
                **json.loads(metadata["built"]),
            )
        )
        network.load_state_dict(tensors)
        return Saved(
            network=network.eval(),
            classes=tuple(json.loads(metadata["classes"])),
            preprocessing=_preprocessing(json.loads(metadata["preprocessing"])),
            result=json.loads(metadata["result"]),
        )
    except (KeyError, TypeError, ValueError, RuntimeError, ForebearError) as error:
        raise WeightsError(
            f"{path}: its table and its arrays do not make a network ({error}). The file is "
            "damaged or was changed. Take a copy of the original."
        ) from error


def _preprocessing(data: dict[str, Any]) -> Preprocessing:
    listed = {"mean": tuple(data["mean"]), "std": tuple(data["std"])}
    return Preprocessing(**(data | listed))


def _dialect(data: dict[str, Any]) -> Dialect:
    known = {field.name for field in fields(Dialect)}
    if set(data) != known:
        raise ValueError(f"dialect with {sorted(set(data) ^ known)}")
    return Dialect(**(data | {"preprocessing": _preprocessing(data["preprocessing"])}))
