"""How good a network is on pictures with known classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forebear.data.dataset import Dataset
from forebear.data.loader import Batch, Loader
from forebear.data.pixel_store import PixelStore
from forebear.data.sources.registry import read_data
from forebear.errors import DataError
from forebear.network.network import Network
from forebear.tasks.machine.device import Precision, find_device, find_precision
from forebear.tasks.machine.thread_tuning import ThreadTuner
from forebear.tasks.train.out_of_memory import explain_evaluation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What was measured: a row a picture, every picture once, in the order of the set."""

    classes: tuple[str, ...]
    labels: NDArray[np.int64]  # [n], true classes
    guesses: NDArray[np.int64]  # [n], classes with the greatest logit
    in_top5: NDArray[np.bool_]  # [n], whether the true class is among the best five
    losses: NDArray[np.float32]  # [n], cross-entropy, nats
    confidences: NDArray[np.float32]  # [n], the softmax of the guess

    @property
    def images(self) -> int:
        """Pictures seen."""
        return len(self.labels)

    @property
    def top1(self) -> float:
        """Share of pictures named rightly."""
        return _mean(self.guesses == self.labels)

    @property
    def top5(self) -> float:
        """Share of pictures whose class is among the best five."""
        return _mean(self.in_top5)

    @property
    def loss(self) -> float:
        """Mean cross-entropy, nats."""
        return _mean(self.losses)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """[true class, named class], pictures."""
        count = len(self.classes)
        cells = np.bincount(self.labels * count + self.guesses, minlength=count * count)
        return cells.reshape(count, count)

    @property
    def macro_f1(self) -> float:
        """Mean F1, 2 hits / (images + predictions), of the classes that have images.

        A class counts the same however many images it has.
        """
        named = np.bincount(self.guesses, minlength=len(self.classes))
        count = np.bincount(self.labels, minlength=len(self.classes))
        right = self.labels[self.guesses == self.labels]
        hits = np.bincount(right, minlength=len(self.classes))
        there = count > 0
        return _mean(2 * hits[there] / (count + named)[there])

    def per_class(self) -> list[tuple[str, int, float, float]]:
        """Name, pictures, recall and precision (shares; 0 where nothing was named so)."""
        confusion = self.confusion
        named = confusion.sum(0)
        rows = []
        for number, name in enumerate(self.classes):
            hits, count = confusion[number, number], int(confusion[number].sum())
            rows.append((name, count, hits / max(count, 1), hits / max(int(named[number]), 1)))
        return rows

    def worst(self, count: int) -> NDArray[np.int64]:
        """Up to `count` pictures, by place in the set: mistakes first, then by falling loss.

        Where there are fewer mistakes, the pictures that were named rightly most narrowly follow.
        """
        return np.lexsort((-self.losses, self.guesses == self.labels))[:count]


def sorted_by(evaluation: Evaluation, places: NDArray[np.int64]) -> Evaluation:
    """The rows of an evaluation in the order of the set.

    Args:
        evaluation: of images in any order.
        places: [n], the number of each of them in the set.
    """
    order = np.argsort(places, kind="stable")
    rows = {name: getattr(evaluation, name)[order] for name in _COLUMNS}
    return Evaluation(classes=evaluation.classes, **rows)


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else 0.0


def combined(parts: Sequence[Evaluation]) -> Evaluation:
    """The evaluation of a whole set from those of several processes, to the last bit.

    Args:
        parts: one a process; that of process r has every picture r, r + processes, and so on, as
            `Loader.in_order` deals them out. A share that has become shorter, by pictures that
            could not be decoded, is counted as well; only the order is its own then.

    Raises:
        ValueError: no parts, or parts of other classes.
    """
    if len({part.classes for part in parts}) != 1:
        raise ValueError(
            f"parts: {len(parts)} evaluations, which are not of the same classes. Expected one "
            "or more of one network. Pass the part of every process."
        )
    turns = np.concatenate([np.arange(part.images) for part in parts])
    order = np.argsort(turns, kind="stable")  # the first ones of all parts, then the second ones
    whole = {
        name: np.concatenate([getattr(part, name) for part in parts])[order] for name in _COLUMNS
    }
    return Evaluation(classes=parts[0].classes, **whole)


