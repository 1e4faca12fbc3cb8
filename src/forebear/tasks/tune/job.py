"""A search from its folder to its results, new or continued."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from forebear.data.dataset import Dataset
from forebear.errors import ForebearError, RunError, StopError
from forebear.files import write_text
from forebear.tasks.evaluate import evaluate_on
from forebear.tasks.label_evaluation import evaluate_labels_on
from forebear.tasks.runs.choosing import MEASURES, metric_for
from forebear.tasks.runs.layout import BEST, INDEX
from forebear.tasks.runs.lock import FolderLock
from forebear.tasks.runs.read import read_run
from forebear.tasks.train.request import TrainConfig
from forebear.tasks.train.setup import images_of
from forebear.tasks.tune.config import TuneConfig
from forebear.tasks.tune.page import write_page
from forebear.tasks.tune.results import Trial, TuneResult, choose_winner, write_results
from forebear.tasks.tune.search import Search
from forebear.text import printable, truncated
from forebear.untrusted import read_json
from forebear.weights.native_format import load_file

STUDY, NOTE = "study.log", "tune.json"
# What may differ between a search and the call that continues it
_FREE = ("out", "replace", "device", "threads", "workers", "keep_memory", "started")


def tune(config: TuneConfig, *, say: Callable[[str], None] = lambda line: None) -> TuneResult:
    """Searches fields of a recipe for a given time, and leaves each trial as a run folder.

    The first trial is the unchanged recipe. The metric is that of images that are held out of the
    training images; the data's own validation set is evaluated once, for the winner. The same call
    continues a search that was stopped: each trial is carried out once, and time that earlier
    calls have used counts.

    Args:
        config: What is searched, and for how long.
        say: Takes lines about the progress.

    Raises:
        ForebearError: Optuna is missing, the folder is in use or belongs to another search, a
            signal came, or what `train` raises for the first trial.
        ValueError: There are several processes, or what `train` raises for the first trial.
    """
    started = time.perf_counter()
    _check_optuna()
    _refuse_processes()
    data = images_of(config.first)
    metric = metric_for(config.train.metric, multi_label=data.multi_label)
    first = replace(config.first, metric=metric, out=config.out)
    lock = _take_up(config, data.fingerprint)
    try:
        search = Search(
            _open_study(config.out), first, MEASURES[metric], ends=started + config.time, say=say
        )
        search.run(config.space, config.trials)
        return _finish(search, data)
    except StopError as error:
        said = str(error).partition(" To go on: ")[0]  # with this trial alone
        raise StopError(
            f"{said} To go on: the same command with --out {printable(config.out)}", error.number
        ) from None
    except OSError as error:
        raise RunError(
            f"{printable(config.out)}: cannot be written to ({error.strerror or error}). Expected "
            "a folder with room for the results. Check its permissions and the disk, and start "
            "the same command again."
        ) from error
    finally:
        lock.release()


def _check_optuna() -> None:
    try:
        import optuna
    except ImportError:
        raise ForebearError(
            "forebear tune: optuna is not installed. Expected the packages of the extra tune. Run "
            "pip install 'forebear[tune]'."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _refuse_processes() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "a search with several processes: it trains its runs one after the other in one "
            "process. Expected a call without torchrun. Leave torchrun out."
        )


def _take_up(config: TuneConfig, fingerprint: str) -> FolderLock:
    """Takes the folder, and writes down what is searched.

    Raises:
        RunError: The folder is in use, or holds something else.
    """
    out = config.out
    if out.exists() and not out.is_dir():
        raise RunError(
            f"{printable(out)}: is a file. Expected a folder to make. Pass another --out."
        )
    begun = (out / NOTE).is_file()
    if not begun and out.is_dir() and any(one.name != ".lock" for one in out.iterdir()):
        raise RunError(
            f"{printable(out)}: holds files already, and they are no search. Expected a new or an "
            "empty folder. Pass another --out."
        )
    note = _note(config) | {"fingerprint": fingerprint}
    trained = begun and any(out.glob("trial-*"))
    if trained:
        _refuse_other(out, note)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(out)
        lock.acquire()
        if not trained:
            write_text(out / NOTE, json.dumps(note, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise RunError(
            f"{printable(out)}: cannot be written to ({error.strerror or error}). Expected a "
            "folder for the trials. Pass another --out."
        ) from error
    return lock


def _note(config: TuneConfig) -> dict[str, Any]:
    """Returns what decides the trials of a search, as JSON has it."""
    values = {name: one for name, one in asdict(config.first).items() if name not in _FREE}
    found: dict[str, Any] = json.loads(
        json.dumps(values | {"search": config.search, "seed": config.seed}, default=str)
    )
    return found


def _refuse_other(out: Path, note: dict[str, Any]) -> None:
    shown = printable(out)
    try:
        before = dict(read_json(out / NOTE))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            f"{shown}: its {NOTE} cannot be read ({truncated(error)}). Expected that of a search. "
            "Pass another --out."
        ) from error
    differing = [name for name in note if before.get(name) != note[name]]
    if "fingerprint" in differing:
        raise RunError(
            f"{shown}: the images have changed since the search began. Expected the same images. "
            "Restore them, or pass another --out."
        )
    if differing:
        said = ", ".join(
            f"{name}: {truncated(before.get(name), 60)} then, {truncated(note[name], 60)} now"
            for name in differing[:3]
        )
        raise RunError(
            f"{shown}: holds another search ({said}). Expected the same settings, with which it "
            "continues; --time and --trials may differ. Pass another --out."
        )


def _open_study(out: Path) -> Any:
    """Returns the study of a folder, new or with its trials so far."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    path = out / STUDY
    if path.is_symlink():
        raise RunError(
            f"{printable(path)}: is a link. Expected a file, as forebear writes it. Do not trust "
            "this folder, and pass another --out."
        )
    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
        return optuna.create_study(
            study_name="tune", storage=storage, direction="maximize", load_if_exists=True
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{printable(path)}: cannot be read ({truncated(error)}). Expected the study of a "
            "search. Pass another --out."
        ) from error


