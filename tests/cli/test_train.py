from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import forebear
from forebear.cli.main import main
from forebear.tasks.runs.folder import RunFolder
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.runs.read import load_run
from tests.cli.making import CLASSES, folder, image, table


def words(verb: str, *more: Any) -> list[str]:
    return [verb, *map(str, more)]


def trained(tmp_path: Path, *more: Any, out: str = "run") -> tuple[int, Path]:
    """Trains the tiny network on the tiny folder; gives the exit code and the run's folder."""
    data, net = tmp_path / "data", tmp_path / "tiny.toml"
    if not data.exists():
        folder(data)
        table(net)
    given = ("--data", f"folder:{data}", "--network", net, "--dialect", "torchvision")
    length = () if "--budget" in more else ("--epochs", 6)
    code = main(words("train", *given, "--size", 16, *length, "--out", tmp_path / out, *more))
    return code, tmp_path / out


@pytest.mark.long
def test_a_run_ends_in_a_folder_that_names_new_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, run = trained(tmp_path)
    told = capsys.readouterr()
    assert code == 0
    assert "100.00% of 9 validation images correct" in told.out
    assert "train: 51 images in 3 classes; validation: 9, 15% of each class" in told.err
    assert "epoch 6/6  loss " in told.err
    assert sorted(path.name for path in run.iterdir()) == [
        "best.safetensors",
        "classes.json",
        "confusion.png",
        "curves.png",
        "examples.json",
        "index.html",
        "metrics.jsonl",
        "mistakes.png",
        "model.safetensors",
        "pictures.png",
        "settings.json",
    ]
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3, 4, 5, 6]
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    assert epochs[-1]["val_accuracy"] == 1
    settings = json.loads((run / "settings.json").read_text())
    assert settings["recipe"]["seed"] == 0
    assert settings["recipe"]["size"] == 16
    assert settings["versions"]["torch"] == torch.__version__
    assert settings["table"]["name"] == "tiny"
    for name in ("curves.png", "confusion.png", "mistakes.png", "pictures.png"):
        with Image.open(run / name) as drawn:
            assert min(drawn.size) > 300

    images = []
    for kind, name in enumerate(CLASSES):
        images.append(tmp_path / f"{name}.png")
        Image.fromarray(image(kind, 999)).save(images[-1])
    assert main(words("predict", run, *images, "--top", 2)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1].split()[0] for line in lines] == list(CLASSES)
    assert main(words("predict", run, images[0], "--json")) == 0
    found = json.loads(capsys.readouterr().out)["classes"]
    assert found[0]["class"] == "across"
    assert sum(guess["probability"] for guess in found) == pytest.approx(1)

    net = load_run(run)
    forebear.save(net, tmp_path / "synsets.safetensors", classes=["n01440764", "x", "y"])
    assert main(words("predict", tmp_path / "synsets.safetensors", images[0], "--top", 1)) == 0
    assert ": n01440764 (tench) " in capsys.readouterr().out
    assert main(words("evaluate", run, "--data", f"folder:{tmp_path / 'data'}")) == 0
    assert "top-1     100.00%" in capsys.readouterr().out
    matrix = tmp_path / "confusion.png"
    same = ("--data", f"folder:{tmp_path / 'data'}", "--json", "--draw", matrix)
    assert main(words("evaluate", run, *same)) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["confusion"] == [[3, 0, 0], [0, 3, 0], [0, 0, 3]]
    assert [row["images"] for row in measured["classes"]] == [3, 3, 3]
    assert matrix.is_file()


@pytest.mark.long
def test_the_saved_network_is_the_trained_one_and_needs_nothing_else(tmp_path: Path) -> None:
    _, run = trained(tmp_path)
    saved = load_run(run)
    assert len(saved.card.provenance) == 0
    moved = tmp_path / "elsewhere.safetensors"
    (run / "model.safetensors").rename(moved)
    again = load_run(moved)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(saved(images), again(images))
    assert again.classes == CLASSES
    moved.rename(run / "model.safetensors")
    assert torch.equal(forebear.load(run)(images), again(images))
    assert again.table.name == "tiny"
    assert again.preprocessing == saved.preprocessing
    assert again.card.metrics["held_out_accuracy"] == 1