class InOrder(Protocol):
    """Batches that come in the order of their set, each picture once."""

    @property
    def device(self) -> torch.device:
        """Where they are."""

    def in_order(self) -> Iterator[Batch]:
        """What the network takes, and the labels."""


_COLUMNS = tuple(field.name for field in fields(Evaluation) if field.name != "classes")


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    batches: InOrder,
    classes: tuple[str, ...],
    *,
    precision: Precision,
    threads: ThreadTuner | None = None,
) -> Evaluation:
    """Runs a network over every picture, in evaluation mode, and leaves its mode as it was.

    What is measured stays on the device until the last batch: the host never waits before.

    Args:
        network: on the batches' device, with one logit a class; or its head alone.
        batches: the pictures, or the features that a head starts from.
        classes: names, in the order of the logits.
        precision: bf16 runs under autocast; the softmax is fp32 either way.
        threads: chooses how many compute; None leaves torch's number as it is.
    """
    rows: list[tuple[Tensor, ...]] = []
    was_training, kind = network.training, batches.device.type
    network.eval()
    try:
        for images, labels in batches.in_order():
            with (
                threads or nullcontext(),
                torch.autocast(kind, torch.bfloat16, precision == "bf16"),
            ):
                logits = network(images)
            rows.append(_measure(logits.float(), labels))
    finally:
        network.train(was_training)
    if not rows:  # the share of a process can be empty
        rows.append(_measure(torch.empty(0, len(classes)), torch.empty(0, dtype=torch.int64)))
    columns = (torch.cat(column).cpu().numpy() for column in zip(*rows, strict=True))
    return Evaluation(classes=classes, **dict(zip(_COLUMNS, columns, strict=True)))


def _measure(logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """The columns of an Evaluation, for the logits [n, classes] of one batch."""
    logs = logits.log_softmax(1)
    best = logits.topk(min(5, logits.shape[1])).indices
    guesses = best[:, :1]
    return (
        labels,
        guesses[:, 0],
        (best == labels[:, None]).any(1),
        -logs.gather(1, labels[:, None])[:, 0],
        logs.gather(1, guesses)[:, 0].exp(),
    )


def evaluate_on(
    network: Network, spec: str, *, batch: int = 64, precision: str = "fp32", device: str = "auto"
) -> Evaluation:
    """Runs a trained network over the held-out pictures of a data set.

    Args:
        network: with its classes and preprocessing; in evaluation mode.
        spec: the data set, as `read_data` takes it; its classes are matched by name.
        batch: pictures at a time.
        precision: auto, fp32 or bf16.
        device: auto, cpu or cuda.

    Raises:
        DataError: a class that the network does not know, or pictures that cannot be read.
        ValueError: a precision, device or batch that cannot be.
        RunError: a batch does not fit in memory.
    """
    if batch < 1:
        raise ValueError(f"batch={batch}: expected 1 or more.")
    where = find_device(device)
    data = read_data(spec)
    numbers = _numbers(network, data)
    store = PixelStore(data.val, network.preprocessing)
    batches = Loader(
        store=store,
        labels=numbers[data.val.labels],
        rule=network.preprocessing,
        batch=batch,
        device=where,
    )
    kind = find_precision(precision, where)
    network = network.to(where)
    if kind == "bf16" or where.type == "cpu":  # the faster layout of convolutions there
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with closing(ThreadTuner(where)) as threads, explain_evaluation(network, batches, kind):
        return evaluate(
            network, batches, network.classes or data.classes, precision=kind, threads=threads
        )


def _numbers(network: Network, data: Dataset) -> NDArray[np.int64]:
    """The logit of each of the data's classes, by name; by number where either has no names.

    Raises:
        DataError: a class that the network does not know.
    """
    known, count = network.classes, network.plan.num_classes
    bare = data.classes == tuple(map(str, range(len(data.classes))))
    if len(data.classes) == count and (bare or not known):
        return np.arange(count, dtype=np.int64)
    unknown = sorted(set(data.classes) - set(known))
    if unknown:
        raise DataError(
            f"{data.spec}: its class {unknown[0]!r} is unknown to the network "
            f"({len(unknown)} such classes). Expected classes among "
            f"{', '.join(known[:10]) or 'none'}{', ...' if len(known) > 10 else ''}. "
            "Pass the data that the network was trained on, or its like."
        )
    return np.array([known.index(name) for name in data.classes], dtype=np.int64)
