"""The rows of the catalog: every one whole, with the hash and preprocessing of its publisher."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlsplit

import pytest

from forebear.tables.imagenet_classes import class_names
from forebear.tables.registry import NETWORKS
from forebear.weights.catalog import (
    PUBLISHED,
    Published,
    find_published,
)

EVERY = pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row.network}-{row.tag}")


@EVERY
def test_a_row_is_whole(row: Published) -> None:
    assert row.network in NETWORKS
    address = urlsplit(row.url)
    assert address.scheme == "https"
    assert address.path.endswith(f"/{row.file}")
    assert "//" not in address.path
    assert row.file.endswith((".tar.gz", ".h5", ".pth", ".th", ".safetensors"))
    assert bool(row.member) == row.file.endswith(".tar.gz")
    assert bool(row.hub) == (row.file == "model.safetensors")
    assert (row.hash is None) == bool(row.member or row.hub)
    table = NETWORKS[row.network]
    if row.classes is None:
        assert row.top1 is row.top5 is None
    else:
        assert len(class_names(row.classes)) == table.table.classes + table.dialect.background
        assert (row.top1 is None) == row.network.endswith("32x48d")
    if row.top1 is not None:
        assert 50 < row.top1 < (row.top5 or 100) <= 100
    assert row.tested.mean == row.preprocessing.mean
    assert row.tested.side >= row.tested.size >= row.preprocessing.size


@EVERY
def test_a_hash_is_hexadecimal_and_of_its_length(row: Published) -> None:
    if row.hash is not None:
        algorithm, digest = row.hash
        assert set(digest) <= set("0123456789abcdef")
        assert len(digest) in ({"md5": {32}, "sha256": {8, 64}}[algorithm])
        assert algorithm == "md5" or digest[:8] in row.file


def test_every_network_has_one_default_and_no_tag_twice() -> None:
    assert max(Counter((row.network, row.tag) for row in PUBLISHED).values()) == 1
    defaults = Counter(row.network for row in PUBLISHED if row.default)
    assert defaults == Counter({row.network for row in PUBLISHED})


@pytest.mark.parametrize(
    ("network", "tag", "seen", "tested", "interpolation", "mean"),
    [
        ("timm/resnet50", "a1_in1k", (224, 235), (288, 288), "bicubic", 0.485),
        ("timm/resnet50", "a1h_in1k", (176, 195), (224, 224), "bicubic", 0.485),
        ("timm/resnet50", "a3_in1k", (160, 168), (224, 235), "bicubic", 0.485),
        ("timm/resnet50", "tv2_in1k", (176, 201), (224, 232), "bilinear", 0.485),
        ("timm/resnet50", "ra_in1k", (224, 256), (288, 303), "bicubic", 0.485),
        ("timm/resnet34", "ra4_e3600_r224_in1k", (224, 248), (288, 288), "bicubic", 0.5),
        ("timm/resnetv2_50", "a1h_in1k", (224, 235), (288, 288), "bicubic", 0.5),
    ],
)
def test_sizes_of_timm(
    network: str,
    tag: str,
    seen: tuple[int, int],
    tested: tuple[int, int],
    interpolation: str,
    mean: float,
) -> None:
    row = find_published(network, tag)
    assert (row.preprocessing.size, row.preprocessing.side) == seen
    assert (row.tested.size, row.tested.side) == tested
    assert row.preprocessing.interpolation == interpolation
    assert row.preprocessing.mean[0] == mean


def test_timms_weights_of_torchvisions_networks_are_under_torchvisions_names() -> None:
    row = find_published("torchvision/wide_resnet50_2", "racm_in1k")
    assert row.url.endswith("/v0.1-weights/wide_resnet50_racm-8234f177.pth")
    assert not row.default


def test_networks_pretrained_on_instagram_are_not_for_commercial_use() -> None:
    rows = [row for row in PUBLISHED if "_fb_" in f"_{row.tag}"]
    assert len(rows) == 16
    assert {row.licence for row in rows} == {"CC-BY-NC-4.0"}
    row = find_published("timm/resnext101_32x48d")
    assert (row.tag, row.file) == ("fb_wsl_ig1b_ft_in1k", "ig_resnext101_32x48-3e41cc8a.pth")
    row = find_published("timm/resnext101_32x16d", "fb_swsl_ig1b_ft_in1k")
    assert row.url.endswith("f3559a9c.pth")
    assert (row.top1, row.top5) == (83.34, 96.844)


def test_old_and_new_keras_weights_share_a_name_and_not_an_address() -> None:
    old, new = find_published("keras/ResNet50_old"), find_published("keras/ResNet50")
    assert old.file == new.file
    assert old.url != new.url
    assert old.hash != new.hash


def test_a_file_on_the_hub() -> None:
    row = find_published("timm/resnetv2_50")
    assert row.hub == "timm/resnetv2_50.a1h_in1k"
    assert (
        row.url == "https://huggingface.co/timm/resnetv2_50.a1h_in1k/resolve/main/model.safetensors"
    )
