"""Evaluates a multi-label network: average precision, F1 and exact matches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forebear.data.choices import Bad
from forebear.data.sources.read_options import DEFAULTS, ReadOptions
from forebear.engines.graph_network import GraphNetwork
from forebear.network.finite import check_finite
from forebear.network.multi_label import MultiLabel
from forebear.network.network import Network
from forebear.tasks.evaluate import Evaluation
from forebear.tasks.evaluation_batches import InOrder, choose_batches, logits_of
from forebear.tasks.label_metrics import (
    average_precision,
    count_labels,
    label_intervals,
    mean_of,
)
from forebear.tasks.machine.device import Precision
from forebear.tasks.machine.thread_tuning import ThreadTuner
from forebear.tasks.metrics import Interval, wilson
from forebear.tasks.train.loss import label_losses
from forebear.tasks.train.out_of_memory import explain_evaluation


class LabelIntervals(NamedTuple):
    """95 % confidence intervals of an evaluation."""

    mAP: Interval  # of half-samples  # noqa: N815 - as the field writes it
    micro_f1: Interval  # of half-samples
    macro_f1: Interval  # of half-samples
    exact_match: Interval  # Wilson's


class LabelResult(NamedTuple):
    """What was measured of one label."""

    name: str
    images: int  # that have the label
    predicted: int  # images that were given the label
    average_precision: float  # 0 to 1; nan if no image has the label
    f1: float  # 0 to 1, at the threshold; 0 if no image has the label
    precision: float  # 0 to 1; 0 if no image was given the label
    recall: float  # 0 to 1; 0 if no image has the label
    threshold: float  # probability from which an image is given the label


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelEvaluation:
    """The predictions for a multi-label data set: one row per image, in the order of the set."""

    classes: tuple[str, ...]
    labels: NDArray[np.uint8]  # [n, classes], 1 for each label that the image has
    logits: NDArray[np.float32]  # [n, classes]
    losses: NDArray[np.float32]  # [n], sum of the binary cross-entropies of the labels, nats
    several: MultiLabel  # the thresholds

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def loss(self) -> float:
        """Mean over the images of the sum of the binary cross-entropies of their labels, nats."""
        return float(self.losses.mean(dtype=np.float64)) if self.images else 0.0

    @cached_property
    def predicted(self) -> NDArray[np.bool_]:
        """Whether each image is given each label, [n, classes]."""
        found: NDArray[np.bool_] = self.logits >= np.array(self.several.logits(), np.float32)
        return found

    @cached_property
    def precisions(self) -> NDArray[np.float64]:
        """Average precision [classes] of each label; nan if no image has it."""
        return average_precision(self.labels, self.logits)

    @property
    def mean_ap(self) -> float:
        """Mean average precision (mAP) of the labels that an image has, 0 to 1."""
        return mean_of(self.precisions)

    @property
    def micro_f1(self) -> float:
        """F1 of all pairs of an image and a label, at the thresholds, 0 to 1."""
        return float(count_labels(self.labels, self.predicted).micro_f1())

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the labels that an image has, at the thresholds, 0 to 1."""
        return float(count_labels(self.labels, self.predicted).macro_f1())

    @property
    def exact_match(self) -> float:
        """Share of the images whose labels are all right (subset accuracy), 0 to 1."""
        return float((self.faults == 0).mean()) if self.images else 0.0

    @property
    def faults(self) -> NDArray[np.int64]:
        """Number of labels [n] that are wrong or missing."""
        return np.asarray((self.predicted != (self.labels > 0)).sum(1), np.int64)

    def intervals(self) -> LabelIntervals:
        """Returns 95 % confidence intervals: Wilson's for exact matches, of half-samples else.

        The draws have a fixed seed, so the same images have the same interval.
        """
        drawn = label_intervals(self.labels, self.logits, self.predicted)
        exact = wilson(int((self.faults == 0).sum()), self.images)
        return LabelIntervals(*drawn, Interval(*exact.tolist()))

    def per_label(self) -> list[LabelResult]:
        """Returns what was measured of each label, in the order of the classes."""
        counts = count_labels(self.labels, self.predicted)
        columns = (
            counts.positives.tolist(),
            counts.predicted.tolist(),
            self.precisions.tolist(),
            counts.f1().tolist(),
            (counts.hits / np.maximum(counts.predicted, 1)).tolist(),
            (counts.hits / np.maximum(counts.positives, 1)).tolist(),
            self.several.thresholds,
        )
        return list(map(LabelResult, self.classes, *columns))

    def worst(self, count: int) -> NDArray[np.int64]:
        """Returns the indices of up to `count` images: those with faults first, by falling loss."""
        return np.lexsort((-self.losses, self.faults == 0))[:count]


