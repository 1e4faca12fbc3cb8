"""One page for a run: index.html, which needs no other file, as its images are data URIs.

It is written after every epoch, so that it also shows a run that is still training. This module
chooses the contents; report.html.j2 has the markup and the style.
"""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from forebear.files import write_text
from forebear.settings import in_force
from forebear.tasks.html_template import template
from forebear.tasks.metrics import Interval
from forebear.tasks.runs.class_table import ClassTable, read_class_table
from forebear.tasks.runs.embedded import image_uri
from forebear.tasks.runs.examples import read_examples
from forebear.tasks.runs.formatting import (
    DASH,
    class_title,
    digits,
    duration,
    magnitude,
    nats,
    passes,
    percent,
    whole,
)
from forebear.tasks.runs.label_section import label_rows, label_tiles, stored_thresholds
from forebear.tasks.runs.label_table import LabelTable, read_label_table
from forebear.tasks.runs.layout import (
    BEST,
    CONFUSION,
    CURVES,
    INDEX,
    MISTAKES,
    PICTURES,
    RELIABILITY,
)
from forebear.tasks.runs.page_sections import (
    calibration_sentence,
    cards,
    check_command,
    class_balance,
    class_names,
    stored_calibration,
)
from forebear.tasks.runs.read import Run, read_run
from forebear.tasks.train.recipe import Recipe, renamed
from forebear.text import elided


@dataclass(frozen=True, slots=True)
class _Figure:
    """An image file in the run folder, which the page contains."""

    file: str
    caption: str
    css: str = "photographs"
    uri: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    """One epoch in the table."""

    cells: tuple[str, ...]
    best: bool  # by the metric of the run


@dataclass(frozen=True, slots=True)
class _ClassRow:
    """One class in the table."""

    name: str
    share: float  # percent of the training images of the largest class, for a bar
    train: str
    images: str
    recall: str
    interval: str
    precision: str


_FIGURES = (
    _Figure(CURVES, "Loss, accuracy and learning rate over the epochs", "drawing curves"),
    _Figure(CONFUSION, "Confusion matrix of the validation images", "drawing"),
    _Figure(
        RELIABILITY, "Reliability diagram: a gap is the calibration error of a bin", "drawing wide"
    ),
    _Figure(MISTAKES, "Validation images with the largest errors"),
    _Figure(PICTURES, "Augmented training images, as the network saw them"),
)
_CHOSEN_BY = {  # origins of values that a recipe leaves open, as the page names them
    "user": "user",
    "weights": "initial weights",
    "network": "network",
    "data": "data",
    "machine": "machine",
    "budget": "budget",
    "measurement": "measurement",
}
_CLASSES = 1000  # rows of the table of classes at most, which take 0.3 MB
_PROSE = ("summary", "source", "network")  # fields that do not affect the run


def write_index(folder: Path) -> None:
    """Writes the page of a run into its folder, atomically.

    Raises:
        RunError: The folder is not a run.
        OSError: The page cannot be written.
    """
    write_text(folder / INDEX, page(read_run(folder)))


def page(run: Run) -> str:
    """Returns the HTML of a run; the template escapes all text."""
    examples = read_examples(run.path)
    recipe = run.part("recipe")
    columns, rows = _epochs(run)
    table, labels = read_class_table(run.path), read_label_table(run.path)
    return template("forebear.tasks.runs", "report.html.j2", _line).render(
        title=f"{run.network} on {run.data}",
        network=run.network,
        data=run.data,
        finished=run.finished,
        progress=_progress(run),
        started=_started(run),
        tiles=_tiles(run, table, labels) if run.epochs else [],
        balance=_balance(labels or table),
        class_rows=_class_rows(table)[:_CLASSES],
        class_count=0 if table is None else len(table.classes),
        label_rows=label_rows(labels, stored_thresholds(run)),
        classes_after="" if table is None else passes(table.epoch),
        labels_after="" if labels is None else passes(labels.epoch),
        figures=_figures(run.path),
        class_balance=class_balance(
            examples.parts, class_names(run.part("data")), examples.unlabelled
        ),
        calibration=calibration_sentence(stored_calibration(run)),
        mistakes=cards(examples.mistakes),
        suspects=None if examples.suspects is None else cards(examples.suspects),
        check_command=check_command(run),
        commands=_commands(run),
        network_and_data=_network_and_data(run),
        recipe_summary=". ".join(
            str(recipe[name]) for name in ("summary", "source") if recipe.get(name)
        ),
        recipe=_recipe_in_force(recipe, run.part("chosen_by")),
        machine={**run.part("machine"), **run.part("versions")},
        columns=columns,
        rows=rows,
    )