@pytest.mark.long
def test_two_runs_of_one_seed_agree_to_the_last_bit_and_another_seed_differs(
    tmp_path: Path,
) -> None:
    few = ("--precision", "fp32", "--epochs", 2)
    weights = []
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        _, run = trained(tmp_path, *few, "--seed", seed, out=out)
        state = load_run(run).state_dict()
        weights.append(torch.cat([value.flatten().double() for value in state.values()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.long
def test_a_run_in_the_way_is_kept_until_its_replacement_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = trained(tmp_path, "--epochs", 1)
    before = (run / "model.safetensors").read_bytes()
    code, _ = trained(tmp_path, "--epochs", 1, "--seed", 5)
    assert code == 2
    assert "holds files already. Expected a new or an empty folder" in capsys.readouterr().err
    assert (run / "model.safetensors").read_bytes() == before
    code, _ = trained(tmp_path, "--epochs", 1, "--seed", 5, "--replace")
    assert code == 0
    assert (run / "model.safetensors").read_bytes() != before
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years")
    code, _ = trained(tmp_path, "--replace", out="thesis")
    assert code == 2
    assert (precious / "thesis.tex").read_text() == "years"


def test_a_run_that_breaks_off_does_not_look_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, run = trained(tmp_path, "--lr", "1e30", "--precision", "fp32")
    told = capsys.readouterr().err.splitlines()[-1]
    assert code == 2
    assert told.startswith("forebear: the loss or its gradient was not finite at 4 steps in a row")
    assert "Try a smaller learning rate" in told
    assert not (run / "model.safetensors").exists()
    assert main(words("predict", run, tmp_path / "x.png")) == 2
    assert "a run that did not finish: model.safetensors is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--epochs", 0), "epochs=0: expected 1 or more."),
        (("--lr", -1), "lr=-1.0: expected a number above 0."),
        (("--batch", 1), "batch=1: expected 2 or more"),
        (("--size", -1), "size=-1: expected 0 to 8,192."),
        (("--set", "lr=fast"), "lr='fast': expected a number."),
        (("--set", "speed=1"), "the field 'speed' is unknown."),
        (("--recipe", "cifar-papr"), "Did you mean cifar-paper"),
        (("--hold-out", 2), "hold_out=2.0: expected a fraction between 0 and 1"),
        (("--device", "tpu"), "device='tpu' is no device. Expected auto, cpu, cuda or cuda:N."),
        (("--precision", "fp8"), "precision='fp8': expected one of auto, fp32, fp32-strict, bf16."),
        (("--network", "slim/resnet_v1_5"), "network='slim/resnet_v1_5' is unknown."),
        (
            ("--network", "slim/alexnet_v2"),
            "too small for alexnet_v2, which needs at least 195x195",
        ),
        (("--data", "folder:none"), "none: no such folder."),
        (("--data", "flder:none"), "flder"),
    ],
)
@pytest.mark.long(after=1)
def test_a_mistake_is_one_line_and_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[Any, ...], message: str
) -> None:
    code, run = trained(tmp_path, *more, *(["--dialect", "slim-v1"] if "slim" in str(more) else []))
    told = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert len(told) == 1
    assert told[0].startswith("forebear: ")
    assert message in told[0]
    assert not run.exists()


def spoil(tmp_path: Path) -> None:
    """The tiny folder and network, with a file that is no image."""
    folder(tmp_path / "data")
    table(tmp_path / "tiny.toml")
    (tmp_path / "data" / "grey" / "7.png").write_bytes(b"no image")


def test_an_image_that_cannot_be_read_stops_the_run_before_its_folder_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(tmp_path)
    code, run = trained(tmp_path)
    assert code == 2
    assert "7.png: not an image" in capsys.readouterr().err.splitlines()[-1]
    assert not run.exists()


@pytest.mark.long
def test_an_image_that_cannot_be_read_is_left_out_where_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(tmp_path)
    code, run = trained(tmp_path, "--epochs", 2, "--bad", "skip")
    assert code == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert len(told) == 1
    assert "7.png: not an image" in told[0]
    assert load_run(run).card.metrics["images_left_out"] == 1


