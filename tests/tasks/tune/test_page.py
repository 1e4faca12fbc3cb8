"""The page of a search: what it shows, and where the points of its plots are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forebear.tasks.tune.page import Axis, page, write_page
from tests.tasks.tune.making import result


def test_the_page_has_the_winner_the_caveat_and_every_trial(tmp_path: Path) -> None:
    html = page(result(tmp_path), "folder:pictures")
    assert "<b>75.00%</b><span>top-1 accuracy of the winner, validation</span>" in html
    assert "<b>62.50%</b><span>of the winner, 80 test images</span>" in html
    assert "so this number is optimistic" in html
    assert len(re.findall(r'<a href="trial-00\d/index.html">trial', html)) == 5
    assert html.count("<svg") == 3  # the time, lr and mirror


def test_the_line_is_the_best_so_far(tmp_path: Path) -> None:
    line = re.findall(r'<polyline points="([^"]*)"', page(result(tmp_path), "digits"))[0]
    heights = [float(point.split(",")[1]) for point in line.split()]
    assert heights == [161.5, 161.5, 20.5, 20.5, 20.5]  # not on the frame, 12 to 170


def test_names_are_escaped_and_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    write_page(tmp_path / "index.html", result(tmp_path), "folder:<b>")
    html = (tmp_path / "index.html").read_text()
    assert "&lt;none&gt;" in html
    assert "<none>" not in html
    assert "folder:<b>" not in html
    assert not re.findall(r"https?:|<script|<img|<link", html)


def test_values_of_different_size_get_a_logarithmic_scale() -> None:
    axis = Axis.of([0.01, 1.0])
    assert axis.log
    assert axis.share(0.1) == pytest.approx(0.5)
    assert axis.ticks == [0.01, 0.1, 1.0]
    assert not Axis.of([0.1, 0.2]).log
    assert not Axis.of([0.0, 1.0]).log


def test_words_and_equal_numbers_have_places() -> None:
    assert [Axis.of(["a", "b"]).share(one) for one in ("a", "b")] == [0.25, 0.75]
    assert Axis.of([True, False]).ticks == ["false", "true"]
    assert Axis.of([3, 3]).share(3) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.949, 2.5], [1.0, 1.5, 2.0, 2.5]),
        ([0.8676, 0.9861], [0.88, 0.9, 0.92, 0.94, 0.96, 0.98]),
        ([0.0378, 0.0614], [0.04, 0.05, 0.06]),
        ([1.0, 1.000001], None),
        ([-3.0, 40.0], [0.0, 20.0, 40.0]),
        ([0.002, 0.017], [0.002, 0.005, 0.01]),
        ([1e-6, 1e3], [1e-6, 1e-4, 1e-2, 1.0, 100.0]),
    ],
)
def test_ticks_are_round_and_no_point_is_on_the_frame(
    values: list[float], ticks: list[float] | None
) -> None:
    axis = Axis.of(values)
    assert axis.share(values[0]) == pytest.approx(1 - axis.share(values[1]))
    assert 0.04 < axis.share(values[0]) < 0.06
    assert 3 <= len(axis.ticks) <= 6
    if ticks is not None:
        assert axis.ticks == pytest.approx(ticks)
