"""One training run from a data set's name to a finished folder: what is asked for becomes a job."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from forebear.data.dataset import Dataset
from forebear.data.sources.registry import read_data
from forebear.errors import RunError
from forebear.tables.files import (
    dialect_from_dict,
    preprocessing_from_dict,
    resolve,
    table_from_dict,
)
from forebear.tasks.machine.device import device_name
from forebear.tasks.machine.distributed import World
from forebear.tasks.machine.thread_tuning import uncrowded
from forebear.tasks.runs.folder import CHECKPOINTS, RunFolder
from forebear.tasks.train.budget.plan import Allowance, Amount, Fitted, fit_to_budget
from forebear.tasks.train.budget.timing import StepTimes
from forebear.tasks.train.job import PreparedRun, TrainResult
from forebear.tasks.train.out_of_memory import explain_anywhere
from forebear.tasks.train.recipe_files import recipe_from_dict
from forebear.tasks.train.request import TrainConfig
from forebear.tasks.train.resolve import asked, resolve_recipe
from forebear.tasks.train.resume.checkpoint import checkpoints
from forebear.tasks.train.resume.differences import changed_machine, changed_pictures
from forebear.tasks.train.setup import (
    choose_network,
    create_network,
    load_initial_weights,
    split_data,
)
from forebear.tasks.train.trainer import run_training
from forebear.weights.load import find_card

__all__ = ["TrainConfig", "TrainResult", "resume", "seeds", "train"]


def train(request: TrainConfig) -> TrainResult:
    """Trains a network on a data set and leaves a finished run folder.

    Raises:
        ValueError: an argument out of range, or a network that cannot take these pictures.
        ForebearError: data that cannot be used, a folder in the way, or too little memory.
    """
    now = time.perf_counter()
    started = request.started or now
    request = replace(request, started=started)
    with World.join(request.device) as world, explain_anywhere():
        if world.restarts and request.out is not None and world.on_rank0(lambda: _begun(request)):
            return _resume(request.out, request.device, request.threads, world, started)
        return _train(request, world, imports=now - started)


def _begun(request: TrainConfig) -> bool:
    """Whether an earlier start by torchrun left the run unfinished: it is then gone on with."""
    assert request.out is not None
    return any((request.out / CHECKPOINTS).glob("step-*"))


def _train(request: TrainConfig, world: World, *, imports: float) -> TrainResult:
    device = world.device(request.device)
    if request.deterministic and request.threads is None:
        request = replace(request, threads=torch.get_num_threads())
    if request.out is not None:  # what is in the way is said before data are read
        world.on_rank0(partial(RunFolder, request.out, replace=request.replace))
    if request.network is not None:
        resolve(request.network, request.dialect)  # a wrong name is refused before data are read
    data, test = split_data(read_data(request.data), request.hold_out)
    _refuse_if_spent(request)
    card = None if request.weights is None else find_card(request.weights)
    side = 0 if card is None else card.preprocessing.size
    settle = partial(resolve_recipe, data=data, device=device, side=side)
    first = settle(request, norms=True)
    name, table, dialect = choose_network(request, first)
    norms = dialect.root_norm or dialect.final_norm
    recipe = settle(request, norms=norms)
    network = create_network(table, dialect, data, recipe)
    times: StepTimes | None = None
    notes: tuple[str, ...] = ()
    if request.budget:
        times = StepTimes(recipe, network, device)
        fits = world.on_rank0(partial(_fitted, request, data, times, world.size))
        sizes = replace(request, size=fits.size, batch=fits.batch)
        recipe = settle(sizes, norms=norms)
        notes = (fits.line,) if fits.line else ()
    network.card = card or network.card
    if request.weights is not None:
        notes += load_initial_weights(network, request, data, recipe)
    kind = data.spec.partition(":")[0]
    folder = world.on_rank0(
        lambda: RunFolder(
            request.out or _new_folder(f"{kind}-{table.name}"), replace=request.replace
        )
    )
    job = PreparedRun(
        request=request,
        name=name,
        network=network,
        data=data,
        test=test,
        recipe=recipe,
        folder=folder,
        device=device,
        world=world,
        colours=network.preprocessing if request.weights is not None else None,
        notes=notes,
        times=times,
        imports=imports,
    )
    return run_training(job)


def _refuse_if_spent(request: TrainConfig) -> None:
    """Refuses a budget that is shorter than listing the images of the data set.

    Raises:
        RunError: it is.
    """
    if not request.budget or request.started is None:
        return
    spent = time.perf_counter() - request.started
    if spent >= request.budget:
        raise RunError(
            f"--budget {request.budget:g} s: loading torch and listing the images of "
            f"{request.data} took {spent:.1f} s. Expected a longer budget. Raise the budget."
        )


def _fitted(request: TrainConfig, data: Dataset, times: StepTimes, processes: int) -> Fitted:
    """The size and the batch for a budget, by steps with as many threads as are faster now."""
    assert request.budget is not None
    assert request.started is not None
    until = Allowance(request.budget, request.started).timed
    amount = Amount(
        train=len(data.train), evaluated=len(data.val), budget=request.budget * processes
    )
    free = asked(request, data, norms=True)
    careful = times.device.type == "cpu" and request.threads is None
    with uncrowded() if careful else nullcontext():
        return fit_to_budget(request, free, times.recipe, times, amount, until)


def seeds(request: TrainConfig, count: int) -> list[TrainResult]:
    """Runs of one setting that differ by their seed alone, each in a folder of its own.

    Args:
        request: of the first; the others' seeds follow on its own.
        count: of runs.

    Raises:
        ValueError: count is below 2, or what `train` raises.
        ForebearError: what `train` raises.
    """
    if count < 2:
        raise ValueError(f"seeds={count}: expected 2 or more. Leave it out for one run.")
    first = request.seed or 0
    out = request.out or _new_folder(f"{request.data.partition(':')[0]}-seeds")
    folders = [RunFolder(out / f"seed-{first + n}", replace=request.replace) for n in range(count)]
    return [
        train(replace(request, seed=first + number, out=folder.path, started=None))
        for number, folder in enumerate(folders)
    ]


def resume(
    path: Path, *, device: str = "auto", threads: int | None = None, started: float | None = None
) -> TrainResult:
    """Goes on with a run that broke off, after the last step that it saved.

    Of a deterministic run, or one with its threads fixed, the weights end on the same machine as
    they would have without the break. A run that was killed before it could save begins anew.

    Args:
        path: of its folder.
        device: auto, cpu or cuda.
        threads: that compute; None: the run's own.
        started: time.perf_counter() from which a budget counts on; None: the call.

    Raises:
        RunError: no unfinished run, or one whose data have changed since.
    """
    with World.join(device) as world, explain_anywhere():
        return _resume(path, device, threads, world, started or time.perf_counter())


def _resume(
    path: Path, device: str, threads: int | None, world: World, started: float
) -> TrainResult:
    where = world.device(device)
    folder = world.on_rank0(lambda: RunFolder(path, replace=True))
    settings, epochs = world.on_rank0(folder.read)
    begun = world.on_rank0(lambda: bool(checkpoints(folder.checkpoints)))
    if not begun and (epochs or settings.get("weights")):
        what = "its checkpoints are gone" if epochs else "it was killed before its first checkpoint"
        raise RunError(
            f"{path}: {what}. Expected one to go on from. Train again with --replace, and what "
            "was given before."
        )
    try:
        recipe = recipe_from_dict(settings["recipe"])
        table = table_from_dict(settings["table"])
        dialect = dialect_from_dict(settings["dialect"])
        colours = preprocessing_from_dict(settings["preprocessing"])
        name, spec = settings["network"], settings["data"]["spec"]
        fingerprint = settings["data"]["fingerprint"]
        request = TrainConfig(data=spec, **settings["request"])
        if where.type != "cuda" and request.compile == "graphs":
            request = replace(request, compile="auto")  # there are none of them here
        threads = threads or request.threads
        note = changed_machine(
            settings, device=device_name(where), processes=world.size, threads=threads
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path}: its settings are not those of a run ({error}). Expected what forebear train "
            "wrote. Train it again with --replace."
        ) from error
    data, test = split_data(read_data(spec), request.hold_out)
    if data.fingerprint != fingerprint:
        raise RunError(
            f"{path}: the pictures of {spec} are not those that the run began with "
            f"({changed_pictures(settings['data'], data)}). Expected the same. Restore them, or "
            "train again with --replace."
        )
    network = create_network(table, dialect, data, recipe)
    job = PreparedRun(
        request=replace(request, device=device, threads=threads, started=started),
        name=name,
        network=network,
        data=data,
        test=test,
        recipe=recipe,
        folder=folder,
        device=where,
        colours=colours,
        world=world,
        notes=(note,) if note else (),
        epochs=tuple(epochs),
        resumes=begun,
        times=StepTimes(recipe, network, where) if request.budget else None,
    )
    return run_training(job)


def _new_folder(name: str) -> Path:
    """runs/NAME, or the first of runs/NAME-2, runs/NAME-3, ... that is free."""
    folder, number = Path("runs") / name, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder
