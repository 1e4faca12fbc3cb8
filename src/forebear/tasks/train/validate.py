"""Evaluations within a run: over all processes, ended by a signal, and on a budget by the clock."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from forebear.data.feature_loader import FeatureLoader
from forebear.data.loader import Loader
from forebear.tasks.evaluate import Evaluation, combined, evaluate, kept_images, sorted_by
from forebear.tasks.evaluation_batches import InOrder
from forebear.tasks.label_evaluation import AnyEvaluation, evaluate_labels, in_order, joined_labels
from forebear.tasks.machine.device import Precision
from forebear.tasks.runs.layout import BEST
from forebear.tasks.train.budget.evaluation import UntilTime
from forebear.tasks.train.input_pipeline import (
    MIN_EVALUATION_BATCH,
    evaluation_images,
    lazy_evaluation_images,
)
from forebear.tasks.train.out_of_memory import explain_evaluation
from forebear.tasks.train.prepare import Prepared
from forebear.tasks.train.signals import StopSignals
from forebear.weights.native_format import load_file


def validate(
    run: Prepared,
    model: nn.Module,
    batches: Loader | FeatureLoader,
    stop: StopSignals,
    *,
    until: float | None = None,
) -> AnyEvaluation:
    """Evaluates a network, and returns its rows in the order of the data set.

    Args:
        run: Whose processes evaluate.
        model: Takes the batches.
        batches: Images, or the features that the logits take.
        stop: A signal ends the evaluation, unless several processes share it.
        until: time.perf_counter() at which it ends early, after some of the images; None: never.

    Raises:
        StopError: A signal came.
        RunError: A batch does not fit in memory.
    """
    precision: Precision = "bf16" if run.recipe.precision == "bf16" else "fp32"
    world = run.setup.world
    skipped = batches.store.skipped if isinstance(batches, Loader) else {}
    watched: InOrder = batches
    if world.size == 1:  # several processes must all reach the end
        watched = stop.watch(batches)
        if until is not None:
            watched = UntilTime(watched, until)
    while True:
        with (
            explain_evaluation(model, batches, precision, least=MIN_EVALUATION_BATCH)
            if isinstance(batches, Loader)
            else nullcontext()
        ):
            part = _evaluated(run, model, watched, precision, _kept_images(run, batches))
        if not world.united(skipped):  # a newly skipped image changes who evaluates which
            break
    whole = _joined(world.gather(part))
    if isinstance(batches, FeatureLoader):
        return whole
    places = batches.places[: whole.images]
    if isinstance(whole, Evaluation):
        return sorted_by(whole, places)
    return in_order(whole, np.argsort(places, kind="stable"))


def _evaluated(
    run: Prepared,
    model: nn.Module,
    batches: InOrder,
    precision: Precision,
    keep: NDArray[np.bool_] | None,
) -> AnyEvaluation:
    classes = run.setup.data.classes
    if run.setup.data.multi_label:
        return evaluate_labels(model, batches, classes, precision=precision)
    return evaluate(model, batches, classes, precision=precision, keep=keep)


def _joined(parts: Sequence[AnyEvaluation]) -> AnyEvaluation:
    """Returns the evaluation of the whole set from those of all processes."""
    single = [part for part in parts if isinstance(part, Evaluation)]
    return (
        combined(single)
        if single
        else joined_labels([part for part in parts if not isinstance(part, Evaluation)])
    )


def _kept_images(run: Prepared, batches: Loader | FeatureLoader) -> NDArray[np.bool_] | None:
    """Returns which of this process's images keep their logits, for the calibration."""
    setup = run.setup
    if not setup.chooses or setup.data.multi_label:
        return None
    count = len(batches.places if isinstance(batches, Loader) else batches.labels)
    return kept_images(count, len(setup.data.classes))[setup.world.rank :: setup.world.size]


def load_best(run: Prepared) -> nn.Module:
    """Returns the run's network, in all processes, with the weights of best.safetensors."""
    setup, network = run.setup, run.setup.network
    if setup.world.writes:
        best = load_file(setup.folder.path / BEST).to(setup.device)
        network.load_state_dict(best.state_dict())
        network.card = best.card  # with its calibration
    setup.world.broadcast([*network.parameters(), *network.buffers()])
    return network


def test_images(run: Prepared) -> Loader:
    """Returns the images of the test set; on a budget those that there is time for.

    Raises:
        DataError: An image cannot be decoded.
    """
    setup = run.setup
    assert setup.test is not None
    images, decoding = setup.test.val, run.decoding
    if run.evaluation is None:
        return evaluation_images(
            images, run.rule, run.training_images, decoding=decoding, world=setup.world
        )
    test = lazy_evaluation_images(
        images, run.rule, run.training_images, decoding=decoding, until=0.0
    )
    assert test.shown is not None
    return replace(test, shown=test.shown[: run.evaluation.test_images])
