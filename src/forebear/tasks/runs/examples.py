"""examples.json of a run folder: images that the page shows, and the images of each part.

The examples are the most confident mistakes, with class activation maps, and the validation images
whose label has the lowest probability. Both are taken with the final weights and their temperature.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.data.images.bands import visible
from forebear.data.loader import Loader
from forebear.files import write_text
from forebear.network.network import Network
from forebear.tasks.evaluate import Evaluation
from forebear.tasks.runs.class_maps import answers, overlaid
from forebear.tasks.runs.class_table import number_in
from forebear.tasks.runs.embedded import is_image_uri, thumbnail_uri
from forebear.tasks.runs.image_grid import as_pixels
from forebear.tasks.runs.layout import EXAMPLES
from forebear.untrusted import read_json

SHOWN = 12  # images of each kind

Counts = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A validation image whose predicted class is not its label."""

    name: str  # of the image
    label: str  # name of its class
    predicted: str
    label_probability: float  # 0 to 1, with the temperature
    probability: float  # of the predicted class
    image: str  # data URI
    map: str = ""  # data URI of the class activation map of the predicted class; "" for none


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """What the page shows of the parts of the data set and of single images."""

    parts: Counts = field(default_factory=dict)  # images of each class, by the name of the part
    # images without any of several labels, by the name of the part; empty with one class an image
    unlabelled: Mapping[str, int] = field(default_factory=dict)
    mistakes: tuple[Example, ...] | None = None  # most confident first; None: not known yet
    suspects: tuple[Example, ...] | None = None  # lowest probability of the label first


def choose_examples(
    parts: Counts, evaluation: Evaluation, images: Loader, network: Network
) -> Examples:
    """Returns the examples of an evaluation; the network is run on a few images again.

    Args:
        parts: Images of each class, by the name of the part.
        evaluation: Of the validation images, in the order of the data set.
        images: The validation images that were evaluated.
        network: Holds the final weights. If these are not those that were evaluated, mistakes that
            it does not make are left out.
    """
    places = np.sort(images.places[: evaluation.images])
    wrong = np.flatnonzero(evaluation.labels != evaluation.guesses)
    sure = wrong[np.argsort(-evaluation.confidences[wrong], kind="stable")][:SHOWN]
    doubtful = wrong[np.argsort(-evaluation.losses[wrong], kind="stable")][:SHOWN]
    mistakes = _examples(places[sure], images, network, maps=True)
    suspects = _examples(places[doubtful], images, network, maps=False)
    return Examples(
        parts=parts,
        mistakes=tuple(sorted(mistakes, key=lambda one: -one.probability)),
        suspects=tuple(sorted(suspects, key=lambda one: one.label_probability)),
    )


def _examples(
    places: NDArray[np.int64], images: Loader, network: Network, *, maps: bool
) -> list[Example]:
    """Returns the examples of these images that the network takes for another class."""
    if not len(places):
        return []
    few = replace(images, shown=places, batch=len(places), rank=0, ranks=1)
    inputs, labels = next(iter(few.in_order()))
    found = answers(network, inputs)
    calibration, classes = network.card.calibration, network.card.classes
    shares = _softmax(found.logits / (calibration.temperature if calibration else 1.0))
    pixels = as_pixels(inputs.float().cpu().numpy(), images.rule)
    shape = (pixels.shape[1], pixels.shape[2])
    heat = found.maps(network, shape) if maps else None
    examples = []
    for at, (place, label) in enumerate(zip(few.places, labels.tolist(), strict=True)):
        guess = int(shares[at].argmax())
        if guess == label or not np.isfinite(shares[at]).all():
            continue
        over = "" if heat is None else thumbnail_uri(overlaid(visible(pixels[at]), heat[at]))
        examples.append(
            Example(
                name=images.store.images.name(int(place)),
                label=classes[label],
                predicted=classes[guess],
                label_probability=float(shares[at, label]),
                probability=float(shares[at, guess]),
                image=thumbnail_uri(pixels[at]),
                map=over,
            )
        )
    return examples


def write_examples(examples: Examples, folder: Path) -> None:
    """Writes examples.json, atomically.

    Raises:
        OSError: The file cannot be written.
    """
    write_text(folder / EXAMPLES, f"{json.dumps(asdict(examples), ensure_ascii=False)}\n")


def read_examples(folder: Path) -> Examples:
    """Returns the examples in a run folder; empty if there are none, or the file is damaged."""
    try:
        data = read_json(folder / EXAMPLES)
        parts = {
            str(name): tuple(int(number_in(count)) for count in counts)
            for name, counts in data["parts"].items()
        }
        none = {
            str(name): int(number_in(count)) for name, count in data.get("unlabelled", {}).items()
        }
        mistakes, suspects = (_read(data[name]) for name in ("mistakes", "suspects"))
        return Examples(parts=parts, unlabelled=none, mistakes=mistakes, suspects=suspects)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Examples()


def _read(rows: Any) -> tuple[Example, ...] | None:
    return None if rows is None else tuple(map(_example, rows[:SHOWN]))


def _example(row: Any) -> Example:
    if not is_image_uri(row["image"]) or (row["map"] and not is_image_uri(row["map"])):
        raise ValueError("no image")
    return Example(
        name=str(row["name"]),
        label=str(row["label"]),
        predicted=str(row["predicted"]),
        label_probability=number_in(row["label_probability"]),
        probability=number_in(row["probability"]),
        image=row["image"],
        map=str(row["map"]),
    )


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    values = logits.astype(np.float64)
    exponentials = np.exp(values - values.max(1, keepdims=True))
    shares: NDArray[np.float64] = exponentials / exponentials.sum(1, keepdims=True)
    return shares
