"""What the caller of a training run asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from forebear.data.pixel_store import Bad


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What the caller asked for; None leaves the choice to the recipe, the data or the machine.

    Raises:
        ValueError: a budget beside what it stands in the way of.
    """

    data: str  # as read_data takes it
    network: str | None = None
    out: Path | None = None
    dialect: str | None = None
    recipe: str | None = None  # a name or a file; None: one that suits the data
    sets: tuple[str, ...] = ()  # "field=value", in place of the recipe's
    budget: float | None = None  # seconds, in place of epochs
    replace: bool = False
    device: str = "auto"
    precision: str | None = None
    seed: int | None = None
    epochs: int | None = None
    batch: int | None = None
    lr: float | None = None
    size: int | None = None
    mirror: bool | None = None
    weights: Path | None = None  # a checkpoint of the network to begin with
    partial: bool = False  # leave random what the checkpoint has none of, as other classes' head
    hold_out: float | None = None  # share of the training pictures to choose the weights by
    bad: Bad = "fail"  # pictures that cannot be decoded: fail, or skip and count
    workers: int | None = None  # threads that decode; 0: between the steps; None: all processors
    threads: int | None = None  # that compute; None: as many as prove fastest meanwhile
    deterministic: bool = False  # the same bits again: threads and a GPU's algorithms are fixed
    every: int = 0  # steps between two savings within an epoch; 0: five minutes
    keep_memory: bool = False  # never give freed memory back: faster, for processes of one's own
    tensorboard: bool = False
    compile: str = "auto"  # auto, off, on or graphs: whether torch.compile is used
    started: float | None = None  # time.perf_counter() that the budget counts from; None: the call

    def __post_init__(self) -> None:
        """Refuses what would have to be ignored."""
        if self.budget is None:
            return
        if self.epochs is not None:
            raise ValueError(
                f"budget={self.budget:g} seconds and epochs={self.epochs}: either ends a run. "
                "Expected one of them. Leave one out."
            )
        if self.deterministic:
            raise ValueError(
                f"budget={self.budget:g} seconds and deterministic: a run that the clock ends "
                "takes other steps each time. Expected one of them. Pass epochs, or do without "
                "the same bits."
            )
