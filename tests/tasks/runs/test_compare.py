from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import RunError
from forebear.tasks.runs.compare import compare, spreads
from tests.tasks.making import Made, write_run


def test_of_recipes_only_what_differs_is_told(tmp_path: Path) -> None:
    paths = [
        write_run(tmp_path / "a", Made(recipe={"lr": 0.1, "summary": "one"})),
        write_run(tmp_path / "b", Made(recipe={"lr": 0.2, "summary": "two"})),
        write_run(tmp_path / "c", Made(recipe={"lr": 0.1, "new": [1, 2]})),
    ]
    differs = [result.differs for result in compare(paths)]
    assert differs == [{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.1}]  # others know nothing of new
    assert compare(paths[:1])[0].differs == {}


def test_figures_are_the_last_the_best_and_the_median(tmp_path: Path) -> None:
    made = Made(accuracies=(0.5, 0.9, 0.8), seconds=30)
    (result,) = compare([write_run(tmp_path / "a", made)])
    assert (result.last, result.best) == (0.8, 0.9)
    assert result.images_per_second == 200
    assert result.minutes == 1.5
    (empty,) = compare([write_run(tmp_path / "b", Made(accuracies=()))])
    figures = (empty.last, empty.best, empty.images_per_second, empty.minutes)
    assert all(map(math.isnan, figures))


def test_the_best_accuracy_is_that_of_the_epoch_that_the_metric_chose(tmp_path: Path) -> None:
    by_loss = Made(accuracies=(0.5, 0.9, 0.8), more={"request": {"metric": "loss"}})
    old = Made(accuracies=(0.5, 0.9, 0.8), recipe={"seed": 1})
    top1 = Made(accuracies=(0.5, 0.9, 0.8), more={"request": {"metric": "top1"}})
    results = compare(
        [write_run(tmp_path / str(at), made) for at, made in enumerate((by_loss, old, top1))]
    )
    assert [result.best for result in results] == [0.8, 0.9, 0.9]  # the loss falls to the end
    assert [result.setting for result in results] == [0, 1, 1]  # top-1 was the metric of old runs


def test_runs_on_other_images_or_another_split_are_told_apart(tmp_path: Path) -> None:
    old: dict[str, Any] = {"fingerprint": None}
    datas: list[dict[str, Any]] = [
        {},
        {"fingerprint": "x"},
        {"spec": "elsewhere"},
        old,
        old | {"split": "other"},
        old,
    ]
    paths = [
        write_run(tmp_path / str(number), Made(data=data)) for number, data in enumerate(datas)
    ]
    # the place of the same images does not matter, their fingerprint does
    assert [result.data for result in compare(paths)] == [0, 1, 0, 2, 3, 2]


def test_seeds_of_one_setting_have_a_mean_and_a_deviation(tmp_path: Path) -> None:
    accuracies = [(0.9, 0.80), (0.8, 0.84), (0.85, 0.82)]
    paths = [
        write_run(tmp_path / f"seed{seed}", Made(accuracies=pair, recipe={"seed": seed}))
        for seed, pair in enumerate(accuracies)
    ]
    paths.append(write_run(tmp_path / "other", Made(accuracies=(0.5, 0.5), recipe={"lr": 1.0})))
    results = compare(paths)
    assert [result.setting for result in results] == [0, 0, 0, 1]
    (group,) = spreads(results)
    assert [one.seed for one in group.runs] == [0, 1, 2]
    assert group.last == pytest.approx((0.82, 0.02))
    assert group.best == pytest.approx(((0.9 + 0.84 + 0.85) / 3, 0.0321), abs=1e-4)


def test_a_run_from_before_tables_had_a_source_is_of_the_same_setting(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / str(seed), Made(recipe={"seed": seed}, accuracies=(0.9, 0.8)))
        for seed in range(2)
    ]
    settings = json.loads((runs[0] / "settings.json").read_text())
    assert settings["table"].pop("source")
    (runs[0] / "settings.json").write_text(json.dumps(settings))
    assert [result.setting for result in compare(runs)] == [0, 0]
    settings["table"]["classes"] = 11
    (runs[0] / "settings.json").write_text(json.dumps(settings))
    assert [result.setting for result in compare(runs)] == [0, 1]


def test_neither_one_seed_twice_nor_unfinished_runs_make_a_spread(tmp_path: Path) -> None:
    twice = [write_run(tmp_path / name) for name in ("a", "b")]
    assert spreads(compare(twice)) == []
    broken = write_run(tmp_path / "c", Made(recipe={"seed": 1}, finished=False))
    assert spreads(compare([*twice, broken])) == []


def test_on_a_budget_the_epochs_that_came_out_do_not_tell_settings_apart(tmp_path: Path) -> None:
    budget = {"request": {"budget": 60.0}}
    paths = [
        write_run(
            tmp_path / str(seed), Made(recipe={"seed": seed, "epochs": 7 + seed}, more=budget)
        )
        for seed in range(2)
    ]
    paths.append(write_run(tmp_path / "longer", Made(more={"request": {"budget": 120.0}})))
    assert [result.setting for result in compare(paths)] == [0, 0, 1]


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nothing: no run: settings.json is missing"):
        compare([write_run(tmp_path / "a"), tmp_path / "nothing"])
