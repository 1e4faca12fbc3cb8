"""Sections of the page of a run: class balance, calibration, mistakes, and labels to look at."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safetensors import SafetensorError, safe_open

from forebear.network.calibration import Calibration, calibration_from_dict
from forebear.tasks.runs.examples import Counts, Example
from forebear.tasks.runs.formatting import class_title, percent, whole
from forebear.tasks.runs.layout import WEIGHTS
from forebear.tasks.runs.read import Run
from forebear.untrusted import parse_json

_EACH = 15  # of the largest and of the smallest classes, if there are more than twice as many

_CLEAR = 0.05  # of a temperature to 1, from which the page names over- or underconfidence


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """One class in the table of the class balance."""

    name: str
    cells: tuple[tuple[str, float], ...]  # images of each part, and percent of its largest class


@dataclass(frozen=True, slots=True)
class Balance:
    """Images of each class in each part, the class with the most training images first."""

    parts: tuple[str, ...]
    rows: tuple[BalanceRow, ...]
    unlabelled: tuple[str, ...]  # images of each part without any label; empty with one class each
    hidden: int  # classes between the largest and the smallest that are left out


@dataclass(frozen=True, slots=True)
class Card:
    """An image with what is said of it."""

    images: tuple[str, ...]  # data URIs: the image, and its map if there is one
    name: str  # of the image, without the folders around that of the file
    label: str
    predicted: str


def class_balance(
    parts: Counts, classes: Sequence[str], unlabelled: Mapping[str, int] | None = None
) -> Balance | None:
    """Returns the table of the class balance; None if the counts are not those of the classes.

    Args:
        parts: Images of each class, by the name of the part.
        classes: Names of the classes.
        unlabelled: Images of each part that have none of several labels, if they are known.
    """
    if not parts or not classes or any(len(counts) != len(classes) for counts in parts.values()):
        return None
    first = next(iter(parts.values()))
    order = sorted(range(len(classes)), key=lambda at: -first[at])
    hidden = max(0, len(order) - 2 * _EACH)
    if hidden:
        order = order[:_EACH] + order[-_EACH:]
    most = {name: max(counts) or 1 for name, counts in parts.items()}
    rows = tuple(
        BalanceRow(
            class_title(classes[at], 40),
            tuple(
                (whole(counts[at]), round(100 * counts[at] / most[name], 1))
                for name, counts in parts.items()
            ),
        )
        for at in order
    )
    none = tuple(whole(unlabelled.get(name, 0)) for name in parts) if unlabelled else ()
    return Balance(tuple(parts), rows, none, hidden)


def stored_calibration(run: Run) -> Calibration | None:
    """Returns the calibration in the weights of a finished run; None if there is none."""
    try:
        with safe_open(run.path / WEIGHTS, "np") as file:
            return calibration_from_dict(parse_json((file.metadata() or {})["calibration"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def calibration_sentence(found: Calibration | None) -> str:
    """Returns what the temperature does, in sentences; "" without one."""
    if found is None:
        return ""
    said = (
        f"The expected calibration error (ECE) is {percent(found.ece_before)} without a "
        f"temperature, and {percent(found.ece_after)} with the temperature "
        f"{found.temperature:.3f}, which was fitted on {found.images:,} validation images. Both "
        "are measured on images that the temperature was not fitted on."
    )
    if found.temperature > 1 + _CLEAR:
        return f"{said} A temperature above 1 means that the network is overconfident."
    if found.temperature < 1 - _CLEAR:
        return f"{said} A temperature below 1 means that the network is underconfident."
    return said


def cards(examples: Sequence[Example] | None) -> list[Card]:
    """Returns the images of a section with what is written below each."""
    return [
        Card(
            images=tuple(uri for uri in (one.image, one.map) if uri),
            name="/".join(one.name.split("/")[-2:]),
            label=f"{class_title(one.label)}, {_share(one.label_probability)}",
            predicted=f"{class_title(one.predicted)}, {_share(one.probability)}",
        )
        for one in examples or ()
    ]


def check_command(run: Run) -> str:
    """Returns the command that looks for wrong labels in all images of the run."""
    return f"forebear check {shlex.quote(run.data)} --model {shlex.quote(str(run.path))}"


def class_names(data: Mapping[str, object]) -> list[str]:
    """Returns the class names of settings.json; none if they are no list."""
    names = data.get("classes")
    return list(map(str, names)) if isinstance(names, list | tuple) else []


def _share(probability: float) -> str:
    return f"{probability:.2%}" if probability < 0.01 else f"{probability:.1%}"
