"""How good a network is on pictures with known classes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from forebear.data.batches import Batches
from forebear.data.pictures import Data
from forebear.data.sources import read_data
from forebear.data.store import Store
from forebear.errors import DataError
from forebear.network.network import Network
from forebear.tasks.device import Precision, find_device, find_precision
from forebear.tasks.threads import Threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured; every picture counted once."""

    classes: tuple[str, ...]
    confusion: NDArray[np.int64]  # [true class, named class], pictures
    in_top5: NDArray[np.int64]  # [true class], pictures whose class is among the best five
    loss: float  # mean cross-entropy, nats

    @property
    def images(self) -> int:
        """Pictures seen."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Share of pictures named rightly."""
        return float(np.trace(self.confusion) / self.images)

    @property
    def top5(self) -> float:
        """Share of pictures whose class is among the best five."""
        return float(self.in_top5.sum() / self.images)

    def per_class(self) -> list[tuple[str, int, float, float]]:
        """Name, pictures, recall and precision (shares; 0 where nothing was named so)."""
        named = self.confusion.sum(0)
        rows = []
        for number, name in enumerate(self.classes):
            hits, count = self.confusion[number, number], int(self.confusion[number].sum())
            rows.append((name, count, hits / max(count, 1), hits / max(int(named[number]), 1)))
        return rows


@torch.inference_mode()
def evaluate(
    network: Network,
    batches: Batches,
    classes: tuple[str, ...],
    *,
    precision: Precision,
    threads: Threads | None = None,
) -> Evaluation:
    """Runs a network over every picture, in evaluation mode, and leaves its mode as it was.

    Args:
        network: on the batches' device, with one logit a class.
        batches: the pictures.
        classes: names, in the order of the logits.
        precision: bf16 runs under autocast; the softmax is fp32 either way.
        threads: chooses how many compute; None leaves torch's number as it is.
    """
    count = len(classes)
    confusion = torch.zeros(count * count, dtype=torch.int64, device=batches.device)
    in_top5 = torch.zeros(count, dtype=torch.int64, device=batches.device)
    loss = torch.zeros((), dtype=torch.float64, device=batches.device)
    was_training, done = network.training, 0
    network.eval()
    try:
        for images, labels in batches.in_order():
            kind = batches.device.type
            with (
                threads or nullcontext(),
                torch.autocast(kind, torch.bfloat16, precision == "bf16"),
            ):
                logits = network(images)
            logits = logits.float()
            loss += F.cross_entropy(logits, labels, reduction="sum")
            best = logits.topk(min(5, count)).indices
            confusion += torch.bincount(labels * count + best[:, 0], minlength=count * count)
            hits = labels[(best == labels[:, None]).any(1)]
            in_top5 += torch.bincount(hits, minlength=count)
            done += len(labels)
    finally:
        network.train(was_training)
    return Evaluation(
        classes=classes,
        confusion=confusion.view(count, count).cpu().numpy(),
        in_top5=in_top5.cpu().numpy(),
        loss=float(loss) / max(done, 1),
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
    """
    if batch < 1:
        raise ValueError(f"batch={batch}: expected 1 or more.")
    where = find_device(device)
    data = read_data(spec)
    numbers = _numbers(network, data)
    store = Store(data.val, network.preprocessing)
    batches = Batches(
        store=store,
        labels=numbers[data.val.labels],
        rule=network.preprocessing,
        batch=batch,
        device=where,
    )
    threads = Threads(where)
    try:
        return evaluate(
            network.to(where),
            batches,
            network.classes or data.classes,
            precision=find_precision(precision, where),
            threads=threads,
        )
    finally:
        threads.close()


def _numbers(network: Network, data: Data) -> NDArray[np.int64]:
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
