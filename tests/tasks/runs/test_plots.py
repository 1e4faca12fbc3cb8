from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from forebear.tasks.evaluate import Evaluation
from forebear.tasks.runs.plots import Line, draw_comparison, draw_confusion, draw_curves

pytest.importorskip("matplotlib")


@dataclass(frozen=True)
class Point:
    """What the curves look at of an epoch."""

    epoch: float
    losses: tuple[float, ...] = (1.0, 0.5)
    lrs: tuple[float, ...] = (0.1, 0.05)
    val_loss: float = 0.7
    accuracy: float = 0.5
    val_accuracy: float = 0.6
    skipped: int = 0
    val_map: float | None = None


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were drawn, to look into."""
    from matplotlib import figure

    kept: list[Any] = []

    class Kept(figure.Figure):
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            kept.append(self)

    monkeypatch.setattr(figure, "Figure", Kept)
    return kept


def of(classes: tuple[str, ...]) -> Evaluation:
    numbers = np.arange(len(classes))
    return Evaluation(
        classes=classes,
        labels=numbers,
        guesses=np.roll(numbers, 1) if len(classes) > 2 else numbers,
        in_top5=np.ones(len(classes), bool),
        losses=np.zeros(len(classes), np.float32),
        confidences=np.ones(len(classes), np.float32),
    )


def run(name: str, colour: int = 0, dash: int = 0, count: int = 3) -> Line:
    epochs = [float(number) for number in range(1, count + 1)]
    return Line(
        name=name,
        colour=colour,
        dash=dash,
        mark=0,
        epochs=epochs,
        minutes=[0.5 * epoch for epoch in epochs],
        accuracies=[0.5 + 0.1 * epoch for epoch in epochs],
    )


def test_a_run_that_ends_within_an_epoch_has_its_last_points_there(
    tmp_path: Path, figures: list[Any]
) -> None:
    draw_curves([Point(1), Point(2), Point(2.4)], tmp_path / "c.png", "a run")  # type: ignore[list-item]
    loss, accuracy, rate = figures[0].axes
    training, held = loss.get_lines()
    assert training.get_xdata() == pytest.approx([0.5, 1, 1.5, 2, 2.2, 2.4])
    assert held.get_xdata() == pytest.approx([1, 2, 2.4])
    assert rate.get_lines()[0].get_xdata() == pytest.approx([0.5, 1, 1.5, 2, 2.2, 2.4])
    assert accuracy.get_title() == "accuracy (%), validation at the end 60.00"
    with Image.open(tmp_path / "c.png") as image:
        assert image.size == (1350, 510)


def test_the_first_evaluation_can_come_within_an_epoch_or_after_several(
    tmp_path: Path, figures: list[Any]
) -> None:
    draw_curves([Point(0.25)], tmp_path / "c.png", "short")  # type: ignore[list-item]
    draw_curves([Point(4), Point(6)], tmp_path / "c.png", "long")  # type: ignore[list-item]
    first = [figure.axes[0].get_lines()[0].get_xdata() for figure in figures]
    assert first[0] == pytest.approx([0.125, 0.25])
    assert first[1] == pytest.approx([2, 4, 5, 6])


def test_skipped_steps_are_marked_where_they_came(tmp_path: Path, figures: list[Any]) -> None:
    none = [Point(1), Point(2)]
    some = [Point(1), Point(2, skipped=3), Point(3, skipped=3), Point(4, skipped=4)]
    draw_curves(none, tmp_path / "none.png", "none")  # type: ignore[arg-type]
    draw_curves(some, tmp_path / "some.png", "some")  # type: ignore[arg-type]
    assert len(figures[0].axes[0].get_lines()) == 2
    crosses = figures[1].axes[0].get_lines()[2]
    assert crosses.get_label() == "4 steps skipped"
    assert crosses.get_xdata() == pytest.approx([1.5, 3.5])


def test_losses_that_are_no_numbers_leave_gaps(tmp_path: Path, figures: list[Any]) -> None:
    wild = [Point(1, losses=(float("inf"), 2.0), val_loss=float("nan")), Point(2)]
    draw_curves(wild, tmp_path / "c.png", "wild")  # type: ignore[arg-type]
    training = figures[0].axes[0].get_lines()[0].get_ydata()
    assert np.isnan(training).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    "classes", [("a", "b"), ("$x^", "_y\n", "猫" * 40), tuple(map(str, range(100)))]
)
def test_a_confusion_matrix_is_drawn_whatever_the_names(
    tmp_path: Path, classes: tuple[str, ...]
) -> None:
    draw_confusion(of(classes), tmp_path / "c.png", "$unbalanced^{ " * 20)
    with Image.open(tmp_path / "c.png") as image:
        assert min(image.size) > 300


def test_synsets_are_shown_by_their_words(tmp_path: Path, figures: list[Any]) -> None:
    draw_confusion(of(("n01440764", "n02102040", "owl")), tmp_path / "c.png", "run")
    labels = [text.get_text() for text in figures[0].axes[0].get_yticklabels()]
    assert labels == ["tench", "English springer", "owl"]


def test_a_comparison_has_one_line_a_run_over_minutes_and_over_epochs(
    tmp_path: Path, figures: list[Any]
) -> None:
    lines = [run("runs/a"), run("_b$", colour=1, dash=1, count=4), run("empty", count=0)]
    draw_comparison(lines, tmp_path / "c.png", "three runs")
    by_minutes, by_epochs = figures[0].axes
    assert [len(line.get_xdata()) for line in by_minutes.get_lines()] == [3, 4, 0]
    assert by_minutes.get_lines()[1].get_xdata() == pytest.approx([0.5, 1, 1.5, 2])
    assert by_epochs.get_lines()[1].get_xdata() == pytest.approx([1, 2, 3, 4])
    assert by_epochs.get_lines()[1].get_ydata() == pytest.approx([60, 70, 80, 90])
    names = [text.get_text().strip() for text in figures[0].legends[0].get_texts()]
    assert names == ["runs/a  80.00%", "_b$  90.00%", "empty"]
