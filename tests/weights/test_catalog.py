"""The registry of published weights: every row whole, found by name, and told by its contents."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from forebear import WeightsError
from forebear.tables.preprocessing import (
    KERAS_CAFFE,
    KERAS_TF,
    KERAS_TORCH,
    SLIM_INCEPTION,
    SLIM_VGG,
    TORCHVISION,
)
from forebear.weights import catalog as module
from forebear.weights.catalog import (
    PUBLISHED,
    Hash,
    by_digest,
    find_published,
    published,
)

SHARED = Path(__file__).parents[3] / "shared"


def count(pattern: str) -> int:
    return len(published(pattern))


def test_every_home_has_its_rows() -> None:
    assert count("slim/*") == 6
    assert count("keras/*") == 18
    assert sum(row.tag.startswith("IMAGENET1K") for row in PUBLISHED) == 18
    assert count("*_in1k") == 81
    assert count("bamboo") == 1
    assert count("paper/*") == 6
    assert len(PUBLISHED) == count("*") == 130


def test_the_default_is_the_homes_own() -> None:
    assert find_published("torchvision/resnet50").tag == "IMAGENET1K_V2"
    assert find_published("torchvision/resnet18").tag == "IMAGENET1K_V1"
    assert find_published("torchvision/wide_resnet50_2").tag == "IMAGENET1K_V2"
    assert find_published("timm/resnet50").tag == "a1_in1k"
    assert find_published("timm/resnet101").tag == "a1h_in1k"
    assert find_published("keras/ResNet50").classes == "imagenet-1000"
    assert find_published("slim/resnet_v2_50").classes == "imagenet-1001"


def test_preprocessing_is_the_publishers() -> None:
    assert find_published("slim/resnet_v1_50").preprocessing == SLIM_VGG
    assert find_published("slim/resnet_v2_50").preprocessing == SLIM_INCEPTION
    assert find_published("keras/ResNet50").preprocessing == KERAS_CAFFE
    assert find_published("keras/ResNet50V2").preprocessing == KERAS_TF
    assert find_published("keras/ResNet50V2").tested.size == 299
    assert find_published("keras/ResNeXt50").preprocessing == KERAS_TORCH
    assert find_published("torchvision/resnet50", "IMAGENET1K_V1").preprocessing == TORCHVISION
    assert find_published("torchvision/resnet50").preprocessing.side == 232


def test_what_was_not_published_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^network='slim/resnet_v1_200' has no published weights"):
        find_published("slim/resnet_v1_200")
    with pytest.raises(ValueError, match=r"^network='slim/resnet_v1_5' is unknown"):
        find_published("slim/resnet_v1_5")
    with pytest.raises(
        ValueError,
        match=r"^tag='IMAGENET1K_V3' is not a tag of the weights published for torchvision/"
        r"resnet50\. Expected one of IMAGENET1K_V1, IMAGENET1K_V2\. "
        r"Did you mean .* Pass one of these",
    ):
        find_published("torchvision/resnet50", "IMAGENET1K_V3")


@pytest.mark.parametrize(("algorithm", "digits"), [("sha256", 8), ("sha256", 64), ("md5", 32)])
def test_a_file_is_told_by_its_contents_whatever_its_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    algorithm: Literal["sha256", "md5"],
    digits: int,
) -> None:
    path = tmp_path / "renamed.bin"
    path.write_bytes(b"weights")
    digest = hashlib.new(algorithm, b"weights").hexdigest()[:digits]
    row = replace(find_published("keras/ResNet101"), hash=Hash(algorithm, digest))
    monkeypatch.setattr(module, "PUBLISHED", (*PUBLISHED, row))
    assert by_digest(path) == row
    assert row.hash is not None
    assert row.hash.fits(path)
    path.write_bytes(b"Weights")
    assert by_digest(path) is None
    assert not row.hash.fits(path)


def test_a_name_counts_only_where_no_hash_was_published(tmp_path: Path) -> None:
    for name in ("resnet_v1_50.ckpt", "resnet50-0676ba61.pth", "model.safetensors"):
        (tmp_path / name).write_bytes(b"anything")
    guess = by_digest(tmp_path / "resnet_v1_50.ckpt")
    assert guess is not None
    assert (guess.network, guess.hash) == ("slim/resnet_v1_50", None)
    assert by_digest(tmp_path / "resnet50-0676ba61.pth") is None
    assert by_digest(tmp_path / "model.safetensors") is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.pth: the file cannot be read \(No such file"):
        by_digest(tmp_path / "nowhere.pth")


def test_the_published_cifar_file_is_recognised() -> None:
    path = SHARED / "data" / "checkpoints" / "resnet20-12fca82f.th"
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    row = by_digest(path)
    assert row is not None
    assert (row.network, row.classes, row.top1) == ("paper/resnet20", "cifar10", 91.73)
    assert row.size == path.stat().st_size
