"""Which model a verb takes: a run's, a checkpoint's, or published weights."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pytest

import forebear
from forebear.cli import load_model as module
from forebear.cli.load_model import add_arguments, load_model
from forebear.tasks.convert import convert
from forebear.weights import load as weights
from tests.tasks.making import TINY, write_run
from tests.weights import forms
from tests.weights.readers.object_making import unpacked


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    forebear.save(TINY, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def test_a_run_folder_and_its_file_give_its_network(tmp_path: Path, saved: Path) -> None:
    run = write_run(tmp_path / "run")
    shutil.copy(saved, run / "model.safetensors")
    for path in (run, saved):
        network = load_model(path, parsed())
        assert network.plan == TINY.plan
        assert not network.training


def test_weights_are_recognised_or_loaded_by_the_name_of_their_network(
    tmp_path: Path, saved: Path
) -> None:
    convert(saved, tmp_path / "tiny.pth")
    words = ("--weights", str(tmp_path / "tiny.pth"))
    assert load_model(None, parsed(*words)).plan == TINY.plan
    assert load_model(None, parsed(*words, "--network", "paper/resnet20")).plan == TINY.plan
    with pytest.raises(forebear.WeightsError, match="missing"):
        load_model(None, parsed(*words, "--network", "paper/resnet32"))


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (None, ()),
        (Path("run"), ("--weights", "a.pth")),
        (Path("run"), ("--network", "paper/resnet20")),
        (None, ("--network", "paper/resnet20")),
    ],
)
def test_exactly_one_of_run_and_weights_is_expected(
    run: Path | None, words: tuple[str, ...]
) -> None:
    with pytest.raises(
        ValueError,
        match=r"^RUN and --weights: expected exactly one of them, and --network only with "
        r"--weights\. Pass a run folder, or --weights FILE\.$",
    ):
        load_model(run, parsed(*words))


def test_a_download_of_published_weights_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def load(network: str, *, weights: str, which: object, progress: object) -> forebear.Network:
        assert callable(progress)
        assert which is None
        asked.append((network, weights))
        progress(50, 100)
        progress(100, 100)
        return TINY

    monkeypatch.setattr(weights, "load", load)
    words = ("--network", "paper/resnet20", "--weights", "published")
    assert module.load_model(None, parsed(*words)) is TINY
    assert asked == [("paper/resnet20", "published")]
    assert capsys.readouterr().out == ""  # the bar is on stderr


def test_what_was_left_in_a_file_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = forms.saved(tmp_path, {"state_dict": forms.state(), "state_dict_ema": forms.shifted()})
    words = ("--weights", str(path))
    assert not forms.is_ours(load_model(None, parsed(*words)))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{path}: took 116 arrays of state_dict_ema; the file also has other weights: " in said
    assert "--which state_dict" in said
    assert not forms.is_ours(load_model(path, parsed()))
    for which in ("raw", "state_dict"):
        assert forms.is_ours(load_model(None, parsed(*words, "--which", which)))
        assert forms.is_ours(load_model(path, parsed("--which", which)))
    with pytest.raises(forebear.WeightsError, match=r"Expected one of raw, state_dict_ema\."):
        load_model(None, parsed(*words, "--which", "best"))


def test_a_run_and_a_file_of_ours_say_nothing_and_have_no_choice(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run")
    shutil.copy(saved, run / "model.safetensors")
    assert load_model(None, parsed("--weights", str(run))).plan == TINY.plan
    assert capsys.readouterr().err == ""
    for path in (run, saved):
        with pytest.raises(forebear.WeightsError, match="has one set of weights"):
            load_model(None, parsed("--weights", str(path), "--which", "ema"))


def test_a_prefix_and_a_saved_model_stand_where_a_run_does(tmp_path: Path) -> None:
    unpacked("keras3", tmp_path)
    for name in ("objects", "saved"):
        assert load_model(tmp_path / name, parsed()).dialect.name == "keras-v1"
        assert load_model(None, parsed("--weights", str(tmp_path / name))).plan.num_classes == 7


def test_a_folder_of_the_hub_stands_where_a_run_does() -> None:
    folder = Path(__file__).parents[1] / "weights" / "goldens" / "transformers_resnet"
    assert load_model(folder, parsed()).classes[0] == "red fox"
    assert load_model(None, parsed("--weights", str(folder))).classes[0] == "red fox"
