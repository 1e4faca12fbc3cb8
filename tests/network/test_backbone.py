from __future__ import annotations

import copy
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

import forebear
from forebear import Table
from forebear.network.backbone import Backbone
from tests.network.making import lively, make, table

IMAGES = torch.randn(2, 3, 65, 48, generator=torch.Generator().manual_seed(1))


def backbone(network: str | Table = "", dialect: str | None = None, **options: Any) -> Backbone:
    """A backbone with the weights of `make`, which draws them from a fixed seed."""
    out_indices = options.pop("out_indices", None)
    return Backbone(make(network, dialect, **options), out_indices)


@pytest.mark.parametrize("output_stride", [None, 8])
@pytest.mark.parametrize(
    "dialect", ["slim-v1", "slim-v2", "keras-v1", "keras-v2", "torchvision", "timm-v2"]
)
@torch.inference_mode()
@pytest.mark.long(after=1)
def test_maps_are_the_end_points_and_feature_info_describes_them(
    dialect: str, output_stride: int | None
) -> None:
    net = make("torchvision/resnet50", dialect=dialect, output_stride=output_stride, num_classes=9)
    body = Backbone(net)
    info, maps = body.feature_info, body(IMAGES)
    known = net.end_points(IMAGES)
    assert all(
        torch.equal(a, known[name]) for a, name in zip(maps, info.module_name(), strict=True)
    )
    assert [one.shape[1] for one in maps] == info.channels() == [64, 256, 512, 1024, 2048]
    reductions = [2, 4, 8, 16, 32] if output_stride is None else [2, 4, 8, 8, 8]
    assert info.reduction() == reductions
    assert [one.shape[2] for one in maps] == [-(-65 // step) for step in reductions]


@torch.inference_mode()
def test_the_coarser_maps_are_those_of_the_pyramid() -> None:
    for dialect in ("slim-v1", "keras-v1", "torchvision"):
        net = make("torchvision/resnet50", dialect=dialect)
        pyramid = net.pyramid(IMAGES)
        for step, one in zip((4, 8, 16, 32), Backbone(net, 4)(IMAGES), strict=True):
            assert torch.equal(pyramid[step], one)


def test_create_gives_the_weights_of_the_whole_network_of_the_same_seed() -> None:
    options: dict[str, Any] = {"dialect": "torchvision", "num_classes": 5}
    whole = forebear.create(table(), generator=torch.Generator().manual_seed(3), **options)
    body = forebear.create(
        table(),
        generator=torch.Generator().manual_seed(3),
        features_only=True,
        out_indices=(1, 4),
        **options,
    )
    state = whole.state_dict()
    assert body.out_indices == (1, 4)
    assert set(body.state_dict()) == {name for name in state if not name.startswith("logits")}
    assert all(torch.equal(state[name], value) for name, value in body.state_dict().items())
    assert body.training
    images = IMAGES.double()
    for one, name in zip(body.eval().double()(images), ("block1", "block4"), strict=True):
        assert torch.equal(one, whole.eval().double().end_points(images, [name])[name])


@pytest.mark.parametrize(
    ("out_indices", "expected"),
    [(None, (0, 1, 2, 3, 4)), (2, (3, 4)), ((-1, 0), (4, 0)), (range(1, 3), (1, 2)), ([3], (3,))],
)
@torch.inference_mode()
def test_indices_are_timms_and_maps_come_in_their_order(
    out_indices: Any, expected: tuple[int, ...]
) -> None:
    every = backbone(dialect="torchvision")(IMAGES)
    body = backbone(dialect="torchvision", out_indices=out_indices)
    assert body.out_indices == body.feature_info.out_indices == expected
    found = body(IMAGES)
    assert all(torch.equal(a, every[i]) for a, i in zip(found, expected, strict=True))
    assert [one.shape[1] for one in found] == body.feature_info.channels()


@pytest.mark.parametrize(
    "out_indices", [(5,), (0, -6), (), 0, 6, -1, True, (1, 1), (4, -1), ("1",), (1.0,), "12", 2.0]
)
def test_bad_indices_are_refused_with_the_possible_ones(out_indices: Any) -> None:
    message = (
        f"out_indices={out_indices!r}: small has the feature maps 0, 1, 2, 3, 4. Expected some of "
        "these, each once, or a number from 1 to 5 for the last ones. Pass None for all of them."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        backbone(out_indices=out_indices)


def test_indices_without_features_only_and_a_missing_root_are_refused() -> None:
    options: dict[str, Any] = {"out_indices": (1, 2)}
    message = r"^out_indices=\(1, 2\): a network with a head .* Expected features_only=True with it"
    with pytest.raises(ValueError, match=message):
        forebear.create("torchvision/resnet18", **options)
    with pytest.raises(ValueError, match=message):
        forebear.load("torchvision/resnet18", weights="a.pth", **options)
    with pytest.raises(ValueError, match=r"^features_only=True, include_root=False: .* Remove one"):
        forebear.create("torchvision/resnet18", features_only=True, include_root=False)


@pytest.mark.parametrize("dialect", ["slim-v1", "slim-v2", "torchvision"])
def test_layers_after_the_last_map_are_left_out(dialect: str) -> None:
    for last in range(5):
        body = backbone(dialect=dialect, out_indices=(last,)).train()
        body(IMAGES)[0].sum().backward()
        grads = [name for name, weight in body.named_parameters() if weight.grad is None]
        assert grads == []
        assert body.get_submodule(body.feature_info.module_name(last)) is not None


@torch.inference_mode()
def test_alexnets_maps_are_its_end_points() -> None:
    net = make("torchvision/alexnet", num_classes=3)
    images = torch.randn(1, 3, 224, 224)
    body = Backbone(net, (1, 3))
    known = net.end_points(images, ["conv2", "pool5"])
    assert all(map(torch.equal, body(images), known.values()))
    assert [one.shape[2] for one in body(images)] == [27, 6]


@pytest.mark.parametrize("dialect", ["slim-v1", "slim-v2", "keras-v2", "torchvision"])
@torch.inference_mode()
@pytest.mark.long(after=1)
def test_dense_maps_subsampled_are_the_nominal_ones(dialect: str) -> None:
    nominal = backbone("torchvision/resnet18", dialect)
    dense = backbone("torchvision/resnet18", dialect, output_stride=8)
    images = torch.randn(1, 3, 97, 129)
    for a, b, step in zip(
        nominal(images), dense(images), nominal.feature_info.reduction(), strict=True
    ):
        k = max(step // 8, 1)
        torch.testing.assert_close(
            b[:, :, ::k, ::k], a, rtol=1e-4, atol=1e-4 * float(a.abs().max())
        )


@torch.inference_mode()
def test_checkpoints_load_as_backbones(tmp_path: Path) -> None:
    net = make("torchvision/resnet18", num_classes=7)
    forebear.save(net, tmp_path / "own.safetensors")
    torch.save(net.state_dict(), tmp_path / "state.pth")
    expected = net.end_points(IMAGES, ["block2", "block4"]).values()
    cases: tuple[tuple[Any, dict[str, Any]], ...] = (
        (tmp_path / "own.safetensors", {}),
        ("torchvision/resnet18", {"weights": tmp_path / "own.safetensors"}),
    )
    for what, options in cases:
        body = forebear.load(what, features_only=True, out_indices=(2, 4), **options)
        assert isinstance(body, Backbone)
        assert not body.training
        assert body.preprocessing == net.preprocessing
        assert all(map(torch.equal, body(IMAGES), expected))
    body = forebear.load(
        "torchvision/resnet18",
        weights=tmp_path / "own.safetensors",
        features_only=True,
        output_stride=8,
    )
    assert body.feature_info.reduction() == [2, 4, 8, 8, 8]
    kept, missing = tmp_path / "body.pth", backbone("torchvision/resnet18", out_indices=(1,))
    torch.save(Backbone(net).state_dict(), kept)
    result = missing.load_state_dict(torch.load(kept), strict=False)
    assert result.missing_keys == []


@torch.inference_mode()
@pytest.mark.long
def test_copies_and_traces_give_the_same_maps() -> None:
    body = backbone(dialect="slim-v2", out_indices=(0, 2, 4))
    expected = body(IMAGES)
    twin = copy.deepcopy(body)
    for weight in body.parameters():
        weight.zero_()
    assert all(map(torch.equal, twin(IMAGES), expected))
    traced = torch.compile(twin, backend="eager", fullgraph=True)
    assert all(map(torch.equal, traced(IMAGES), expected))


def test_wrong_images_are_refused_as_by_a_network() -> None:
    with pytest.raises(ValueError, match=r"images of shape \[3, 65, 48\]: small expects \[N, 3"):
        backbone()(IMAGES[0])


# What torchvision expects where its C++ part is missing. They live as long as this.
OPERATORS = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]


@pytest.fixture
def _operators() -> None:
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            rule = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            OPERATORS.define(rule)  # type: ignore[no-untyped-call]


@pytest.mark.usefixtures("_operators")
@pytest.mark.parametrize(
    ("name", "theirs"), [("timm/resnet18", "resnet18"), ("timm/resnetv2_50", "resnetv2_50")]
)
@torch.inference_mode()
def test_maps_and_feature_info_are_timms(name: str, theirs: str, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    timm = pytest.importorskip("timm")
    whole = timm.create_model(theirs)
    lively(whole)
    torch.save(whole.state_dict(), tmp_path / "timm.pth")
    peer = timm.create_model(theirs, features_only=True, out_indices=(0, 2, 4)).eval()
    state = {
        re.sub(r"^(stem|stages)\.", r"\1_", name): value
        for name, value in whole.state_dict().items()
    }
    assert peer.load_state_dict(state if theirs != "resnet18" else whole.state_dict(), strict=False)
    ours = forebear.load(
        name, weights=tmp_path / "timm.pth", features_only=True, out_indices=(0, 2, 4)
    )
    for of in ("channels", "reduction"):
        assert getattr(ours.feature_info, of)() == getattr(peer.feature_info, of)()
    for a, b in zip(ours(IMAGES), peer(IMAGES), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


@pytest.mark.usefixtures("_operators")
@pytest.mark.parametrize("name", ["slim/resnet_v1_50", "torchvision/resnet18"])
@torch.inference_mode()
def test_torchvisions_deeplab_and_fpn_take_a_backbone(name: str) -> None:
    pytest.importorskip("torchvision")
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3
    from torchvision.ops import FeaturePyramidNetwork

    body = backbone(name, output_stride=8, out_indices=(1, 2, 3, 4))
    info = body.feature_info
    getter = IntermediateLayerGetter(body, {"block3": "aux", "block4": "out"})
    assert torch.equal(getter(IMAGES)["out"], body(IMAGES)[3])
    segment = DeepLabV3(getter, DeepLabHead(info.channels(4), 21)).eval()
    assert segment(IMAGES)["out"].shape == (2, 21, 65, 48)

    body = backbone(name, out_indices=(1, 2, 3, 4))
    fpn = FeaturePyramidNetwork(body.feature_info.channels(), 16)
    maps = fpn(OrderedDict(zip("abcd", body(IMAGES), strict=True)))
    assert [tuple(one.shape) for one in maps.values()] == [
        (2, 16, 17, 12),
        (2, 16, 9, 6),
        (2, 16, 5, 3),
        (2, 16, 3, 2),
    ]
