"""Folders of runs, as forebear train leaves them, made by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

import forebear
from forebear.tables.files import table_to_dict

TINY = forebear.create("paper/resnet20", num_classes=3)


@dataclass(frozen=True, kw_only=True)
class Made:
    """What the folder is to say."""

    accuracies: Sequence[float] = (0.5, 0.75, 0.7)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)  # settings
    seconds: float = 60.0  # an epoch
    finished: bool = True
    test: tuple[float, int] | None = None  # accuracy and images, in the weights' card


def write_run(path: Path, made: Made = Made()) -> Path:
    """Writes settings, metrics and, where it is finished, weights that are none."""
    path.mkdir(parents=True)
    settings = {
        "network": "paper/resnet20",
        "started": "2026-01-02T03:04:05+00:00",
        "table": table_to_dict(TINY.table),
        "dialect": asdict(TINY.dialect),
        "preprocessing": asdict(TINY.preprocessing),
        "data": {
            "spec": "digits",
            "classes": ["cat", "dog", "owl"],
            "train": 1438,
            "held_out": 359,
            "split": "20% of each class",
            "fingerprint": "0123456789abcdef" * 4,
            **made.data,
        },
        "recipe": {
            "epochs": len(made.accuracies),
            "batch": 64,
            "optimizer": "sgd",
            "lr": 0.1,
            "momentum": 0.9,
            "beta2": 0.999,
            "ema": 0.0,
            "policy": "none",
            "magnitude": 9.0,
            "seed": 0,
            **made.recipe,
        },
        "machine": {"device": "cpu", "threads": 1},
        "versions": {"torch": "2.13.0"},
        **made.more,
    }
    (path / "settings.json").write_text(json.dumps(settings))
    lines = [
        json.dumps(
            {
                "epoch": number,
                "step": 23 * number,
                "lr": 0.1 / number,
                "loss": 1 / number,
                "accuracy": accuracy,
                "val_loss": 1.5 / number,
                "val_accuracy": accuracy,
                "images_per_second": 100.0 * number,
                "seconds": made.seconds * number,
                "losses": [1.0],
            }
        )
        for number, accuracy in enumerate(made.accuracies, start=1)
    ]
    (path / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    if made.finished:
        tested = dict(zip(("test_accuracy", "test_images"), made.test or (), strict=False))
        card = {"metrics": json.dumps(tested)}
        save_file({"w": np.zeros(1)}, path / "model.safetensors", card)
    return path
