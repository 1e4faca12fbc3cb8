"""Results of a search that never was."""

from __future__ import annotations

from pathlib import Path

from forebear.tasks.tune.results import State, Trial, TuneResult


def trial(number: int, state: State, metric: float | None, **values: object) -> Trial:
    return Trial(
        number=number,
        values=values,
        state=state,
        metric=metric,
        epochs=2,
        ended=60.0 * (number + 1),
        seconds=60,
        folder=f"trial-{number:03d}",
    )


TRIALS = (
    trial(0, "complete", 0.5),
    trial(1, "pruned", 0.9, lr=0.1, mirror="<none>"),
    trial(2, "complete", 0.75, lr=0.01, mirror="random"),
    trial(3, "failed", None, lr=1.0, mirror="random"),
)


def result(folder: Path) -> TuneResult:
    return TuneResult(
        folder=folder,
        metric="top1",
        trials=TRIALS,
        winner=TRIALS[2],
        validation_images=40,
        multi_label=False,
        test=0.625,
        test_images=80,
    )
