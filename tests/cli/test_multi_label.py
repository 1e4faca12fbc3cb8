"""Multi-label networks through the verbs: train, evaluate, predict, and what the others refuse."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import forebear
from forebear.cli.main import main
from forebear.data.sources.registry import read_data
from forebear.engines.classifier import classifier_of
from forebear.tables.files import resolve
from forebear.tasks.explain import explain
from forebear.tasks.runs.read import read_run
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.setup import create_network
from tests.tasks.labels_making import LABELS, multi_network, multi_table, words


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained run, whose data are in data/."""
    path = tmp_path_factory.mktemp("several")
    assert main(words(path, "--hold-out", 0.4, "--metric", "mAP")) == 0
    return path


def test_a_run_has_what_fits_several_labels(world: Path) -> None:
    run = read_run(world / "run")
    assert run.multi_label
    assert run.settings["recipe"]["loss"] == "bce"
    assert run.settings["chosen_by"]["loss"] == "data"
    assert run.settings["request"]["metric"] == "mAP"
    last = run.epochs[-1]
    assert last["val_map"] > 0.9
    assert last["val_balanced"] is None
    assert 0 <= last["val_accuracy"] <= 1
    assert last["val_micro_f1"] > 0.5
    table = json.loads((world / "run" / "classes.json").read_text())
    assert [row["name"] for row in table["labels"]] == list(LABELS)
    assert table["task"] == "multi-label"
    assert (world / "run" / "mistakes.png").is_file()
    assert not (world / "run" / "confusion.png").exists()
    page = (world / "run" / "index.html").read_text()
    assert "mAP of the validation images" in page
    assert "<h2>Labels</h2>" in page
    cells = re.findall(r'<td class="name">no label</td>(.*?)</tr>', page)
    assert [sum(map(int, re.findall(r"<td>(\d+)", row))) for row in cells] == [12]  # of 96 images
    assert "top-1" not in page
    assert "balanced accuracy" not in page


def test_the_weights_hold_the_thresholds_and_the_task(world: Path) -> None:
    network = forebear.load(world / "run" / "model.safetensors")
    assert network.multi_label
    several = network.card.multi_label
    assert several is not None
    assert several.images > 0
    assert any(value != 0.5 for value in several.thresholds)
    assert network.card.calibration is None
    assert {"held_out_mAP", "test_mAP", "held_out_exact_match"} <= network.card.metrics.keys()
    assert "held_out_accuracy" not in network.card.metrics


def test_the_run_says_what_it_chose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--epochs", 1, "--multi-label")
    assert main(words(tmp_path, *more, count=48, columns=False)) == 0
    out, err = capsys.readouterr()
    assert "validation images. Run folder:" in out
    assert out.startswith("mAP ")
    assert "multi-label; the cells of the column label are separated by ';'" in err
    assert "exact match" in err
    assert "  mAP " in err
    assert "the threshold of all 3 labels is 0.5, since fewer than 10 validation images" in err


