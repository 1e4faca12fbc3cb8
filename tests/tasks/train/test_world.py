from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from forebear.cli.main import main
from forebear.data.dataset import ArrayImages
from forebear.data.loader import Loader, Order
from forebear.data.pixel_store import PixelStore
from forebear.network.layers import BiasedNorm
from forebear.tables.preprocessing import TORCHVISION
from forebear.tasks.machine.distributed import ALONE, World
from forebear.tasks.runs.read import load_run
from forebear.tasks.train.data_parallel import DataParallel, synchronise_norms
from tests.cli.making import folder, table
from tests.data.making import decided
from tests.tasks.train.processes import Processes

SHARES = {1: [7], 2: [4, 3], 3: [3, 4, 0]}  # images of each process, of 7


def batches(count: int, batch: int, rank: int, ranks: int) -> Loader:
    rule = replace(TORCHVISION, size=4, side=4)
    labels = np.arange(count) % 3
    images = ArrayImages(np.zeros((count, 4, 4, 3), np.uint8), labels, "zeros")
    return Loader(
        store=PixelStore(images, rule),
        labels=labels,
        rule=rule,
        batch=batch,
        device=torch.device("cpu"),
        rank=rank,
        ranks=ranks,
    )


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize(("count", "batch"), [(20, 6), (7, 2), (2, 2)])
def test_every_image_comes_once_an_epoch_and_in_the_same_step_at_any_world_size(
    count: int, batch: int, ranks: int
) -> None:
    order = Order(augment=decided(), seed=3)
    alone = [draft.samples.tolist() for draft in batches(count, batch, 0, 1).drafts(order, 2)]
    assert sorted(chain(*alone)) == list(range(count))
    shares = [list(batches(count, batch, rank, ranks).drafts(order, 2)) for rank in range(ranks)]
    for step, whole in enumerate(alone):
        dealt = [share[step] for share in shares]
        assert list(chain(*(draft.samples.tolist() for draft in dealt))) == whole
        assert {draft.total for draft in dealt} == {len(whole)}
        for rank, draft in enumerate(dealt):
            images, labels = batches(count, batch, rank, ranks).view(draft, order, 2, 4)
            assert len(images) == len(labels) == len(draft.samples)


def test_a_process_that_nobody_gave_company_is_alone() -> None:
    with World.join("cpu") as world:
        assert world is ALONE
        assert world.on_rank0(lambda: 5) == 5
        assert world.gather("a") == ["a"]


def test_a_timeout_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("FOREBEAR_TIMEOUT", "soon")
    with (
        pytest.raises(ValueError, match="FOREBEAR_TIMEOUT='soon': expected seconds"),
        World.join("cpu"),
    ):
        pass


def speak(path: Path) -> dict[str, Any]:
    """All that the processes can say to each other."""
    with World.join("cpu") as world:
        means = [torch.full((2, 2), float(world.rank)), torch.tensor([float(world.rank) * 2])]
        world.all_reduce_mean(means)
        shared = torch.tensor([7.0 + world.rank])
        world.broadcast([shared])
        skipped = {world.rank: "bad"}

        def write() -> None:
            with path.open("a") as file:
                file.write(str(world.rank))

        world.in_turn(write)
        return {
            "means": [float(mean.mean()) for mean in means],
            "most": world.all_reduce_max([world.rank, -world.rank]),
            "sum": world.all_reduce_sum(torch.tensor([1.0])).tolist(),
            "gathered": world.gather(world.rank * 10),
            "first": world.on_rank0(lambda: f"of {world.rank}"),
            "shared": shared.tolist(),
            "grew": [world.united(skipped), world.united(skipped)],
            "skipped": sorted(skipped),
            "threads": torch.get_num_threads() == world.processors,
            "again": path.read_text()[0],
        }


def test_processes_agree_on_sums_means_and_decisions(tmp_path: Path) -> None:
    found = Processes(3, tmp_path / "p", speak, tmp_path / "turns").results()
    assert found[0] == found[1] == found[2]
    assert found[0] == {
        "means": [1, 2],
        "most": [2, 0],
        "sum": [3],
        "gathered": [0, 10, 20],
        "first": "of 0",
        "shared": [7],
        "grew": [True, False],
        "skipped": [0, 1, 2],
        "threads": True,
        "again": "0",
    }
    assert sorted((tmp_path / "turns").read_text()) == ["0", "1", "2"]


