"""Evaluates a network on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forebear.data.choices import Bad
from forebear.data.sources.read_options import DEFAULTS, ReadOptions
from forebear.engines.graph_network import GraphNetwork
from forebear.network.finite import check_finite
from forebear.network.network import Network
from forebear.tasks.evaluation_batches import Chosen, InOrder, choose_batches, logits_of
from forebear.tasks.half_samples import class_intervals
from forebear.tasks.machine.device import Precision
from forebear.tasks.machine.thread_tuning import ThreadTuner
from forebear.tasks.metrics import ClassCounts, Interval, count_classes, wilson
from forebear.tasks.train.out_of_memory import explain_evaluation

LOGITS = 4_000_000  # values that an evaluation keeps at most, 16 MB: 4,000 images of ImageNet


@dataclass(frozen=True, slots=True, eq=False)
class KeptLogits:
    """The logits of some images of an evaluation, in its order."""

    rows: NDArray[np.int64]  # [m], their places in the evaluation
    logits: NDArray[np.float32]  # [m, classes]

    def moved(self, places: NDArray[np.int64]) -> KeptLogits:
        """Returns them for an evaluation whose row i comes to be row places[i]."""
        rows = places[self.rows]
        order = np.argsort(rows, kind="stable")
        return KeptLogits(rows[order], self.logits[order])


class Intervals(NamedTuple):
    """95 % confidence intervals of an evaluation."""

    top1: Interval  # Wilson's
    balanced: Interval  # of half-samples
    macro_f1: Interval  # of half-samples


class ClassResult(NamedTuple):
    """What was measured of one class."""

    name: str
    images: int
    recall: float  # 0 to 1; 0 if the class has no images
    precision: float  # 0 to 1; 0 if the class was never predicted
    recall_interval: Interval  # Wilson's, 95 %; 0 to 1 if the class has no images


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """The predictions for a data set: one row per image, in the order of the set."""

    classes: tuple[str, ...]
    labels: NDArray[np.int64]  # [n], true classes
    guesses: NDArray[np.int64]  # [n], classes with the largest logit
    in_top5: NDArray[np.bool_]  # [n], whether the true class is among the five largest logits
    losses: NDArray[np.float32]  # [n], cross-entropy, nats
    confidences: NDArray[np.float32]  # [n], probability of the guess, with the temperature
    kept: KeptLogits | None = None  # of some images, if they were asked for

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def top1(self) -> float:
        """Top-1 accuracy, 0 to 1."""
        return _mean(self.guesses == self.labels)

    @property
    def top5(self) -> float:
        """Top-5 accuracy, 0 to 1."""
        return _mean(self.in_top5)

    @property
    def loss(self) -> float:
        """Mean cross-entropy, nats."""
        return _mean(self.losses)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Confusion matrix [true class, predicted class], in images."""
        count = len(self.classes)
        cells = np.bincount(self.labels * count + self.guesses, minlength=count * count)
        return cells.reshape(count, count)

    @property
    def counts(self) -> ClassCounts:
        """Images, predictions and hits of each class."""
        return count_classes(self.labels, self.guesses, len(self.classes))

    @property
    def balanced(self) -> float:
        """Mean recall of the classes that have images (balanced accuracy), 0 to 1."""
        return float(self.counts.balanced())

    @property
    def macro_f1(self) -> float:
        """Mean F1, 2 hits / (images + predictions), of the classes that have images.

        Every class has the same weight, however many images it has.
        """
        return float(self.counts.macro_f1())

    def intervals(self) -> Intervals:
        """Returns 95 % confidence intervals: Wilson's for top-1, of half-samples else.

        There are 1,000 draws with a fixed seed, so the same images have the same interval.
        """
        hits = int((self.guesses == self.labels).sum())
        balanced, macro_f1 = class_intervals(self.labels, self.guesses, len(self.classes))
        return Intervals(_interval(wilson(hits, self.images)), balanced, macro_f1)

    def per_class(self) -> list[ClassResult]:
        """Returns what was measured of each class, in the order of the classes."""
        counts = self.counts
        recall = counts.hits / np.maximum(counts.images, 1)
        precision = counts.hits / np.maximum(counts.predicted, 1)
        columns = (counts.images.tolist(), recall.tolist(), precision.tolist())
        intervals = map(_interval, wilson(counts.hits, counts.images))
        return list(map(ClassResult, self.classes, *columns, intervals))

    def worst(self, count: int) -> NDArray[np.int64]:
        """Returns the indices of up to `count` images: mistakes first, each kind by falling loss.

        If there are fewer mistakes, the correct images with the largest losses follow.
        """
        return np.lexsort((-self.losses, self.guesses == self.labels))[:count]


