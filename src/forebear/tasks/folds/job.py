"""Trains one run per fold, and continues where an earlier call was stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import distributed

from forebear.data.fold import Fold
from forebear.data.sources.fold_split import FoldPlan
from forebear.data.sources.group_by import refuse_shared_groups
from forebear.data.sources.registry import read_data
from forebear.errors import RunError, StopError
from forebear.files import write_text
from forebear.network.network import Network
from forebear.tasks.folds.page import write_page
from forebear.tasks.folds.predict import Predictor, write_table
from forebear.tasks.folds.results import CrossValidation, fold_result
from forebear.tasks.runs.layout import CHECKPOINTS, INDEX, WEIGHTS
from forebear.tasks.runs.lock import refuse_links
from forebear.tasks.runs.read import load_run
from forebear.tasks.train.api import resume, train
from forebear.tasks.train.request import TrainConfig
from forebear.tasks.train.setup import new_folder, refuse_one_class
from forebear.text import printable, truncated
from forebear.untrusted import read_json

NOTE, TABLE = "folds.json", "out_of_fold.csv"
TRAINING = 0.95  # of a budget: the rest is for the predictions at the end
# What may differ between a cross-validation and the call that continues it
_FREE = (
    "out", "replace", "device", "threads", "workers", "every", "keep_memory", "tensorboard",
    "track", "compile", "started",
)  # fmt: skip


def cross_validate(
    config: TrainConfig, count: int, *, say: Callable[[str], None] = lambda line: None
) -> CrossValidation:
    """Trains a run for each fold, and predicts each image by the network that did not see it.

    The same call continues a cross-validation that was stopped: runs that are finished are kept,
    and an interrupted one is resumed. All runs have the same seed and equal parts of a budget.

    Args:
        config: Of each run. `out` is the folder of all of them.
        count: Number of folds.
        say: Takes lines about the progress.

    Raises:
        ValueError: `count` is below 2, `hold_out` is given, there are several processes, or what
            `train` raises.
        ForebearError: The folder holds something else, the images cannot be distributed, or what
            `train` raises.
    """
    first = replace(config, fold=str(Fold.parse(f"1/{count}")))  # refuses what does not fit
    _refuse_processes(count)
    out = config.out or new_folder(f"{config.data.partition(':')[0]}-folds")
    request = _request(first, count)
    begun = _take_up(out, request, replaces=config.replace)
    data = read_data(config.data, config.reading)
    refuse_one_class(data)
    refuse_shared_groups(data)
    plan = FoldPlan.of(data, count)
    images = plan.split(1).fingerprint
    if begun is not None and begun != images:
        raise RunError(
            f"{printable(out)}: the images of {printable(config.data)} have changed since the "
            "cross-validation began. Expected the same images. Restore them, or pass --replace or "
            "another --out."
        )
    note = {"folds": count, "request": request, "fingerprint": images}
    if begun is None:
        _write(out / NOTE, note)
    share = config.budget and TRAINING * config.budget / count
    for number in range(1, count + 1):
        asked = replace(config, out=out / f"fold-{number}", fold=f"{number}/{count}", budget=share)
        _run(asked, out, fresh=begun is None, say=say)
    found = _measured(plan, out, config, say)
    _write(out / NOTE, {**note, **found.as_json()})
    return found


def _run(config: TrainConfig, out: Path, *, fresh: bool, say: Callable[[str], None]) -> None:
    """Trains, resumes or keeps the run of a fold.

    Args:
        config: Of the fold.
        out: The folder of all folds.
        fresh: Whether the cross-validation begins, so that nothing of an older one is kept.
        say: Takes a line about the run.
    """
    folder = config.out
    assert folder is not None
    refuse_links(folder)
    try:
        if not fresh and (folder / WEIGHTS).is_file():
            say(f"fold {config.fold}: finished, kept")
        elif not fresh and any((folder / CHECKPOINTS).glob("step-*")):
            say(f"fold {config.fold}: resuming")
            resume(folder, device=config.device, threads=config.threads)
        else:
            say(f"fold {config.fold}: training")
            train(replace(config, started=None, replace=config.replace or not fresh))
    except StopError as error:
        said = str(error).partition(" To go on: ")[0]  # with this fold alone
        without = " and without --replace" if config.replace else ""
        raise StopError(
            f"{said} To go on: the same command with --out {printable(out)}{without}", error.number
        ) from None


def _measured(
    plan: FoldPlan, out: Path, config: TrainConfig, say: Callable[[str], None]
) -> CrossValidation:
    """Predicts the images of each fold, and writes the table and the page."""
    predictor, cards = Predictor(plan, device=config.device, bad=config.bad), []
    for number in range(1, plan.count + 1):
        folder = out / f"fold-{number}"
        network = load_run(folder)
        _refuse_other(network, plan, number, folder)
        predictor.add(number, network)
        cards.append((number, folder, network.card.metrics))
    for why in predictor.left_out:
        say(f"left out: {why}")
    predictions = predictor.found()
    found = CrossValidation(
        folder=out,
        data=plan.data.spec,
        by="" if plan.groups is None else plan.groups.by,
        folds=tuple(
            fold_result(number, folder, predictions, metrics) for number, folder, metrics in cards
        ),
        predictions=predictions,
        left_out=len(predictor.left_out),
    )
    try:
        write_table(out / TABLE, found.predictions, plan)
        write_page(out / INDEX, found, table=TABLE)
    except OSError as error:
        raise _unwritable(out, error) from error
    return found


def _refuse_processes(count: int) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or distributed.is_initialized():
        raise ValueError(
            f"folds={count} with several processes: a cross-validation trains its runs one after "
            "the other in one process. Expected a call without torchrun. Leave torchrun out."
        )


def _refuse_other(network: Network, plan: FoldPlan, number: int, folder: Path) -> None:
    """Refuses a run that was trained on other images than those of its fold."""
    if network.card.metrics.get("fingerprint") != plan.split(number).fingerprint:
        raise RunError(
            f"{printable(folder)}: the run was trained on other images than those of fold {number} "
            f"of {plan.count}. Expected the run that --folds {plan.count} left. Move it away, and "
            "start the same command again."
        )


def _request(config: TrainConfig, count: int) -> dict[str, Any]:
    """Returns what decides the result of a cross-validation, as JSON has it."""
    values = {name: value for name, value in asdict(config).items() if name not in _FREE}
    values["fold"] = count
    found: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return found


def _take_up(out: Path, request: dict[str, Any], *, replaces: bool) -> str | None:
    """Returns the fingerprint of the images of the cross-validation to continue; None to begin.

    Raises:
        RunError: The folder holds another cross-validation, or something else.
    """
    shown = printable(out)
    refuse_links(out)
    if out.exists() and not out.is_dir():
        raise RunError(f"{shown}: is a file. Expected a folder to make. Pass another --out.")
    if not (out / NOTE).is_file():
        if out.is_dir() and any(out.iterdir()):
            raise RunError(
                f"{shown}: holds files already, and they are no cross-validation. Expected a new "
                "or an empty folder. Pass another --out."
            )
        return None
    if replaces:
        return None
    try:
        note = read_json(out / NOTE)
        before, images = dict(note["request"]), str(note["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{shown}: its {NOTE} cannot be read ({truncated(error)}). Expected that of a "
            "cross-validation. Pass another --out, or --replace."
        ) from error
    differing = [name for name in request if before.get(name) != request[name]]
    if differing:
        said = ", ".join(
            f"{'folds' if name == 'fold' else name}: {truncated(before.get(name), 60)} then, "
            f"{truncated(request[name], 60)} now"
            for name in differing[:3]
        )
        raise RunError(
            f"{shown}: holds another cross-validation ({said}). Expected the same settings, with "
            "which it continues. Pass another --out, or --replace to start again."
        )
    return images


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise _unwritable(path.parent, error) from error


def _unwritable(out: Path, error: OSError) -> RunError:
    return RunError(
        f"{printable(out)}: cannot be written to ({error.strerror or error}). Expected a folder "
        "with room for the results. Check its permissions and the disk, and start the same "
        "command again."
    )
