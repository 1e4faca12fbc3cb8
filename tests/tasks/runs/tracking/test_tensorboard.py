from __future__ import annotations

import sys
from pathlib import Path

import pytest

from forebear.cli.main import main
from forebear.errors import ForebearError
from forebear.tasks.runs.layout import TENSORBOARD
from forebear.tasks.runs.tracking.tensorboard import TensorBoard
from tests.cli.making import folder
from tests.tasks.runs.tracking.making import FINAL, FLAT, values


def read(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], str]:
    """Every point that TensorBoard itself finds, by its tag, and the text."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / TENSORBOARD))
    events.Reload()
    tags = events.Tags()
    points = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]}
    if not tags["tensors"]:
        return points, ""
    ((text,),) = ([one.tensor_proto.string_val[0]] for one in events.Tensors(tags["tensors"][0]))
    return points, text.decode()


def test_tensorboard_finds_every_number_over_the_steps_and_the_settings(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    board = TensorBoard(tmp_path)
    assert board.start(FLAT, "") == "events"
    for step in (10, 20):
        board.epoch(step, values(step))
    found, text = read(tmp_path)  # flushed while the run goes on
    assert [step for step, _ in found["loss/training"]] == [10, 20]
    assert [value for _, value in found["loss/training"]] == pytest.approx([0.1, 0.05])
    assert "| recipe.lr | 0.1 |" in text
    assert "| data.spec | folder:my\\|images |" in text
    board.finish(20, FINAL, [])
    assert read(tmp_path)[0]["final/validation accuracy"] == [(20, 0.75)]


def test_a_resumed_run_takes_the_place_of_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    first = TensorBoard(tmp_path)
    first.start(FLAT, "")
    for step in (10, 20, 30):
        first.epoch(step, {"accuracy": 0.5})
    first.close()
    second = TensorBoard(tmp_path)
    assert second.start(FLAT, "events") == "events"
    second.epoch(20, {"accuracy": 0.75})
    second.close()
    found, text = read(tmp_path)  # with the settings once
    assert found["accuracy"] == [(10, 0.5), (20, 0.75)]
    assert text


def test_without_tensorboard_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ForebearError, match=r"pip install 'forebear\[tensorboard\]'"):
        TensorBoard(tmp_path)


@pytest.mark.parametrize(
    ("flags", "module"),
    [
        ("--tensorboard", "torch.utils.tensorboard"),
        ("--track tensorboard", "torch.utils.tensorboard"),
        ("--track tensorboard,mlflow", "mlflow"),
        ("--track wandb", "wandb"),
        ("--track trackio", "trackio"),
    ],
)
def test_a_run_without_the_library_is_refused_before_its_images_are_decoded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: str,
    module: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    if "," in flags:
        pytest.importorskip("tensorboard")
    data, run = folder(tmp_path / "data"), tmp_path / "run"
    words = f"train --data folder:{data} --size 16 --epochs 1 --out {run} {flags}"
    assert main(words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()  # not even the line that announces the run
    assert line.startswith(f"forebear: {module.rpartition('.')[2]} cannot be imported")
    assert not run.exists()


def test_a_run_without_an_epoch_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    board = TensorBoard(tmp_path)
    board.start(FLAT, "")
    board.close()
    assert not list(tmp_path.iterdir())