@pytest.mark.long
def test_a_run_that_breaks_off_goes_on_to_the_same_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("--epochs", 4, "--threads", 1)
    _, whole = trained(tmp_path, *few, out="whole")
    epoch = RunFolder.epoch

    def stop_after_two(folder: RunFolder, done: Epoch) -> None:
        epoch(folder, done)
        if done.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "epoch", stop_after_two)
    code, broken = trained(tmp_path, *few, out="broken")
    assert code == 130
    assert not (broken / "model.safetensors").exists()
    monkeypatch.setattr(RunFolder, "epoch", epoch)
    with (broken / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "lr": 0.')  # cut by the stop
    capsys.readouterr()
    assert main(words("train", "--resume", broken, "--threads", 1)) == 0
    assert "resuming after step " in capsys.readouterr().err
    first, second = (load_run(run).state_dict() for run in (whole, broken))
    assert all(torch.equal(first[name], second[name]) for name in first)
    lines = [json.loads(line) for line in (broken / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert not (broken / "checkpoints").exists()
    assert main(words("train", "--resume", broken)) == 2
    assert "the run is finished" in capsys.readouterr().err


def test_a_run_with_a_damaged_checkpoint_or_other_images_does_not_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "epoch", stop)
        _, run = trained(tmp_path)
    kept = sorted((run / "checkpoints").iterdir())
    assert kept
    for checkpoint in kept:
        checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    assert main(words("train", "--resume", run)) == 2
    assert "no checkpoint that can be gone on from" in capsys.readouterr().err
    Image.fromarray(image(0, 777)).save(tmp_path / "data" / "across" / "new.png")
    assert main(words("train", "--resume", run)) == 2
    assert "have changed since the run began" in capsys.readouterr().err
    assert main(words("train", "--resume", tmp_path / "none")) == 2
    assert main(words("train")) == 2


@pytest.mark.long
def test_training_begins_with_a_checkpoint_and_says_what_stayed_random(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = trained(tmp_path)
    first = run / "model.safetensors"
    capsys.readouterr()
    code, again = trained(tmp_path, "--weights", first, "--lr", 1e-9, "--epochs", 1, out="again")
    assert code == 0
    assert "random, as" not in capsys.readouterr().err
    assert json.loads((again / "metrics.jsonl").read_text())["val_accuracy"] == 1
    (tmp_path / "data" / "grey").rename(tmp_path / "grey")
    more = ("--weights", first, "--epochs", 1)
    code, fewer = trained(tmp_path, *more, out="fewer")
    assert code == 2
    assert "fc.weight [3, 16], expected [2, 16]" in capsys.readouterr().err
    assert not fewer.exists()
    code, fewer = trained(tmp_path, *more, "--partial", out="fewer")
    assert code == 0
    assert "none that fit: logits.weight, logits.bias" in capsys.readouterr().err


@pytest.mark.long
def test_where_no_network_is_named_the_checkpoints_own_is_trained_at_its_own_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = trained(tmp_path, "--epochs", 1, "--size", 20)
    data = f"folder:{tmp_path / 'data'}"
    known, other = tmp_path / "known.pth", tmp_path / "other.npz"
    forebear.save(forebear.create("paper/resnet20", num_classes=3), known)
    for first, name, side in ((run / "model.safetensors", "tiny", 20), (known, "resnet20", 32)):
        out = tmp_path / f"from-{name}"
        more = ("--weights", first, "--epochs", 1, "--out", out)
        assert main(words("train", "--data", data, *more)) == 0
        told = capsys.readouterr().err
        assert f"{name} on folder:" in told
        assert f"{side} x {side} pixels" in told
        assert load_run(out).table.name == name
    np.savez(other, weight=np.zeros((3, 7), np.float32))
    given = ("--data", data, "--weights", other, "--out", tmp_path / "no")
    assert main(words("train", *given)) == 2
    assert "Pass the network, as in --network" in capsys.readouterr().err
    assert main(words("train", *given, "--network", "paper/resnet20", "--partial")) == 2
    assert "the arrays do not fit resnet20" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.mark.long
def test_logits_of_other_classes_are_not_taken_though_they_are_as_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = trained(tmp_path)
    (tmp_path / "data" / "grey").rename(tmp_path / "data" / "ash")  # now the first one
    capsys.readouterr()
    still = ("--weights", run / "model.safetensors", "--lr", 1e-9, "--epochs", 1)
    code, other = trained(tmp_path, *still, out="other")
    assert code == 0
    assert "was trained on other classes, or in another order" in capsys.readouterr().err
    before, after = (load_run(one).state_dict() for one in (run, other))
    same = {name for name in before if torch.allclose(before[name], after[name], atol=1e-6)}
    assert not same & {"logits.weight", "logits.bias"}
    assert {name for name in before if name.endswith("conv.weight")} <= same


@pytest.mark.long
def test_where_classes_have_no_names_the_recipe_says_whose_logits_are_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = trained(tmp_path)
    plain = tmp_path / "plain.pth"
    assert main(words("convert", run / "model.safetensors", plain)) == 0
    capsys.readouterr()
    given = ("--weights", plain, "--epochs", 1, "--lr", 1e-9)
    code, again = trained(tmp_path, *given, out="again")
    assert code == 0
    assert "logits random" not in capsys.readouterr().err
    assert json.loads((again / "metrics.jsonl").read_text())["val_accuracy"] == 1
    code, _ = trained(tmp_path, *given, "--recipe", "head-only", "--mirror", out="head")
    assert code == 0
    assert f"logits random, as {plain} names no classes" in capsys.readouterr().err


def test_evaluating_other_classes_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = trained(tmp_path, "--epochs", 1)
    other = folder(tmp_path / "other", 5)
    (other / "grey").rename(other / "gray")
    assert main(words("evaluate", run, "--data", f"folder:{other}")) == 2
    assert "its class 'gray' is unknown to the network" in capsys.readouterr().err
    assert main(words("predict", run, other / "down" / "0.png", "--top", 0)) == 2
    assert "top=0: expected 1 or more." in capsys.readouterr().err


def test_damaged_or_foreign_weights_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = trained(tmp_path, "--epochs", 1)
    weights = run / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"x" * 100):
        weights.write_bytes(damaged)
        assert main(words("predict", run, "x.png")) == 2
        assert f"{weights}: cannot be read" in capsys.readouterr().err
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(2, np.float32)}, weights)
    assert main(words("predict", run, "x.png")) == 2
    assert "its metadata have format=None" in capsys.readouterr().err