def _finish(search: Search, data: Dataset) -> TuneResult:
    """Measures the winner on the test set, and writes the results."""
    trials = search.trials
    winner = choose_winner(trials, search.measure)
    held_out = read_run(search.out / winner.folder).part("data").get("held_out", 0)
    test, images = _tested(search, winner)
    result = TuneResult(
        folder=search.out,
        metric=search.config.metric,
        trials=trials,
        winner=winner,
        validation_images=int(held_out),
        multi_label=data.multi_label,
        test=test,
        test_images=images,
    )
    write_results(result)
    write_page(search.out / INDEX, result, data.spec)
    return result


def _tested(search: Search, winner: Trial) -> tuple[float, int]:
    """Returns the winner's quality on the data set's validation set, and its images.

    That set, which came with the data or was split off when they were read, is no part of what the
    trials train and validate on. A continued search with the same winner does not evaluate it
    again.
    """
    known = search.study.user_attrs.get("test", {})
    if known.get("trial") != winner.number:
        known = {"trial": winner.number} | _evaluated(search.config, search.out / winner.folder)
        search.study.set_user_attr("test", known)
    return float(known["quality"]), int(known["images"])


def _evaluated(config: TrainConfig, folder: Path) -> dict[str, Any]:
    network = load_file(folder / BEST)
    given: dict[str, Any] = {
        "reading": config.reading,
        "part": "val",
        "device": config.device,
        "bad": config.bad,
    }
    if network.multi_label:
        labels = evaluate_labels_on(network, config.data, **given)
        return {"quality": labels.mean_ap, "images": labels.images}
    measured = evaluate_on(network, config.data, **given)
    return {"quality": measured.top1, "images": measured.images}
