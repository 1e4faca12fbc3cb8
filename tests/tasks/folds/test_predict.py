"""Predictions of the networks of all folds, and their table."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import forebear
from forebear.data.images.preprocess import preprocess
from forebear.data.sources.fold_split import FoldPlan
from forebear.data.sources.registry import read_data
from forebear.errors import DataError
from forebear.network.model_card import ModelCard
from forebear.tables.preprocessing import CIFAR
from forebear.tasks.folds.out_of_fold import LEFT_OUT, LabelsOutOfFold, OutOfFold
from forebear.tasks.folds.predict import Predictor, write_table
from tests.cli import making
from tests.tasks.labels_making import LABELS, multi_network, multi_table

RULE = replace(CIFAR, size=16, side=16)


def network(seed: int, classes: tuple[str, ...]) -> forebear.Network:
    random = torch.Generator().manual_seed(seed)
    made = forebear.create("paper/resnet20", num_classes=len(classes), generator=random).eval()
    made.card = ModelCard(classes=classes, preprocessing=RULE)
    return made


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_each_image_is_predicted_by_the_network_of_its_fold(tmp_path: Path) -> None:
    folder = making.folder(tmp_path / "data", 4)
    plan = FoldPlan.of(read_data(f"folder:{folder}"), 2)
    predictor = Predictor(plan, device="cpu", bad="fail")
    turned = ("grey", "down", "across")  # the logits of this network are in another order
    networks = {1: network(1, making.CLASSES), 2: network(2, turned)}
    for number, net in networks.items():
        predictor.add(number, net)
    found = predictor.found()
    assert np.isfinite(found.probabilities).all()
    assert found.probabilities.sum(1) == pytest.approx(np.ones(12), abs=1e-5)
    write_table(tmp_path / "t.csv", found, plan)
    rows = rows_of(tmp_path / "t.csv")
    assert [int(row["image"]) for row in rows] == list(range(12))
    assert sorted(row["path"] for row in rows) == sorted(map(str, folder.rglob("*.png")))
    for row in rows:
        assert Path(row["path"]).parent.name == row["label"]
        net = networks[int(row["fold"])]
        with Image.open(row["path"]) as image, torch.inference_mode():
            shares = net(torch.from_numpy(preprocess(image, RULE))[None]).softmax(1)[0].tolist()
        for name, share in zip(net.classes, shares, strict=True):
            assert float(row[f"probability_{name}"]) == pytest.approx(share, abs=1e-4)
        assert row["predicted"] == net.classes[int(np.argmax(shares))]
        assert row["probability"] == row[f"probability_{row['predicted']}"]


def test_labels_are_matched_by_name_and_their_probabilities_are_sigmoids(tmp_path: Path) -> None:
    plan = FoldPlan.of(read_data(f"csv:{multi_table(tmp_path / 'data')}"), 2)
    predictor = Predictor(plan, device="cpu", bad="fail")
    net = multi_network()
    net.card = replace(net.card, classes=LABELS[::-1])  # the logits are in another order
    for number in (1, 2):
        predictor.add(number, net)
    found = predictor.found()
    assert isinstance(found, LabelsOutOfFold)
    write_table(tmp_path / "t.csv", found, plan)
    rows = rows_of(tmp_path / "t.csv")
    with (tmp_path / "data" / "labels.csv").open(newline="") as file:
        given = {row["image"]: row for row in csv.DictReader(file)}
    assert len(rows) == 24
    for row in rows:
        own = given[Path(row["path"]).name]
        assert [row[f"label_{name}"] for name in LABELS] == [own[name] for name in LABELS]
        assert row["labels"] == ";".join(name for name in LABELS if own[name] == "1")
        with Image.open(row["path"]) as image, torch.inference_mode():
            inputs = torch.from_numpy(preprocess(image, net.preprocessing))[None]
            shares = net(inputs).sigmoid()[0].tolist()
        for name, share in zip(net.classes, shares, strict=True):
            assert float(row[f"probability_{name}"]) == pytest.approx(share, abs=1e-4)
            assert row[f"predicted_{name}"] in ("0", "1")


def test_an_image_that_cannot_be_decoded_keeps_its_row_or_is_refused(tmp_path: Path) -> None:
    folder = making.folder(tmp_path / "data", 4)
    (folder / "down" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
    plan = FoldPlan.of(read_data(f"folder:{folder}"), 2)
    predictor = Predictor(plan, device="cpu", bad="skip")
    for number in (1, 2):
        predictor.add(number, network(1, making.CLASSES))
    (why,) = predictor.left_out
    assert "2.png" in why
    found = predictor.found()
    assert isinstance(found, OutOfFold)
    assert found.images == 11
    assert (found.guesses == LEFT_OUT).sum() == 1
    assert found.counts.images.tolist() == [4, 3, 4]
    write_table(tmp_path / "t.csv", found, plan)
    (empty,) = [row for row in rows_of(tmp_path / "t.csv") if row["predicted"] == ""]
    assert empty["path"].endswith("2.png")
    assert (empty["label"], empty["probability_grey"]) == ("down", "")
    strict, fold = Predictor(plan, device="cpu", bad="fail"), int(empty["fold"])
    with pytest.raises(DataError, match=r"2\.png"):
        strict.add(fold, network(1, making.CLASSES))