def sorted_by(evaluation: Evaluation, places: NDArray[np.int64]) -> Evaluation:
    """Returns the evaluation with its rows in the order of the data set.

    Args:
        evaluation: Of images in any order.
        places: Indices [n] of its images in the data set.
    """
    order = np.argsort(places, kind="stable")
    rows = {name: getattr(evaluation, name)[order] for name in _COLUMNS}
    kept = None if evaluation.kept is None else evaluation.kept.moved(np.argsort(order))
    return Evaluation(classes=evaluation.classes, kept=kept, **rows)


def _interval(ends: NDArray[np.float64]) -> Interval:
    return Interval(*ends.tolist())


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else 0.0


def combined(parts: Sequence[Evaluation]) -> Evaluation:
    """Returns the evaluation of a whole set from those of several processes, bit for bit.

    Args:
        parts: One per process. Process r evaluates the images r, r + processes, and so on, as
            `Loader.in_order` distributes them. If images were skipped in one of the parts, all
            other images still count, but not in the order of the data set.

    Raises:
        ValueError: There are no parts, or their classes differ.
    """
    if len({part.classes for part in parts}) != 1:
        raise ValueError(
            f"parts: {len(parts)} evaluations, which are not of the same classes. Expected one "
            "or more of one network. Pass the part of every process."
        )
    turns = np.concatenate([np.arange(part.images) for part in parts])
    order = np.argsort(
        turns, kind="stable"
    )  # first the first images of all parts, then the second ones
    whole = {
        name: np.concatenate([getattr(part, name) for part in parts])[order] for name in _COLUMNS
    }
    return Evaluation(classes=parts[0].classes, kept=_combined_logits(parts, order), **whole)


def _combined_logits(parts: Sequence[Evaluation], order: NDArray[np.int64]) -> KeptLogits | None:
    firsts = np.cumsum([0, *(part.images for part in parts)])
    there = [(first, part.kept) for first, part in zip(firsts, parts, strict=False) if part.kept]
    if not there:
        return None
    rows = np.concatenate([first + kept.rows for first, kept in there])
    logits = np.concatenate([kept.logits for _, kept in there])
    return KeptLogits(rows, logits).moved(np.argsort(order))


def kept_images(count: int, classes: int) -> NDArray[np.bool_]:
    """Returns which images keep their logits [count]: all, or a fixed random part.

    The logits of the kept images have at most `LOGITS` values.

    Args:
        count: Images of the data set.
        classes: Values of each image.
    """
    most = max(1, LOGITS // max(classes, 1))
    kept = np.ones(count, bool)
    if count > most:
        kept[np.random.default_rng(0).permutation(count)[most:]] = False
    return kept


_COLUMNS = tuple(
    field.name for field in fields(Evaluation) if field.name not in ("classes", "kept")
)


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    batches: InOrder,
    classes: tuple[str, ...],
    *,
    precision: Precision,
    threads: ThreadTuner | None = None,
    temperature: float = 1.0,
    keep: NDArray[np.bool_] | None = None,
) -> Evaluation:
    """Evaluates a network on every image, in evaluation mode, and restores its mode afterwards.

    Results stay on the device until the last batch, so that the host does not wait for it.

    Args:
        network: On the device of the batches, with one logit per class; or its logits layer only.
        batches: Images, or the features that the logits layer takes.
        classes: Names in the order of the logits.
        precision: With bf16, the network runs under autocast; the softmax is always fp32.
        threads: Chooses the number of compute threads; None leaves torch's number as it is.
        temperature: Divides the logits for `confidences`, and for nothing else.
        keep: The images whose logits are kept, by their place [n] in `batches`; None keeps none.
    """
    keeper = None if keep is None else _Keeper(keep, len(classes))
    rows: list[tuple[Tensor, ...]] = []
    for logits, labels in logits_of(network, batches, precision=precision, threads=threads):
        rows.append(_measure(logits, labels, temperature))
        if keeper is not None:
            keeper.add(logits)
    if not rows:  # a process may have no images
        rows.append(_measure(torch.empty(0, len(classes)), torch.empty(0, dtype=torch.int64)))
    columns = (torch.cat(column).cpu().numpy() for column in zip(*rows, strict=True))
    kept = None if keeper is None else keeper.kept()
    return Evaluation(classes=classes, kept=kept, **dict(zip(_COLUMNS, columns, strict=True)))