@pytest.mark.slow
def test_the_main_job_reaches_98_percent_within_60_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits

    run = tmp_path / "first"
    given = ("--data", "digits", "--network", "paper/resnet20", "--out", run)
    assert main(words("train", *given)) == 0
    result = load_run(run).card.metrics
    print(f"\ndigits: {result['held_out_accuracy']:.2%} after {result['seconds']:.1f} s")
    assert result["held_out_accuracy"] >= 0.98
    digits = load_digits()
    right = 0
    capsys.readouterr()
    paths = []
    for number in range(20):
        paths.append(tmp_path / f"{number}.png")
        pixels = np.rint(digits.images[number] * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).save(paths[-1])
    assert main(words("predict", run, *paths, "--top", 1)) == 0
    for line, digit in zip(capsys.readouterr().out.splitlines(), digits.target, strict=False):
        right += line.split(": ")[1].split()[0] == str(digit)
    assert right >= 19


@pytest.mark.long
def test_several_seeds_give_a_mean_and_a_folder_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = trained(tmp_path, "--epochs", 1, "--seeds", 2, "--seed", 3)
    assert code == 0
    assert "%, standard deviation " in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["seed-3", "seed-4"]
    assert json.loads((out / "seed-4" / "settings.json").read_text())["recipe"]["seed"] == 4


@pytest.mark.long
def test_weights_are_chosen_by_a_validation_part_and_tested_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, run = trained(tmp_path, "--hold-out", 0.2)
    assert code == 0
    told = capsys.readouterr()
    assert "train: 42 images in 3 classes; validation: 9, 20% of each class" in told.err
    assert "9 test images correct" in told.out
    best, last = (load_run(run / name) for name in ("best.safetensors", "model.safetensors"))
    state = best.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in last.state_dict().items())
    assert last.card.metrics["test_images"] == 9


@pytest.mark.long
def test_a_head_learns_alone_on_features_of_a_frozen_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, first = trained(tmp_path)
    weights = first / "model.safetensors"
    given = ("--weights", weights, "--recipe", "head-only", "--mirror", "--partial")
    code, run = trained(tmp_path, *given, out="head")
    assert code == 0, capsys.readouterr().err
    before, after = (load_run(one).state_dict() for one in (first, run))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"logits.weight", "logits.bias"}
    assert load_run(run).card.metrics["held_out_accuracy"] == 1


@pytest.mark.long
def test_a_trained_network_is_finetuned_head_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, first = trained(tmp_path)
    given = ("--weights", first / "model.safetensors", "--recipe", "finetune")
    code, run = trained(tmp_path, *given, "--epochs", 5, out="tuned")
    assert code == 0, capsys.readouterr().err
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["lr"] for line in lines[:2]] == pytest.approx([0.1] * 2)
    assert lines[-1]["lr"] < 0.05
    assert lines[-1]["val_accuracy"] == 1


@pytest.mark.long
def test_a_run_on_a_budget_ends_with_its_rate(tmp_path: Path) -> None:
    code, run = trained(tmp_path, "--budget", "6s")
    assert code == 0
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    peak = json.loads((run / "settings.json").read_text())["recipe"]["lr"]
    assert last["lr"] < 0.05 * peak
    assert last["epoch"] > 2
    assert last["seconds"] < 6


@pytest.mark.long
def test_a_run_goes_on_when_nobody_reads_its_lines_any_more(tmp_path: Path) -> None:
    """Its standard error is a pipe whose reader ends after the first line, as `| head -1` does."""
    folder(tmp_path / "data")
    table(tmp_path / "tiny.toml")
    given = ("--data", f"folder:{tmp_path / 'data'}", "--network", tmp_path / "tiny.toml")
    more = ("--dialect", "torchvision", "--size", 16, "--epochs", 1, "--out", tmp_path / "run")
    program = [sys.executable, "-m", "forebear", *words("train", *given, *more)]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    assert process.stderr.readline().startswith(b"train: 51 images")
    process.stderr.close()
    assert process.wait(60) == 0
    assert (tmp_path / "run" / "model.safetensors").is_file()
