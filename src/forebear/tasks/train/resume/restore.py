"""A run that broke off, read back: its setup from settings.json, its state from a checkpoint."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from forebear.errors import ForebearError, RunError
from forebear.tables.dialects import Dialect
from forebear.tables.files import (
    dialect_from_dict,
    preprocessing_from_dict,
    table_from_dict,
)
from forebear.tables.preprocessing import Preprocessing
from forebear.tables.rows import Table
from forebear.tasks.machine.device import device_name
from forebear.tasks.machine.distributed import World
from forebear.tasks.runs.folder import RunFolder
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.train.budget.timing import StepTimes
from forebear.tasks.train.prepare import Prepared
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.recipe_files import recipe_from_dict
from forebear.tasks.train.request import TrainConfig
from forebear.tasks.train.resolve import ResolvedRecipe
from forebear.tasks.train.resume.checkpoint import checkpoints, load_checkpoint
from forebear.tasks.train.resume.differences import (
    changed_images,
    changed_machine,
    unsure_images,
)
from forebear.tasks.train.resume.extend import Extension
from forebear.tasks.train.setup import RunSetup, create_network, images_of, split_data
from forebear.tasks.train.state import TrainState
from forebear.tasks.train.step import Stepper
from forebear.text import elided


def restore_setup(
    path: Path, *, device: str, threads: int | None, world: World, started: float
) -> RunSetup:
    """Returns the setup of a run that broke off, from its settings.json.

    Args:
        path: Its folder.
        device: auto, cpu or cuda.
        threads: Compute threads; None keeps the run's own number.
        world: The processes that train now.
        started: time.perf_counter() from which a budget counts on.

    Raises:
        RunError: There is no unfinished run, or its data have changed.
    """
    where = world.device(device)
    folder = world.on_rank0(lambda: RunFolder(path, replace=True))
    settings, epochs = world.on_rank0(folder.read)
    begun = world.on_rank0(lambda: bool(checkpoints(folder.checkpoints)))
    extends = not begun and bool(settings.get("extends"))
    if not begun and not extends and (epochs or settings.get("weights")):
        what = "its checkpoints are gone" if epochs else "it was killed before its first checkpoint"
        raise RunError(
            f"{path}: {what}. Expected a checkpoint to resume from. Train again with --replace and "
            "the same arguments."
        )
    try:
        resolved = _recipe(settings)
        table, dialect, colours = _network(settings)
        name, spec = settings["network"], settings["data"]["spec"]
        config = TrainConfig(data=spec, **settings["request"])
        if where.type != "cuda" and config.compile == "graphs":
            config = replace(config, compile="auto")  # a CPU has no CUDA graphs
        threads = threads or config.threads
        note = changed_machine(
            settings, device=device_name(where), processes=world.size, threads=threads
        )
        _check_data(settings["data"])
        earlier = Extension.read(settings["extends"], epochs) if extends else None
    except (KeyError, TypeError, ValueError, AttributeError, ForebearError) as error:
        raise RunError(
            f"{path}: its settings are not those of a run ({_reason(error)}). Expected "
            "settings.json as forebear train wrote it. Train again with --replace."
        ) from error
    data, test = split_data(images_of(config), config.hold_out, config.fold)
    fault = changed_images(settings, data)
    if fault:
        raise RunError(
            f"{path}: the images of {spec} have changed since the run began ({fault}). Expected "
            "the same images. Restore them, or train again with --replace."
        )
    notes = tuple(filter(None, (note, unsure_images(settings, data))))
    network = create_network(table, dialect, data, resolved.recipe, colours)
    if earlier is not None:
        notes = (*notes, earlier.load(path, network, resolved.recipe))
    return RunSetup(
        config=replace(config, device=device, threads=threads, started=started),
        name=name,
        network=network,
        data=data,
        test=test,
        resolved=resolved,
        folder=folder,
        device=where,
        colours=colours,
        world=world,
        notes=notes,
        epochs=tuple(epochs),
        resumes=begun or extends,
        starts_from=None if earlier is None else earlier.state,
        times=StepTimes(resolved.recipe, network, where) if config.budget else None,
    )


def restore_state(
    run: Prepared, stepper: Stepper
) -> tuple[TrainState, tuple[Epoch, ...], tuple[str, ...]]:
    """Loads the newest whole checkpoint; from here on no other process may use the folder.

    Args:
        run: To be resumed.
        stepper: Takes the tensors.

    Returns:
        The state, the epochs completed by then, and lines to print.

    Raises:
        RunError: No checkpoint is whole, or it is of another run.
    """
    setup, folder = run.setup, run.setup.folder

    steps = len(run.training)
    most = 0 if setup.config.budget else run.recipe.iterations or run.recipe.epochs * steps

    def check(state: TrainState) -> str:
        if state.place > steps or (most and state.step > most):
            return f"step {state.step} in place {state.place} is beyond the end of the run"
        return ""

    def read() -> tuple[dict[str, Any], TrainState, list[str]]:
        folder.hold()
        _, epochs = folder.read()  # again: another process may have trained here until now
        if len(epochs) != len(setup.epochs):
            raise RunError(
                f"{folder.path}: another process trained here while this one started. Expected "
                "one process at a time. Run the same command again."
            )
        return load_checkpoint(folder.checkpoints, folder.identity, check)

    tensors, state, damaged = setup.world.on_rank0(read)
    try:
        stepper.load(tensors)
        stepper.guard.count(skipped=state.skipped, in_row=state.in_row)
    except (ValueError, KeyError, RuntimeError) as error:
        raise RunError(
            f"{folder.checkpoints}: the checkpoint is of another run ({error}). Expected that of "
            f"the settings in {folder.path}. Train again with --replace."
        ) from error
    evaluated = state.step - len(state.losses)  # steps up to the last evaluation
    epochs = tuple(epoch for epoch in setup.epochs if epoch.step <= evaluated)
    return state, epochs, (*damaged, f"resuming after step {state.step:,}")


def _check_data(data: Any) -> None:
    """Raises KeyError or TypeError if the part "data" of settings.json lacks what is compared."""
    if not all(isinstance(name, str) for name in data["classes"]):
        raise TypeError("data.classes has other values than names")
    for name, kind in (("train", int), ("held_out", int), ("fingerprint", str)):
        if not isinstance(data[name], kind):
            raise TypeError(f"data.{name}={elided(repr(data[name]))}")


def _reason(error: Exception) -> str:
    """What was wrong with a value of settings.json, in one line."""
    if isinstance(error, KeyError):
        return f"{elided(error.args[0])} is missing"
    return elided(error, 200)


def _recipe(settings: dict[str, Any]) -> ResolvedRecipe:
    known = settings.get("chosen_by", {})  # missing in runs of older versions
    origins = {one.name: known.get(one.name, "unknown") for one in fields(Recipe)}
    return ResolvedRecipe(recipe=recipe_from_dict(settings["recipe"]), origins=origins)


def _network(settings: dict[str, Any]) -> tuple[Table, Dialect, Preprocessing]:
    return (
        table_from_dict(settings["table"]),
        dialect_from_dict(settings["dialect"]),
        preprocessing_from_dict(settings["preprocessing"]),
    )
