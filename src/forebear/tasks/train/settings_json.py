"""What settings.json holds: everything that a run is made from."""

from __future__ import annotations

import platform
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from forebear.tables.files import dialect_to_dict, preprocessing_to_dict, table_to_dict
from forebear.tasks.machine.device import device_name
from forebear.tasks.train.prepare import Prepared
from forebear.version import __version__

# What a resumed run needs in addition to the recipe
KEPT = (
    "hold_out", "bad", "workers", "threads", "every", "budget", "keep_memory", "tensorboard",
    "track", "compile", "deterministic", "images", "image_column", "label_column",
    "multi_label", "label_columns", "label_separator", "group_by",
    "metric", "patience", "unknown", "fold", "channels",
)  # fmt: skip


def settings_of(run: Prepared) -> dict[str, Any]:
    """Returns the contents of settings.json for a run that is about to begin.

    `chosen_by` says for each field of the recipe who chose its value, as
    `forebear.tasks.train.resolve.ResolvedRecipe` does. `evaluated` counts the validation images of
    each evaluation: on a budget it can be a part of them.
    """
    setup = run.setup
    data, config = setup.data, setup.config
    request = {name: getattr(config, name) for name in KEPT} | {"compile": run.mode}
    request["images"] = None if config.images is None else str(config.images)
    return {
        "table": table_to_dict(setup.network.table),
        "dialect": dialect_to_dict(setup.network.dialect),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "network": setup.name,
        "data": {
            "spec": data.spec,
            "classes": data.classes,
            "multi_label": data.multi_label,
            "train": len(data.train),
            "held_out": len(data.val),
            "evaluated": len(run.validation_images.places),
            "split": data.split,
            "fingerprint": data.fingerprint,
            "order": data.order,
            "groups": {part: groups.count for part, groups in data.groups.items()},
        },
        "recipe": asdict(run.recipe),
        "chosen_by": dict(run.resolved.origins),
        "weights": None if config.weights is None else str(config.weights),
        "request": request,
        "preprocessing": preprocessing_to_dict(run.rule),
        "machine": {
            "device": device_name(setup.device),
            "threads": torch.get_num_threads(),
            "processes": setup.world.size,
            "system": platform.platform(),
        },
        "versions": {
            "forebear": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