AnyEvaluation = Evaluation | LabelEvaluation


def in_order(evaluation: LabelEvaluation, order: NDArray[np.int64]) -> LabelEvaluation:
    """Returns the evaluation of the images at these indices, in this order."""
    return replace(
        evaluation,
        labels=evaluation.labels[order],
        logits=evaluation.logits[order],
        losses=evaluation.losses[order],
    )


def joined_labels(parts: Sequence[LabelEvaluation]) -> LabelEvaluation:
    """Returns the evaluation of a whole set from those of several processes.

    Args:
        parts: One per process. Process r evaluates the images r, r + processes, and so on.
    """
    turns = np.concatenate([np.arange(part.images) for part in parts])
    whole = replace(
        parts[0],
        labels=np.concatenate([part.labels for part in parts]),
        logits=np.concatenate([part.logits for part in parts]),
        losses=np.concatenate([part.losses for part in parts]),
    )
    return in_order(whole, np.argsort(turns, kind="stable"))


def evaluate_labels(
    network: nn.Module,
    batches: InOrder,
    classes: tuple[str, ...],
    *,
    precision: Precision,
    threads: ThreadTuner | None = None,
    several: MultiLabel | None = None,
) -> LabelEvaluation:
    """Evaluates a multi-label network on every image.

    Args:
        network: On the device of the batches, with one logit per label; or its logits layer only.
        batches: Images, or the features that the logits layer takes.
        classes: Names in the order of the logits.
        precision: With bf16, the network runs under autocast.
        threads: Chooses the number of compute threads; None leaves torch's number as it is.
        several: The thresholds; None takes 0.5 for each label.
    """
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    for logits, labels in logits_of(network, batches, precision=precision, threads=threads):
        rows.append((labels, logits, label_losses(logits, labels)))
    if not rows:  # a process may have no images
        none = torch.empty(0, len(classes))
        rows.append((none.to(torch.uint8), none, torch.empty(0)))
    columns = [torch.cat(one).cpu().numpy() for one in zip(*rows, strict=True)]
    return LabelEvaluation(
        classes=classes,
        labels=columns[0],
        logits=columns[1],
        losses=columns[2],
        several=several or MultiLabel.of(len(classes)),
    )


def evaluate_labels_on(
    network: Network | GraphNetwork,
    spec: str,
    *,
    reading: ReadOptions = DEFAULTS,
    part: str | None = None,
    batch: int = 64,
    precision: str = "fp32",
    device: str = "auto",
    bad: Bad = "fail",
    mirrored: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> LabelEvaluation:
    """Evaluates a trained multi-label network on images of a data set, at its own thresholds.

    The arguments are those of `forebear.tasks.evaluate.evaluate_on`.

    Raises:
        DataError: The network lacks one of the labels, an image cannot be read, or images have one
            class each.
        ValueError: The part, precision, device or batch is not possible.
        RunError: A batch does not fit in memory.
        WeightsError: The logits are not finite.
    """
    chosen = choose_batches(
        network, spec, reading=reading, part=part, batch=batch, precision=precision, device=device,
        bad=bad, mirrored=mirrored, say=say,
    )  # fmt: skip
    batches, kind = chosen.batches, chosen.precision
    with (
        closing(ThreadTuner(batches.device)) as threads,
        explain_evaluation(chosen.answers, batches, kind),
    ):
        measured = evaluate_labels(
            chosen.answers,
            batches,
            chosen.classes,
            precision=kind,
            threads=threads,
            several=network.card.multi_label,
        )
    several = network.card.multi_label
    if chosen.chose(several.fingerprint if several is not None else ""):
        say(
            "the thresholds were chosen on these images, so F1 and exact matches are higher than "
            "on others"
        )
    for why in batches.store.skipped.values():
        say(f"left out: {why}")
    check_finite(chosen.model, torch.from_numpy(measured.logits), chosen.images.name)
    return measured