def _figures(folder: Path) -> dict[str, _Figure | None]:
    """Returns the images in a run folder by name; None for missing and damaged ones."""
    found: dict[str, _Figure | None] = {}
    for figure in _FIGURES:
        uri = image_uri(folder / figure.file, drawing=figure.css != "photographs")
        found[figure.file.removesuffix(".png")] = replace(figure, uri=uri) if uri else None
    return found


def _recipe_in_force(recipe: Mapping[str, Any], chosen_by: Mapping[str, Any]) -> dict[str, str]:
    """Returns the fields of a recipe that had an effect, and who chose values that it left open.

    Args:
        recipe: Of settings.json, which may have the field names of older versions.
        chosen_by: Of settings.json; empty in runs of older versions.
    """
    found = {}
    for name, value in in_force(Recipe, renamed(recipe)).items():
        by = _CHOSEN_BY.get(str(chosen_by.get(name)))
        found[name] = f"{_text(value)} (chosen by the {by})" if by else _text(value)
    return {name: text for name, text in found.items() if name not in _PROSE}


def _line(value: object, most: int) -> str:
    """Formats a value as one line of at most `most` characters; the template's filter `line`."""
    return elided(_text(value), most)


def _progress(run: Run) -> str:
    """Returns how far an unfinished run is, in words."""
    measured = not math.isnan(run.last("epoch"))
    return f"{_epochs_of(run)} done" if measured else "no epoch finished yet"


def _started(run: Run) -> str:
    """Returns the time at which a run began; empty if it is not known."""
    started = str(run.settings.get("started", ""))
    return started.replace("T", " ").replace("+00:00", " UTC")


def _epochs_of(run: Run) -> str:
    """Returns how far the run is: "1 epoch", or "3 of 15 epochs"."""
    done, planned = run.last("epoch"), run.planned
    of = "" if run.finished or planned is None else f" of {passes(planned)}"
    return f"{passes(done)}{of} {'epoch' if done == 1 and not of else 'epochs'}"


def _tiles(run: Run, table: ClassTable | None, labels: LabelTable | None) -> list[tuple[str, str]]:
    """Returns the main numbers of a run with epochs, each with its caption."""
    tiles = label_tiles(run, labels) if run.multi_label else _accuracies(run, table)
    best = run.best
    if best is not None and best != len(run.epochs) - 1:
        at, measure = passes(run.column("epoch")[best]), run.measure
        what = "best" if measure.column == "val_accuracy" else f"best {measure.title}"
        value = measure.text(run.column(measure.column)[best])
        tiles.append((value, f"{what}, after epoch {at}"))
    tiles.append((nats(run.last("val_loss")), "validation loss, nats"))
    tiles.append((duration(run.last("seconds")), f"for {_epochs_of(run)}"))
    tiles.append((whole(run.last("images_per_second")), "images/s in training"))
    if run.parameters is not None:
        tiles.append((magnitude(run.parameters), "parameters"))
    skipped = run.last("skipped")
    if skipped > 0:
        tiles.append((whole(skipped), "steps skipped: their gradient was not finite"))
    return tiles


def _accuracies(run: Run, table: ClassTable | None) -> list[tuple[str, str]]:
    """Returns the tiles of a run with one class an image."""
    count = run.part("data").get("held_out")
    of = (
        f"of {count:,} validation images correct"
        if isinstance(count, int)
        else "of the validation set correct"
    )
    tiles = [(percent(run.last("val_accuracy")), of)]
    if run.tested is not None:
        accuracy, images = run.tested
        tiles.insert(0, (percent(accuracy), f"of {images:,} test images correct, evaluated once"))
    current = table is not None and table.epoch == run.last("epoch")
    for name, title in (("balanced", "balanced accuracy"), ("macro_f1", "macro-F1")):
        if not math.isnan(run.last(f"val_{name}")):
            ends = _ends(table.intervals[name]) if table is not None and current else ""
            interval = f" (95% interval: {ends}%)" if ends else ""
            tiles.append((percent(run.last(f"val_{name}")), title + interval))
    return tiles


