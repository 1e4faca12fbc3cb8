"""The part of what the caller of a training run asks for that says how the machine is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from forebear.settings import override, setting, settings
from forebear.tasks.runs.tracking.names import TRACKERS, parse_trackers
from forebear.tasks.train.recipe import Recipe

Compile = Literal["auto", "off", "on", "graphs"]

MOST_THREADS = 1024  # torch's OpenMP crashes if it is asked for many more

_RECIPE = settings(Recipe)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineConfig:
    """How a run uses the machine, how often it saves, and what follows its metrics."""

    precision: str | None = override(_RECIPE["precision"], default_text="the recipe's")
    device: str = setting("auto", help="auto, cpu, cuda or cuda:N", flag="--device DEVICE")
    threads: int | None = setting(
        None,
        help="compute threads",
        least=1,
        most=MOST_THREADS,
        default_text="chosen by timing, and re-checked during training",
    )
    deterministic: bool = setting(
        False,
        help="bit-identical results on the same machine, also after resuming: fixes the number of "
        "threads, and uses slower algorithms on a GPU",
    )
    compile: Compile = setting(
        "auto",
        help="torch.compile, or torch.compile with CUDA graphs",
        default_text="the fastest by measurement, on a GPU, for runs of ten minutes or more",
    )
    workers: int | None = setting(
        None,
        help="decoding threads; 0: decode between the steps",
        least=0,
        most=MOST_THREADS,
        default_text="one per CPU core",
    )
    every: int = setting(
        0,
        help="save a checkpoint after this many steps, and after each epoch",
        unit="steps",
        least=0,
        default_text="every five minutes",
        flag="--save-every STEPS",
    )
    keep_memory: bool = setting(
        False, help="do not return freed memory to the system, which is faster"
    )
    track: str | None = setting(
        None,
        help=f"also send the metrics to experiment trackers: {', '.join(TRACKERS)}; several with "
        "commas",
        flag="--track NAMES",
    )
    tensorboard: bool = setting(False, help="the same as --track tensorboard")
    started: float | None = setting(
        None,
        help="time.perf_counter() from which a budget counts",
        unit="seconds",
        default_text="the time of the call",
    )

    @property
    def trackers(self) -> tuple[str, ...]:
        """The names of the trackers, each once."""
        asked = parse_trackers(self.track)
        return tuple(dict.fromkeys((*(("tensorboard",) if self.tensorboard else ()), *asked)))
