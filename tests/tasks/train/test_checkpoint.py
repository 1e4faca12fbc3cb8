from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forebear.errors import RunError
from forebear.tasks.train.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from forebear.tasks.train.loop import State


def state(value: float) -> dict[str, Any]:
    """A tree as an optimizer has it: numbers for keys, tensors and numbers at the ends."""
    return {
        "network": {"root.weight": torch.full((3, 2), value), "count": torch.tensor(7)},
        "optimizer": {0: {"momentum_buffer": torch.tensor([value, -0.0]), "step": 3.0}},
        "groups": {0: {"lr": 0.1, "nesterov": True}},
    }


def record(step: int) -> State:
    return State(step=step, epoch=2, place=1, losses=[0.1, 1 / 3], counts=[4, 4], lrs=[0.5, 0.25])


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
