"""What happens in a training run, in order: the events that `forebear.tasks.train.loop` yields.

One place, `forebear.tasks.train.recorder`, turns them into files and lines. Programs and tests can
watch them too:

    with forebear.observe(print):
        forebear.train(forebear.TrainConfig(data="digits"))

An observer is called before an event is recorded, in the thread that trains. An error that it
raises ends the run as an error of the run itself would. If it returns END, the training ends after
an evaluation, and the run is finished as usual; at TrainingEnd it leaves out the test set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum

from forebear.network.network import Network
from forebear.tasks.label_evaluation import AnyEvaluation
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.train.state import TrainState
from forebear.tasks.train.step import Stepper


class Answer(Enum):
    """What an observer can return; anything else is ignored."""

    END = "end"  # the training, or at TrainingEnd the run without its test set


END = Answer.END


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The first step is about to be taken, or the next one of a run that goes on."""

    network: Network
    step: int  # steps that a resumed run has taken already
    resumed: bool
    epochs: tuple[Epoch, ...]  # that a resumed run has completed


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStart:
    """A step begins."""

    step: int  # from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnd:
    """A step has ended; on a GPU it may still be under way."""

    step: int  # from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochProgress:
    """How an epoch goes, several times a second."""

    epoch: int  # from 1
    progress: float  # of the run, 0 to 1
    loss: float  # mean of this epoch so far, nats
    accuracy: float  # top-1 accuracy on this epoch's training images so far, 0 to 1
    rate: float  # images per second since the start of the epoch or of the process
    memory: float  # MiB, the peak so far


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationStart:
    """The validation set is about to be evaluated."""

    step: int  # steps taken


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEnd:
    """An epoch, or several, were trained and evaluated."""

    epoch: Epoch
    evaluation: AnyEvaluation
    best: Network | None  # a copy, if it is the best so far by --metric and weights are chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointDue:
    """The state is to be saved before the run goes on."""

    state: TrainState
    stepper: Stepper  # holds the tensors
    first: bool = False  # of a new run, before its first step


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Something that the user should know."""

    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingEnd:
    """The last evaluation is done. The test set, if there is one, is evaluated next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """All is measured. The network holds its last weights, or those that were tested."""

    evaluation: AnyEvaluation  # of the validation set, the last one
    test: AnyEvaluation | None
    stepper: Stepper
    seconds: float  # that the run took


Event = (
    Started
    | StepStart
    | StepEnd
    | EpochProgress
    | EvaluationStart
    | EpochEnd
    | CheckpointDue
    | Message
    | TrainingEnd
    | Finished
)
Observer = Callable[[Event], object]

_observers: ContextVar[tuple[Observer, ...]] = ContextVar("observers", default=())


@contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Calls a function with each event of the runs in the context.

    Args:
        observer: Takes an event. It can return END; anything else is ignored.
    """
    token = _observers.set((*_observers.get(), observer))
    try:
        yield
    finally:
        _observers.reset(token)


def notify(event: Event) -> bool:
    """Calls the observers of this context with an event; returns whether one answers END."""
    return END in [observer(event) for observer in _observers.get()]
