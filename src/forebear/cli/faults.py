"""The suggestions of forebear check --model: its arguments, and how they are printed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.cli import load_model
from forebear.text import printable, truncated

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from forebear.data.dataset import Dataset
    from forebear.network.network import Network
    from forebear.tasks.check import Checked
    from forebear.tasks.faults.suggestions import Faults, Suggestion
    from forebear.tasks.folds.read import SavedFolds

_OUT = Path("suggestions")
_NAMES = 5  # suggestions listed of each kind

Line = tuple[str, str]  # a line and its style, as rich calls it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the search for faults, which needs a network."""
    parser.add_argument(
        "--model",
        type=Path,
        metavar="RUN",
        help="a run folder or a weights file of any classes, or the folder of train --folds on "
        "the same data, whose out-of-fold predictions find label errors best: also look for label "
        "errors, near-duplicates and outliers",
    )
    load_model.add_arguments(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write suggestions.csv and suggestions.html to this folder "
        f"(default with a network: {_OUT})",
    )
    parser.add_argument("--replace", action="store_true", help="overwrite the suggestions in --out")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


@dataclass(frozen=True, slots=True)
class Judge:
    """What finds the faults."""

    network: Network
    folds: SavedFolds | None = None  # the cross-validation that the network is of
    shares: NDArray[np.float64] | None = None  # its probabilities for a data set

    def of(self, data: Dataset) -> Judge:
        """Returns it with the probabilities of a cross-validation for a data set.

        Raises:
            ForebearError: The cross-validation is of another data set, or cannot be read.
        """
        if self.folds is None:
            return self
        from forebear.tasks.folds.read import shares_of

        return replace(self, shares=shares_of(self.folds, data))


def opened(args: argparse.Namespace) -> Judge | None:
    """Returns the network, before the first image is read; None if none is asked for.

    Raises:
        ValueError: --out is not empty, or there is no network that would fill it.
        ForebearError: A library is not installed, or the network cannot be used.
    """
    if args.model is None and args.weights is None:
        given = [name for name in ("network", "which", "out", "replace") if getattr(args, name)]
        if given:
            raise ValueError(
                f"--{given[0]}: there is no network. Expected --model RUN or --weights FILE with "
                "it. Pass one of these, or leave it out."
            )
        return None
    from forebear.engines.graph_card import is_exported

    source = Path(args.model or args.weights)
    if is_exported(source):
        raise ValueError(
            f"{printable(source)}: an exported graph has no end points. Expected a run or a "
            "checkpoint. Pass what the graph was exported from."
        )
    from forebear.tasks.faults.optional_library import check_libraries
    from forebear.tasks.faults.page import check_folder
    from forebear.tasks.folds.read import is_cross_validation, read_folds

    check_libraries()
    check_folder(args.out or _OUT, replace=args.replace)
    whole = args.model is not None and args.weights is None and args.network is None
    if whole and is_cross_validation(args.model):
        folds = read_folds(args.model)
        return Judge(folds.network, folds)
    return Judge(load_model.load_model(args.model, args))


def written(judge: Judge, folder: Path | None, data: Dataset, checked: Checked) -> Faults:
    """Finds the faults and writes the suggestions.

    Raises:
        ValueError: The suggestions cannot be written.
        WeightsError: The features of an image are not finite.
    """
    from forebear.cli.image_bar import Bar
    from forebear.tasks.faults.find import find_faults
    from forebear.tasks.faults.page import write_suggestions

    folder = folder or _OUT
    with _writing(folder):  # before the long work
        folder.mkdir(parents=True, exist_ok=True)
    with Bar(len(checked.rows), len(checked.bad)) as bar:
        found = find_faults(judge.network, data, checked, bar.advance, shares=judge.shares)
    with _writing(folder):
        write_suggestions(folder, found, data)
    return found


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"--out {printable(folder)}: cannot be written ({error.strerror}). Expected a folder "
            "that can be made, on a disk with room. Choose another path."
        ) from error


def lines(found: Faults, folder: Path | None) -> Iterator[Line]:
    """Yields what was found, the likeliest suggestions of each kind, and where all of them are."""
    counts = found.counts
    yield "", ""
    yield from ((method, "dim") for method in found.methods)
    kinds = (
        (f"likely label errors: {counts['label']:,}", found.of("label")),
        (
            f"near-duplicates: {counts['near-duplicate']:,}, and {found.across:,} of them in "
            "groups across train and val",
            found.of("near-duplicate"),
        ),
        (f"outliers: {counts['outlier']:,}", found.of("outlier")),
    )
    for heading, suggestions in kinds:
        yield "", ""
        yield heading, "yellow" if suggestions else ""
        yield from ((f"  {_line(one)}", "") for one in suggestions[:_NAMES])
        if len(suggestions) > _NAMES:
            yield f"  ... and {len(suggestions) - _NAMES:,} more", "dim"
    yield "", ""
    skipped = f"; {found.skipped:,} that cannot be used were left out" if found.skipped else ""
    yield f"{found.images:,} images compared{skipped}; nothing was changed", ""
    yield f"suggestions: {printable(folder or _OUT)}", "bold"


def _line(one: Suggestion) -> str:
    if one.kind == "label":
        more = f" is likely {truncated(one.change or one.suggested)}"
    else:
        more = f" is like {one.other_path}" if one.other_path else ""
    return f"{one.path} ({one.part}, {truncated(one.label)}){more}, score {one.shown_score}"


def as_json(args: argparse.Namespace, checked: Checked, found: Faults | None) -> dict[str, Any]:
    """Returns the counts of the check, and the suggestions if there is a network."""
    result: dict[str, Any] = {
        "images": len(checked.rows),
        "unusable": [{"path": row.name, "error": row.error} for row in checked.bad],
        "classes": [
            {"class": name, "train": train, "val": val} for name, train, val in checked.counts
        ],
        "copies": sum(map(len, checked.copies())),
        "copies_across": len(checked.leaks()),
        "copies_of_different_classes": len(checked.disagreements()),
    }
    if checked.unlabelled is not None:
        train, val = checked.unlabelled
        result["without_label"] = {"train": train, "val": val}
    if found is not None:
        result["faults"] = {
            "folder": str(args.out or _OUT),
            "images": found.images,
            "skipped": found.skipped,
            "counts": found.counts,
            "near_duplicates_across": found.across,
            "methods": list(found.methods),
            "rows": [one.as_dict() for one in found.suggestions],
        }
    return result
