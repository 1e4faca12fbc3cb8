"""The batches of an evaluation, and the logits that a network gives for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from forebear.data.choices import Bad
from forebear.data.dataset import Images
from forebear.data.loader import Batch, Loader
from forebear.data.pixel_store import PixelStore
from forebear.data.sources.read_options import ReadOptions
from forebear.engines.graph_network import GraphNetwork
from forebear.errors import DataError
from forebear.network.mirror import MirrorNetwork
from forebear.network.network import Network
from forebear.tasks.evaluation_set import (
    choose_images,
    match_classes,
    matched,
    other_split,
    read_own,
)
from forebear.tasks.machine.device import Precision, find_device, find_precision
from forebear.tasks.machine.thread_tuning import ThreadTuner
from forebear.text import printable


class InOrder(Protocol):
    """Batches in the order of a data set, with each image once."""

    @property
    def device(self) -> torch.device:
        """Device of the batches."""

    def in_order(self) -> Iterator[Batch]:
        """Yields network inputs and labels."""


@torch.inference_mode()
def logits_of(
    network: nn.Module,
    batches: InOrder,
    *,
    precision: Precision,
    threads: ThreadTuner | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields logits [n, classes], fp32, and labels of every batch, on the device.

    The network is in evaluation mode meanwhile, and its mode is restored afterwards.

    Args:
        network: On the device of the batches.
        batches: Images, or the features that the logits layer takes.
        precision: With bf16, the network runs under autocast.
        threads: Chooses the number of compute threads; None leaves torch's number as it is.
    """
    was_training, kind = network.training, batches.device.type
    network.eval()
    try:
        for images, labels in batches.in_order():
            with (
                threads or nullcontext(),
                torch.autocast(kind, torch.bfloat16, precision == "bf16"),
            ):
                logits = network(images)
            yield logits.float(), labels
    finally:
        network.train(was_training)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The images that a network is evaluated on, and how it answers them."""

    images: Images
    batches: Loader
    model: Network  # on the device, in the faster memory layout
    answers: nn.Module  # the model, or its mean over each image and its mirror image
    precision: Precision
    classes: tuple[str, ...]  # in the order of the logits
    fingerprint: str  # of the data set
    validates: bool  # whether the images are its validation images

    def chose(self, fingerprint: str) -> bool:
        """Whether what was chosen on the validation images of this data set was on these images."""
        return self.validates and fingerprint == self.fingerprint


def choose_batches(
    network: Network | GraphNetwork,
    spec: str,
    *,
    reading: ReadOptions,
    part: str | None,
    batch: int,
    precision: str,
    device: str,
    bad: Bad,
    mirrored: bool,
    say: Callable[[str], None],
) -> Chosen:
    """Returns the batches of a data set; the arguments are those of `evaluate_on`.

    Raises:
        DataError: The network lacks one of the classes or does not have the task of the data set,
            or parts that came with the data have a group in common.
        ValueError: The part, precision, device or batch is not possible.
    """
    if batch < 1:
        raise ValueError(f"batch={batch}: expected 1 or more.")
    where = torch.device("cpu") if isinstance(network, GraphNetwork) else find_device(device)
    if network.multi_label and reading.multi_label is None and spec.startswith("csv:"):
        reading = replace(reading, multi_label=True)
    data = read_own(spec, reading, network.card.metrics)
    _refuse_other_task(network, spec, multi=data.multi_label)
    chosen = choose_images(data, part, network.card.metrics)
    match = match_classes(network.classes, network.plan.num_classes or 0, data)
    other = other_split(data, network.card.metrics)
    for line in (f"{chosen.said}; {match.said}", *filter(None, (other,)), *data.notes):
        say(line)
    store = PixelStore(chosen.images, network.preprocessing, bad=bad)
    batches = Loader(
        store=store,
        labels=matched(chosen.images.labels, match, network.plan.num_classes or 0),
        rule=network.preprocessing,
        batch=batch,
        device=where,
    )
    kind = find_precision(precision, where)
    model = cast("Network", network).to(where)  # a graph has all that is used below
    if kind == "bf16" or where.type == "cpu":  # the faster memory layout for convolutions
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Chosen(
        images=chosen.images,
        batches=batches,
        model=model,
        answers=MirrorNetwork(model) if mirrored else model,
        precision=kind,
        classes=network.classes or data.classes,
        fingerprint=data.fingerprint,
        validates=chosen.images is data.val,
    )


def _refuse_other_task(network: Network | GraphNetwork, spec: str, *, multi: bool) -> None:
    if network.multi_label == multi:
        return
    if multi:
        found = "the images have several labels, the network has one class an image"
        remedy = "Pass a multi-label network, or --label-column with a column of one class an image"
    else:
        found = "the images have one class each, the network is multi-label"
        remedy = "Pass a CSV with --multi-label or --label-columns, or another network"
    raise DataError(
        f"{printable(spec)}: {found}. Expected data and network of the same kind. {remedy}."
    )