class _Keeper:
    """Keeps the logits of chosen images, on the device until the last batch."""

    def __init__(self, keep: NDArray[np.bool_], classes: int) -> None:
        self._keep, self._seen = keep, 0
        self._rows: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        self._logits = [torch.empty(0, classes)]

    def add(self, logits: Tensor) -> None:
        """Takes the logits [n, classes] of the next n images."""
        rows = np.flatnonzero(self._keep[self._seen : self._seen + len(logits)])
        self._rows.append(rows + self._seen)
        self._seen += len(logits)
        if len(rows) < len(logits):
            logits = logits[torch.from_numpy(rows).to(logits.device)]
        self._logits.append(logits)

    def kept(self) -> KeptLogits:
        """Returns what was kept, on the host."""
        first, *others = self._logits
        logits = torch.cat(others).cpu() if others else first
        return KeptLogits(np.concatenate(self._rows), logits.numpy())


def _measure(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> tuple[Tensor, ...]:
    """Returns the columns of an Evaluation for the logits [n, classes] of a batch."""
    logs = logits.log_softmax(1)
    calibrated = logs if temperature == 1 else (logits / temperature).log_softmax(1)
    best = logits.topk(min(5, logits.shape[1])).indices
    guesses = best[:, :1]
    return (
        labels,
        guesses[:, 0],
        (best == labels[:, None]).any(1),
        -logs.gather(1, labels[:, None])[:, 0],
        calibrated.gather(1, guesses)[:, 0].exp(),
    )


def evaluate_on(
    network: Network | GraphNetwork,
    spec: str,
    *,
    reading: ReadOptions = DEFAULTS,
    part: str | None = None,
    batch: int = 64,
    precision: str = "fp32",
    device: str = "auto",
    bad: Bad = "fail",
    keep_logits: bool = False,
    mirrored: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Evaluates a trained network on images of a data set.

    If its card has a calibration, the confidences are calibrated.

    Args:
        network: With its classes and preprocessing, in evaluation mode; or an exported graph,
            which runs on the CPU.
        spec: The data set, as in `read_data`. Its classes are matched with the network's by name.
        reading: Columns, folder and groups of the data set.
        part: val, train, test or all; None chooses as `choose_images` does.
        batch: Images at a time.
        precision: auto, fp32 or bf16.
        device: auto, cpu or cuda.
        bad: "fail" raises an error for an image that cannot be decoded, "skip" leaves it out.
        keep_logits: Whether the logits are kept, of as many images as `kept_images` allows.
        mirrored: Whether the logits are the means of those of each image and its mirror image.
        say: Takes the lines that say which images are evaluated, and which were left out.

    Raises:
        DataError: The network lacks one of the classes, an image cannot be read, parts that came
            with the data have a group in common, or images have several labels; see
            `forebear.tasks.label_evaluation`.
        ValueError: The part, precision, device or batch is not possible.
        RunError: A batch does not fit in memory.
        WeightsError: The logits are not finite.
    """
    chosen = choose_batches(
        network, spec, reading=reading, part=part, batch=batch, precision=precision, device=device,
        bad=bad, mirrored=mirrored, say=say,
    )  # fmt: skip
    return evaluate_chosen(chosen, keep_logits=keep_logits, say=say)


def evaluate_chosen(
    chosen: Chosen, *, keep_logits: bool = False, say: Callable[[str], None] = lambda line: None
) -> Evaluation:
    """Evaluates the images that `choose_batches` has chosen; the errors are those of `evaluate_on`.

    Args:
        chosen: The images, and the network that answers them.
        keep_logits: Whether the logits are kept, of as many images as `kept_images` allows.
        say: Takes the lines that say which images were left out.
    """
    batches, kind, classes = chosen.batches, chosen.precision, chosen.classes
    fitted = chosen.model.card.calibration
    with (
        closing(ThreadTuner(batches.device)) as threads,
        explain_evaluation(chosen.answers, batches, kind),
    ):
        measured = evaluate(
            chosen.answers,
            batches,
            classes,
            precision=kind,
            threads=threads,
            temperature=1.0 if fitted is None else fitted.temperature,
            keep=kept_images(len(batches.places), len(classes)) if keep_logits else None,
        )
    for why in batches.store.skipped.values():
        say(f"left out: {why}")
    losses = torch.from_numpy(measured.losses)[:, None]
    check_finite(chosen.model, losses, chosen.images.name)
    return measured
