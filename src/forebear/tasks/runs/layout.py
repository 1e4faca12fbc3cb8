"""The names of the files in a run folder.

runs/first/
├── settings.json       everything that the run was made from, with versions and seed
├── metrics.jsonl       one JSON object per epoch
├── checkpoints/        the states from which an unfinished run resumes; deleted at its end
├── best.safetensors    the best network on the validation set by --metric, if there is one
├── pictures.png        training images as the network saw them
├── curves.png          loss, accuracy and learning rate over the epochs
├── classes.json        recall, precision and training images of each class
├── confusion.png       the confusion matrix of the validation images
├── mistakes.png        the validation images with the largest errors
├── calibration.png     the reliability diagram before and after the temperature, if one was fitted
├── examples.json       images of each class and part, and the single images that the page shows
├── index.html          all of this on one page, which needs no other file
├── model.safetensors   the network and all that it needs; only in a finished run
├── model-epoch-N.safetensors   the network before the run was extended beyond epoch N
├── tensorboard/        TensorBoard events, if asked for
├── mlflow/, wandb/, trackio/   what these trackers write, if asked for
├── tracking.json       the ids of the tracked runs, with which a resumed run continues them
└── .lock               the number of the process that trains here; only while it runs
"""

from __future__ import annotations

SETTINGS = "settings.json"
METRICS = "metrics.jsonl"
WEIGHTS = "model.safetensors"
BEST = "best.safetensors"
CHECKPOINTS = "checkpoints"
LOCK = ".lock"
INDEX = "index.html"
CURVES = "curves.png"
CLASSES = "classes.json"
CONFUSION = "confusion.png"
MISTAKES = "mistakes.png"
PICTURES = "pictures.png"
RELIABILITY = "calibration.png"
EXAMPLES = "examples.json"
TENSORBOARD = "tensorboard"
MLFLOW = "mlflow"
WANDB = "wandb"
TRACKIO = "trackio"
TRACKING = "tracking.json"
FOLDERS = frozenset((CHECKPOINTS, TENSORBOARD, MLFLOW, WANDB, TRACKIO))
NAMES = frozenset(
    (
        *(SETTINGS, METRICS, WEIGHTS, BEST, LOCK, INDEX, CURVES, CONFUSION, CLASSES, MISTAKES),
        *(PICTURES, RELIABILITY, EXAMPLES, TRACKING, *FOLDERS),
    )
)


def earlier_weights(epoch: int) -> str:
    """Returns the name of the weights that a run had before it was extended beyond an epoch."""
    return f"model-epoch-{epoch}.safetensors"
