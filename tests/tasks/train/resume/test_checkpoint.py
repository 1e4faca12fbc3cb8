from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from forebear.errors import RunError
from forebear.tasks.train.resume.checkpoint import (
    KEPT,
    checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from forebear.tasks.train.state import TrainState


def state(value: float) -> dict[str, Any]:
    """A tree as an optimizer has it: numbers for keys, tensors and numbers at the ends."""
    return {
        "network": {"root.weight": torch.full((3, 2), value), "count": torch.tensor(7)},
        "optimizer": {0: {"momentum_buffer": torch.tensor([value, -0.0]), "step": 3.0}},
        "groups": {0: {"lr": 0.1, "nesterov": True}},
    }


def record(step: int) -> TrainState:
    return TrainState(
        step=step,
        epoch=2,
        place=1,
        losses=[0.1],
        hits=[3.0],
        counts=[4],
        lrs=[1 / 3],
    )


def test_a_state_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoints", state(1 / 3), record(5))
    found, place, damaged = load_checkpoint(tmp_path / "checkpoints")
    assert place == record(5)
    assert damaged == []
    assert found["groups"] == {0: {"lr": 0.1, "nesterov": True}}
    assert found["optimizer"][0]["step"] == 3.0
    for name, tensor in state(1 / 3)["network"].items():
        assert torch.equal(found["network"][name], tensor)
    momentum = found["optimizer"][0]["momentum_buffer"]
    assert momentum.numpy().tobytes() == np.array([1 / 3, -0.0], np.float32).tobytes()


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        save_checkpoint(tmp_path, state(step), record(step))
    assert [path.name for path in checkpoints(tmp_path)] == [
        "step-00000100.safetensors",
        "step-00000010.safetensors",
    ]


@pytest.mark.parametrize("damage", ["cut", "empty", "longer", "flipped", "garbage", "record"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    tmp_path: Path, damage: str
) -> None:
    save_checkpoint(tmp_path, state(1.0), record(1))
    newest = save_checkpoint(tmp_path, state(2.0), record(2))
    whole = newest.read_bytes()
    newest.write_bytes(
        {
            "cut": whole[:-5],
            "empty": b"",
            "longer": whole + b"x",
            "flipped": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
            "garbage": b"\xff" * len(whole),
            "record": whole.replace(b'\\"epoch\\": 2', b'\\"epoch\\": 3'),
        }[damage]
    )
    assert newest.read_bytes() != whole
    found, place, damaged = load_checkpoint(tmp_path)
    assert place.step == 1
    assert float(found["network"]["root.weight"][0, 0]) == 1.0
    assert len(damaged) == 1
    assert str(newest) in damaged[0]
    next(iter(checkpoints(tmp_path)[1:])).write_bytes(b"")
    with pytest.raises(RunError, match="no checkpoint that can be gone on from"):
        load_checkpoint(tmp_path)


def test_a_full_disk_leaves_the_checkpoints_before_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, state(1.0), record(1))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, state(2.0), record(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.safetensors"]
    assert load_checkpoint(tmp_path)[1].step == 1


def test_a_kill_between_saving_and_rotation_leaves_one_more_until_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kill(BaseException):
        pass

    def kill(*_: Any, **__: Any) -> None:
        raise Kill

    for step in (1, 2):
        save_checkpoint(tmp_path, state(step), record(step))
    for step in (3, 4):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", kill)
            with pytest.raises(Kill):
                save_checkpoint(tmp_path, state(step), record(step))
        assert load_checkpoint(tmp_path)[1].step in (step - 1, step)
        for partial in tmp_path.glob(".*"):  # as a run that goes on does
            partial.unlink()
    save_checkpoint(tmp_path, state(5), record(5))
    assert load_checkpoint(tmp_path)[1].step == 5
    assert len(checkpoints(tmp_path)) == KEPT


@pytest.mark.parametrize("saved", [1, 2, 5])
def test_there_are_never_fewer_whole_ones_than_two_or_all(tmp_path: Path, saved: int) -> None:
    for step in range(1, saved + 1):
        save_checkpoint(tmp_path, state(step), record(step))
    assert len(checkpoints(tmp_path)) == min(KEPT, saved)
    for path in checkpoints(tmp_path):
        alone = tmp_path / path.stem
        alone.mkdir()
        path.rename(alone / path.name)
        assert load_checkpoint(alone)[2] == []


def test_damaged_ones_of_a_later_step_do_not_push_out_whole_ones(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        newest = save_checkpoint(tmp_path, state(step), record(step))
    newest.write_bytes(b"")  # the run goes on after step 2, and is stopped before step 3
    assert load_checkpoint(tmp_path)[1].step == 2
    save_checkpoint(tmp_path, state(2), record(2))
    save_checkpoint(tmp_path, state(2.5), replace(record(2), step=2))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000002.safetensors"]


def test_a_full_disk_is_an_oserror_whoever_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, state(1.0), record(1))

    def half(_: Any, path: Path, __: Any) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")

    monkeypatch.setattr("forebear.tasks.train.resume.checkpoint.save_file", half)
    with pytest.raises(OSError, match=r"No space left on device: 0\.0 MiB needed, .* free") as told:
        save_checkpoint(tmp_path, state(2.0), record(2))
    assert told.value.errno == 28
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.safetensors"]
