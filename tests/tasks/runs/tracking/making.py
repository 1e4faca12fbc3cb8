"""What a run sends to its trackers."""

from __future__ import annotations

from typing import Any

from forebear.tasks.runs.metrics import Epoch

SETTINGS = {
    "network": "paper/resnet20",
    "weights": None,
    "data": {"spec": "folder:my|images", "classes": ["cat", "dog"], "train": 51},
    "recipe": {"lr": 0.1, "mirror": True, "optimizer": "sgd", "mean": [0.5, 0.5]},
    "table": {"name": "resnet20"},
}
FLAT: dict[str, str | int | float | bool] = {
    "network": "paper/resnet20",
    "data.spec": "folder:my|images",
    "data.train": 51,
    "recipe.lr": 0.1,
    "recipe.mirror": True,
    "recipe.optimizer": "sgd",
}
FINAL = {"final/validation accuracy": 0.75, "final/seconds": 12.0}


def epoch(step: int, **more: Any) -> Epoch:
    known: dict[str, Any] = {
        "epoch": step / 10, "step": step, "lr": 0.1, "loss": 1 / step, "accuracy": 0.25,
        "val_loss": 2.0, "val_accuracy": 0.5, "val_balanced": 0.25,
        "val_macro_f1": 0.125, "images_per_second": 100.0, "seconds": 1.0 * step,
        "skipped": 0, "memory": 64.0, "losses": (1.0,), "lrs": (0.1,),
    }  # fmt: skip
    return Epoch(**(known | more))


def values(step: int) -> dict[str, float]:
    """Metrics under the names that trackers get."""
    return {"loss/training": 1 / step, "run/learning rate": 0.1}