class Small(nn.Module):
    """A convolution, a norm of each kind and logits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), BiasedNorm(5)
        )
        self.logits = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.body(images).mean((2, 3)))  # type: ignore[no-any-return]


def learn(count: int, norms: str, parts: int) -> dict[str, Any]:
    """Two steps, the first of the logits alone; what the gradients and the running values are."""
    images = torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(1)) + 3
    with World.join("cpu") as world:
        start = sum(SHARES[count][: world.rank])
        mine = images[start : start + SHARES[count][world.rank]]
        net = Small()
        before = list(net.state_dict())
        if norms == "sync" and count > 1:
            synchronise_norms(net)
        assert list(net.state_dict()) == before
        together = DataParallel(net, world)
        found = {}
        for phase in ("head", "all"):
            net.train(norms == "sync")
            net.body.requires_grad_(phase == "all")
            for number, part in enumerate(mine.tensor_split(parts), 1):
                with together.part(last=number == parts):
                    loss = together(part).square().sum()
                    (loss * (world.size / len(images))).backward()  # type: ignore[no-untyped-call]
            for name, parameter in net.named_parameters():
                if parameter.grad is not None:
                    found[f"{phase} {name}"] = parameter.grad.clone()
            net.zero_grad()
        return found | dict(net.named_buffers())


@pytest.mark.parametrize(
    ("count", "norms", "parts"),
    [
        (3, "sync", 1),
        (3, "frozen", 2),
        pytest.param(2, "sync", 1, marks=pytest.mark.slow),
        pytest.param(2, "frozen", 1, marks=pytest.mark.slow),
    ],
)
@pytest.mark.long
def test_gradients_and_norms_of_unequal_shares_are_those_of_one_process(
    tmp_path: Path, count: int, norms: str, parts: int
) -> None:
    alone = learn(1, norms, parts)
    assert "head body.0.weight" not in alone
    for found in Processes(count, tmp_path, learn, count, norms, parts).results():
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, rtol=2e-5, atol=2e-6, msg=name)


# Adam's step hangs on a gradient's sign: a difference of 1e-7 in one near 0 would not stay small.
_SETS = ("optimizer=sgd", "momentum=0.9", "rescale=false", "weight_decay=5e-4", "warmup=3")
SGD = tuple(word for one in _SETS for word in ("--set", one))


def words(tmp_path: Path, *more: Any, out: str = "run") -> list[str]:
    """Of a training of the tiny network on 153 images, 5 steps an epoch."""
    data, net = tmp_path / "data", tmp_path / "tiny.toml"
    if not data.exists():
        folder(data, 60)
        table(net)
    given = ("--data", f"folder:{data}", "--network", net, "--dialect", "torchvision")
    fixed = ("--size", 16, "--batch", 32, "--precision", "fp32", "--device", "cpu", "--workers", 0)
    return list(map(str, ("train", *given, *fixed, "--out", tmp_path / out, *more)))


def epochs(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    return [loss for epoch in epochs(run) for loss in epoch["losses"]]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_fifty_steps_of_several_processes_have_the_losses_of_one(
    tmp_path: Path, count: int
) -> None:
    # A small rate: at 0.025 weights moved by 1e-7 alone change the losses of one process by 8e-5.
    given = (*SGD, "--epochs", 10, "--set", "batch_norm=sync", "--set", "ema=0.9", "--lr", 0.005)
    given = (*given, "--seed", 1)
    assert main(words(tmp_path, *given, "--threads", 1, out="one")) == 0
    several = Processes(count, tmp_path / "p", main, words(tmp_path, *given, out="several"))
    assert several.end(120) == [0] * count, several.said()
    one, run = tmp_path / "one", tmp_path / "several"
    assert len(losses(one)) == 50
    np.testing.assert_allclose(losses(run), losses(one), rtol=0, atol=1e-5)
    for ours, theirs in zip(epochs(run), epochs(one), strict=True):
        assert ours["accuracy"] == theirs["accuracy"]
        assert ours["val_accuracy"] == theirs["val_accuracy"]
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], abs=1e-5)
    states = [load_run(path).state_dict() for path in (run, one)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[1].items():
        torch.testing.assert_close(states[0][name], value, rtol=1e-4, atol=1e-5)
    said = several.said()
    assert "correct. Run folder:" in said[0]
    assert said[1:] == [""] * (count - 1)
    assert json.loads((run / "settings.json").read_text())["machine"]["processes"] == count


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ("batch_norm=own", "accumulate=3", "mixup=0.2", "clip=1.0", "ema=0.5"),
        ("head_epochs=1", "batch_norm=frozen"),
        ("head_only=true",),
    ],
)
def test_other_recipes_train_in_two_processes_too(tmp_path: Path, more: tuple[str, ...]) -> None:
    sets = [word for one in more for word in ("--set", one)]
    several = Processes(2, tmp_path / "p", main, words(tmp_path, "--epochs", 3, *sets))
    assert several.end(120) == [0, 0], several.said()
    told = epochs(tmp_path / "run")
    assert told[-1]["val_loss"] < told[0]["val_loss"]
    assert several.said()[1] == ""


@pytest.mark.slow
def test_a_folder_in_the_way_is_said_once_and_ends_all(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years")
    started = time.monotonic()
    several = Processes(3, tmp_path / "p", main, words(tmp_path))
    assert several.end() == [2, 2, 2]
    assert time.monotonic() - started < 40
    said = several.said()
    assert said[0].startswith("forebear: ")
    assert said[0].count("\n") == 1
    assert "holds files already" in said[0]
    assert said[1:] == ["", ""]


def stricken(fault: str, who: int, given: list[str]) -> int:
    """Trains, but for process `who` that meets a fault at step 8."""
    from forebear.errors import DataError
    from forebear.tasks.train.events import Event, StepStart, observe

    def strike(event: Event) -> None:
        if isinstance(event, StepStart) and event.step == 8 and int(os.environ["RANK"]) == who:
            if fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "stalled":
                time.sleep(1000)
            raise DataError("the moon is full. Expected a half. Wait.")

    with observe(strike):
        return main(given)


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("fault", ["killed", "raising", "stalled"])
def test_one_process_that_fails_ends_all_in_time_and_is_said_once(
    tmp_path: Path, fault: str, who: int
) -> None:
    given = words(tmp_path, "--epochs", 200)
    several = Processes(2, tmp_path / "p", stricken, fault, who, given, timeout=6)
    run = tmp_path / "run"
    several.wait(lambda: (run / "metrics.jsonl").exists())
    started = time.monotonic()
    codes = several.end(30)
    assert time.monotonic() - started < 6 + 10, several.said()
    assert codes[1 - who] == 2
    assert codes[who] == {"killed": -signal.SIGKILL, "raising": 2, "stalled": 2}[fault]
    lines = [line for text in several.said() for line in text.splitlines() if "forebear: " in line]
    assert len(lines) == 1
    told = {
        "killed": "gone without a word",
        "raising": "forebear: the moon is full. Expected a half. Wait.",
        "stalled": "has not answered for 6 s",
    }
    assert told[fault] in lines[0]
    assert "Traceback" not in "".join(several.said())
    assert not (run / "model.safetensors").exists()


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_and_one_process_goes_on(tmp_path: Path) -> None:
    given = (*SGD, "--epochs", 12, "--set", "batch_norm=sync", "--lr", 0.0125, "--save-every", 1000)
    assert main(words(tmp_path, *given, "--threads", 1, out="one")) == 0
    several = Processes(2, tmp_path / "p", main, words(tmp_path, *given))
    run = tmp_path / "run"
    several.wait(lambda: (run / "metrics.jsonl").exists())
    several.all[1].terminate()
    assert several.end() == [143, 143], several.said()
    assert "forebear: stopped by a signal after step" in several.said()[0]
    assert several.said()[1] == ""
    before = len(epochs(run))
    assert 0 < before < 12
    again = Processes(1, tmp_path / "again", main, ["train", "--resume", str(run)])
    assert again.end() == [0], again.said()
    assert "started with 2 processes, resumed with 1 process" in again.said()[0]
    np.testing.assert_allclose(losses(run), losses(tmp_path / "one"), rtol=0, atol=1e-4)
    assert epochs(run)[-1]["val_accuracy"] == epochs(tmp_path / "one")[-1]["val_accuracy"]


@pytest.mark.slow
def test_torchrun_starts_a_killed_run_again_where_it_was(tmp_path: Path) -> None:
    given = words(tmp_path, "--epochs", 8, "--threads", 1, "--save-every", 1, out="broken")
    whole = Processes(
        2, tmp_path / "p", main, words(tmp_path, "--epochs", 8, "--threads", 1, "--save-every", 1)
    )
    assert whole.end(120) == [0, 0], whole.said()
    script = tmp_path / "once.py"
    script.write_text(
        "import os, sys\n"
        "from tests.tasks.train.test_world import stricken\n"
        "first = os.environ['TORCHELASTIC_RESTART_COUNT'] == '0'\n"
        "sys.exit(stricken('killed', 1 if first else 9, sys.argv[1:]))\n"
    )
    torchrun = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", "2", "--max-restarts", "1", str(script)),
    ]
    root = Path(__file__).parents[3]
    setting = os.environ | {"PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*torchrun, *given], capture_output=True, text=True, env=setting, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "resuming after step 7" in done.stderr
    states = [load_run(tmp_path / name).state_dict() for name in ("run", "broken")]
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())