def test_evaluate_gives_map_f1_and_thresholds(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = f"csv:{world / 'data' / 'labels.csv'}"
    assert main(["evaluate", str(world / "run"), "--data", data, "--json", "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mAP"] == pytest.approx(read_run(world / "run").tested[0], abs=0.02)  # type: ignore[index]
    assert list(found["intervals"]) == ["mAP", "micro_f1", "macro_f1", "exact_match"]
    low, high = found["intervals"]["mAP"]
    assert low <= found["mAP"] <= high
    several = forebear.load(world / "run").card.multi_label
    assert several is not None
    assert [row["threshold"] for row in found["labels"]] == list(several.thresholds)
    assert main(["evaluate", str(world / "run"), "--data", data, "--tta", "mirror"]) == 0
    text = capsys.readouterr().out
    assert "mean average precision of the labels" in text
    assert text.splitlines()[7].split() == [
        "label", "images", "average", "precision", "F1", "precision", "recall", "threshold",
    ]  # fmt: skip


def test_predict_answers_with_the_labels_above_their_thresholds(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = forebear.load(world / "run")
    several = network.card.multi_label
    assert several is not None
    images = [str(world / "data" / f"{at}.png") for at in range(8)]
    shares = network(network.preprocess([Path(one) for one in images])).sigmoid()
    wanted = [
        {name for name, share, least in zip(LABELS, row, several.thresholds, strict=True)
         if share >= least}
        for row in shares.tolist()
    ]  # fmt: skip
    assert main(["predict", str(world / "run"), *images, "--json", "--engine", "torch"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [set(row["labels"]) for row in rows] == wanted
    for row, found in zip(rows, shares.tolist(), strict=True):
        own = {one["class"]: one["probability"] for one in row["classes"]}
        assert own == pytest.approx(dict(zip(LABELS, found, strict=True)), abs=1e-4)
    for name in ("a.csv", "a.jsonl"):
        out = str(tmp_path / name)
        assert main(["predict", str(world / "run"), *images, "--out", out]) == 0
    with (tmp_path / "a.csv").open() as file:
        table = list(csv.DictReader(file))
    assert list(table[0])[:4] == ["path", "labels", "class", "probability"]
    assert [set(filter(None, row["labels"].split(";"))) for row in table] == wanted
    first = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])
    assert first["labels"] == ";".join(rows[0]["labels"])


@pytest.mark.long
def test_predict_says_that_an_image_has_no_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.safetensors"
    forebear.save(multi_network(thresholds=(1.0,) * 3), file)
    multi_table(tmp_path, 8)
    assert main(["predict", str(file), str(tmp_path / "3.png")]) == 0
    assert "3.png: no label (most probable: " in capsys.readouterr().out
    forebear.save(multi_network(thresholds=(0.0,) * 3), file)
    assert main(["predict", str(file), str(tmp_path / "3.png"), "--top", "2"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("% and 1 more")


@pytest.mark.parametrize(("columns", "more"), [(True, []), (False, ["--label-separator", ";"])])
def test_check_counts_each_label(
    columns: bool, more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = multi_table(tmp_path / "data", 32, columns=columns)
    manifest = tmp_path / "m.jsonl"
    assert main(["check", f"csv:{data}", "--json", "--manifest", str(manifest), *more]) == 0
    found = json.loads(capsys.readouterr().out)
    counts = {row["class"]: row["train"] + row["val"] for row in found["classes"]}
    assert counts == dict.fromkeys(LABELS, 16)
    assert sum(found["without_label"].values()) == 4
    labels = {json.loads(line)["label"] for line in manifest.read_text().splitlines()}
    assert "no label" in labels
    assert any(";" in label for label in labels)


def test_check_has_a_row_for_images_without_a_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = multi_table(tmp_path / "data", 32)
    assert main(["check", f"csv:{data}"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["label", "train", "val"] in lines
    (row,) = [line for line in lines if line[:2] == ["(no", "label)"]]
    assert sum(map(int, row[2:])) == 4


def refusals(path: Path) -> Iterator[tuple[list[str], str]]:
    """Commands that are refused, and what their message contains."""
    file, data = str(path / "a.safetensors"), f"csv:{path / 'data' / 'labels.csv'}"
    image, run = str(path / "data" / "0.png"), str(path / "none")
    yield ["calibrate", file, "--data", data], "and a temperature is that of a softmax"
    yield ["quantize", file, "--data", data], "int8 graphs are judged by top-1 accuracy"
    yield ["predict", file, image, "--unknown"], "is multi-label, and an image that looks like none"
    drawing = str(path / "a.png")
    yield (
        ["evaluate", file, "--data", data, "--draw", drawing],
        "--draw: the network is multi-label",
    )
    train = ["train", "--data", data, "--network", "paper/resnet20", "--out", run]
    yield [*train, "--metric", "top1"], "Expected one of mAP, macro-f1, loss. Pass one of these"
    yield [*train, "--metric", "balanced"], "--metric balanced: the images are multi-label, so"
    yield [*train, "--balance", "sampler"], "--balance sampler: the images are multi-label"
    yield [*train, "--set", "loss=ce"], "cross-entropy is of one class an image. Expected 'bce'"
    digits = ["train", "--data", "digits", "--network", "paper/resnet20", "--out", run]
    yield [*digits, "--metric", "mAP"], "--metric mAP: the images are not multi-label. Expected one"


def test_what_needs_one_class_an_image_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    multi_table(tmp_path / "data", 32)
    forebear.save(multi_network(), tmp_path / "a.safetensors")
    for command, said in refusals(tmp_path):
        capsys.readouterr()
        assert main(command) == 2, command
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert said in error, command


@pytest.mark.slow
def test_balance_by_the_loss_and_mixing_train_too(tmp_path: Path) -> None:
    more = ["--balance", "loss", "--set", "mixup=0.2", "--set", "label_smoothing=0.1"]
    assert main(words(tmp_path, *more)) == 0
    assert read_run(tmp_path / "run").epochs[-1]["val_map"] > 0.8


def test_the_logits_alone_can_learn_labels(world: Path, tmp_path: Path) -> None:
    more = ["--set", "head_only=true", "--weights", str(world / "run" / "model.safetensors")]
    assert main(words(tmp_path, *more)) == 0
    assert read_run(tmp_path / "run").epochs[-1]["val_map"] > 0.9


@pytest.mark.slow
def test_a_run_in_two_parts_is_that_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    more = ["--epochs", "2", "--deterministic"]
    assert main(words(tmp_path / "one", *more, count=48)) == 0
    assert main(words(tmp_path / "two", "--epochs", "1", "--deterministic", count=48)) == 0
    assert main(["train", "--resume", str(tmp_path / "two" / "run"), "--epochs", "2"]) == 0
    run = read_run(tmp_path / "two" / "run")
    assert len(run.epochs) == 2
    assert run.epochs[-1]["val_map"] is not None
    assert forebear.load(tmp_path / "two" / "run").multi_label


def test_a_classifier_of_a_multi_label_network_gives_sigmoids() -> None:
    network = multi_network(thresholds=(0.5, 0.2, 0.9))

    class Engine:
        name = "torch"

    classifier = classifier_of(Engine(), network)  # type: ignore[arg-type]
    logits = np.array([[0.0, -1.0, 2.0], [-200.0, 100.0, 3.0]], np.float32)
    np.testing.assert_allclose(
        classifier.probabilities(logits), [[0.5, 0.268941, 0.880797], [0, 1, 0.952574]], rtol=1e-5
    )
    assert classifier.labels(logits) == [("across", "down"), ("down", "bright")]
    other = classifier_of(Engine(), multi_network())  # type: ignore[arg-type]
    assert classifier.identity != classifier.answers_as() != other.answers_as()


def test_an_exported_graph_answers_with_the_same_labels(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    graph = tmp_path / "a.onnx"
    assert main(["export", str(world / "run"), "--to", "onnx", "--out", str(graph)]) == 0
    images = [str(world / "data" / f"{at}.png") for at in range(8)]
    answers = []
    for source in (str(world / "run" / "model.safetensors"), str(graph)):
        capsys.readouterr()
        assert main(["predict", source, *images, "--json"]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        answers.append([row["labels"] for row in rows])
    assert answers[0] == answers[1]
    assert any(answers[0])
    data = f"csv:{world / 'data' / 'labels.csv'}"
    assert main(["evaluate", str(graph), "--data", data, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mAP"] > 0.8


def test_compare_has_map_in_place_of_accuracy(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(world / "run"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["runs"][0]
    run = read_run(world / "run")
    assert found["last"] == run.epochs[-1]["val_map"]
    assert run.tested is not None
    assert found["test"] == run.tested[0]


def test_explain_takes_the_most_probable_label(world: Path, tmp_path: Path) -> None:
    pytest.importorskip("captum")
    network = forebear.load(world / "run")
    image = world / "data" / "1.png"
    for method in ("grad-cam", "occlusion"):
        found = explain(network, image, method=method)
        shares = network(network.preprocess(image)).sigmoid()[0].detach().numpy()
        np.testing.assert_allclose(found.probabilities, shares, rtol=1e-4)
        assert found.number == shares.argmax()


def test_served_classes_say_whether_they_are_labels(world: Path) -> None:
    pytest.importorskip("starlette")
    from forebear.tasks.serve.app import _answers

    classifier = classifier_of(None, multi_network(thresholds=(0.5, 0.2, 0.9)))  # type: ignore[arg-type]
    (found,) = _answers(classifier, np.array([[0.0, -1.0, 2.0]], np.float32), 2)
    assert [(one["class"], one["label"]) for one in found] == [("bright", False), ("across", True)]


def test_random_logits_start_at_the_frequencies_of_the_labels(world: Path) -> None:
    data = read_data(f"csv:{world / 'data' / 'labels.csv'}")
    recipe = Recipe(lr=0.1, schedule="constant", size=16, eval_size=16)
    network = create_network(*resolve("paper/resnet20", None), data, recipe)
    odds = network.get_submodule("logits").get_parameter("bias").exp()
    share = data.train.labels.mean(0)
    np.testing.assert_allclose((odds / (1 + odds)).detach().numpy(), share, atol=0.02)


def test_logits_of_another_kind_of_network_are_not_taken(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forebear.save(multi_network(several=False), tmp_path / "a.safetensors")
    data = f"csv:{world / 'data' / 'labels.csv'}"
    train = ["train", "--data", data, "--weights", str(tmp_path / "a.safetensors"), "--epochs", "1"]
    assert main([*train, "--out", str(tmp_path / "run"), "--set", "head_only=true"]) == 0
    assert "logits random, as " in (said := capsys.readouterr().err)
    assert "was trained on images with one class each" in said