def _balance(table: ClassTable | LabelTable | None) -> str:
    """Returns how even the training set's classes are, in a sentence; "" if it is not known."""
    rows = table.labels if isinstance(table, LabelTable) else table.classes if table else ()
    if not rows:
        return ""
    kind, counts = "label" if isinstance(table, LabelTable) else "class", [r.train for r in rows]
    least, most = min(counts), max(counts)
    if least == most:
        return f"Every {kind} has {most:,} training images."
    ratio = f", {most / least:.3g} times as many" if least else ""
    return (
        f"The smallest {kind} has {least:,} training images, the median {kind} "
        f"{statistics.median_low(counts):,} and the largest {most:,}{ratio}."
    )


def _class_rows(table: ClassTable | None) -> list[_ClassRow]:
    """Returns the rows of the table of classes, the worst first."""
    rows = [] if table is None else table.worst_first
    most = max((row.train for row in rows), default=0)
    return [
        _ClassRow(
            name=class_title(row.name),
            share=round(100 * row.train / most, 1) if most else 0.0,
            train=whole(row.train),
            images=whole(row.images),
            recall=percent(row.recall) if row.images else DASH,
            interval=_ends(row.recall_interval) if row.images else DASH,
            precision=percent(row.precision),
        )
        for row in rows
    ]


def _ends(interval: Interval) -> str:
    """Formats an interval in percent, without the sign."""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def _commands(run: Run) -> list[tuple[str, str]]:
    """Returns what can be done with the run, and the command for it."""
    path = shlex.quote(str(run.path))
    commands = [("resume the run", f"forebear train --resume {path}")]
    if run.finished:
        data = shlex.quote(run.data)
        commands = [
            ("classify images", f"forebear predict {path} IMAGE ..."),
            ("evaluate it on a data set", f"forebear evaluate {path} --data {data}"),
            ("compare it with other runs", f"forebear compare {path} RUN ..."),
        ]
    if (run.path / BEST).is_file():
        path = shlex.quote(str(run.path / BEST))
        commands.append(
            ("classify images with the best weights", f"forebear predict {path} IMAGE ...")
        )
    return commands


def _network_and_data(run: Run) -> dict[str, Any]:
    """Returns facts about the network and the data; unknown ones are left out."""
    data = run.part("data")
    classes = [str(name) for name in data.get("classes", ())]
    facts: dict[str, Any] = {"network": run.network}
    if run.parameters is not None:
        facts["parameters"] = f"{run.parameters:,}"
    facts["source of the network's table"] = run.part("table").get("source", "")
    facts["data"] = run.data
    for key, name in (("train", "training images"), ("held_out", "validation images")):
        if isinstance(data.get(key), int):
            facts[name] = f"{data[key]:,}"
    facts["split"] = data.get("split", "")
    if classes:
        more = f" and {len(classes) - 30:,} more" if len(classes) > 30 else ""
        kind = "labels" if data.get("multi_label") is True else "classes"
        facts[f"{len(classes):,} {kind}"] = (
            ", ".join(class_title(name, 40) for name in classes[:30]) + more
        )
    facts["fingerprint of images and split"] = str(data.get("fingerprint", ""))[:16]
    return {name: value for name, value in facts.items() if value}


_COLUMNS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "epoch": ("epoch", passes),
    "step": ("step", whole),
    "lr": ("learning rate", digits),
    "loss": ("loss", nats),
    "accuracy": ("accuracy", percent),
    "val_loss": ("validation loss", nats),
    "val_accuracy": ("validation accuracy", percent),
    "val_balanced": ("balanced accuracy", percent),
    "val_macro_f1": ("macro-F1", percent),
    "val_micro_f1": ("micro-F1", percent),
    "val_map": ("mAP", percent),
    "images_per_second": ("images/s", whole),
    "seconds": ("time", duration),
    "memory": ("MiB", whole),
    "skipped": ("skipped", whole),
}


def _epochs(run: Run) -> tuple[list[str], list[_Row]]:
    """Returns the column titles of the table, and a row for each epoch, the newest first."""
    columns = {name: run.column(name) for name in _COLUMNS}
    there = [name for name, column in columns.items() if not all(map(math.isnan, column))]
    if not any(value > 0 for value in columns["skipped"]):
        there = [name for name in there if name != "skipped"]
    rows = [
        _Row(
            cells=tuple(_COLUMNS[name][1](columns[name][at]) for name in there),
            best=at == run.best,
        )
        for at in reversed(range(len(run.epochs)))
    ]
    titles = [_COLUMNS[name][0] for name in there]
    if run.multi_label:
        titles = [title.replace("accuracy", "exact match") for title in titles]
    return titles, rows


def _text(value: object) -> str:
    """Formats a value of the settings."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return digits(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value))
    return str(value)
