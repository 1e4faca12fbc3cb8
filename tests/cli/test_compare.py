from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from forebear.cli.main import main
from tests.tasks.making import Made, write_run


def runs(tmp_path: Path, *made: Made) -> list[str]:
    return [str(write_run(tmp_path / f"run{number}", one)) for number, one in enumerate(made)]


def test_runs_are_a_table_with_a_row_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("a"))
    write_run(Path("b"), Made(recipe={"lr": 0.02, "epochs": 15}, finished=False))
    assert main(["compare", "a", "b"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == [
        *("run", "network", "parameters", "data", "recipe", "epochs", "images/s", "minutes"),
        *("best", "last", "test"),
    ]
    assert " ".join(first.split()) == (
        "a paper/resnet20 269 k digits lr 0.1 3 200 3.0 75.00% 70.00% -"
    )
    assert " ".join(second.split()) == (
        "b paper/resnet20 269 k digits lr 0.02 3 of 15 200 3.0 75.00% 70.00% -"
    )


def test_seeds_have_a_mean_and_other_images_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = [Made(recipe={"seed": seed}, accuracies=(0.5 + seed / 10,)) for seed in range(2)]
    given = runs(tmp_path, *seeds, Made(data={"fingerprint": "other"}))
    assert main(["compare", *given]) == 0
    out = capsys.readouterr().out
    assert out.count("digits [1]") == 2
    assert out.count("digits [2]") == 1
    assert "different images or splits. Compare accuracies only between equal numbers." in out
    assert "2 seeds with equal settings: " in out
    assert "last  55.00% ± 7.07" in out


def test_json_has_the_same_figures_unrounded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = runs(tmp_path, Made(), Made(recipe={"seed": 1}), Made(accuracies=(), finished=False))
    assert main(["compare", *given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["comparable"] is True
    assert told["runs"][0]["best"] == 0.75
    assert told["runs"][0]["recipe"] == {"seed": 0}
    assert told["runs"][2]["last"] is None
    assert told["runs"][2]["finished"] is False
    assert told["seeds"] == [
        {
            "runs": given[:2],
            "last": {"mean": 0.7, "deviation": 0},
            "best": {"mean": 0.75, "deviation": 0},
        }
    ]


def test_a_test_that_was_touched_once_has_its_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *runs(tmp_path, Made(test=(0.625, 400)))]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("75.00%  70.00%  62.50%")


def test_a_plot_is_drawn_of_runs_of_any_age(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    given = runs(tmp_path, Made(), Made(recipe={"seed": 1}), Made(accuracies=()))
    out = tmp_path / "compare.png"
    assert main(["compare", *given, "--out", str(out)]) == 0
    with Image.open(out) as image:
        assert image.width == 1500


@pytest.mark.parametrize(
    ("out", "told"),
    [("x.jpg", "the suffix is .jpg. Expected .png"), ("nowhere/x.png", "there is no folder")],
)
def test_a_place_that_cannot_be_drawn_to_is_refused_before_all_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, told: str
) -> None:
    assert main(["compare", "missing", "--out", str(tmp_path / out)]) == 2
    assert told in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_one_line_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "no run: settings.json is missing" in err
