"""Grad-CAM against its formula, occlusion where the answer is known, an untouched network."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import forebear
from forebear.errors import DataError, ForebearError, WeightsError
from forebear.network.accelerate import accelerate
from forebear.network.network import Network
from forebear.network.plan.end_points import end_points
from forebear.tasks import explain as module
from forebear.tasks.explain import (
    Explanation,
    check_end_point,
    class_number,
    default_end_point,
    explain,
    maps,
    methods_of,
)
from tests.network.making import FITTED, SMALL_ROOT, make, table

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
FAMILIES = (
    ("paper/resnet20", "block3"),
    ("timm/resnetv2_18", "postnorm"),
    ("torchvision/resnext50_32x4d", "block4"),
    ("torchvision/alexnet", "conv5"),
    ("slim/alexnet_v2", "conv5"),
)


@pytest.fixture(autouse=True)
def _library() -> None:
    pytest.importorskip("captum")


def tiny(form: str = "basic", channels: int = 3) -> Network:
    """A network with maps of 4 x 4 values before the pool, for images of 32 x 32 pixels."""
    net = make(
        table("basic" if form == "basic" else "bottleneck", SMALL_ROOT),
        "slim-v2" if form == "v2" else "torchvision",
        num_classes=4,
        in_channels=channels,
    )
    return sized(net, 32, channels)


def sized(net: Network, side: int, channels: int = 3) -> Network:
    """The network with a small input, so that the tests take no time."""
    rule = replace(
        net.preprocessing, size=side, side=side, order="L" if channels == 1 else "RGB",
        scale=1 / 255, mean=(0.45,) * channels, std=(0.225,) * channels,
    )  # fmt: skip
    net.card = replace(net.card, preprocessing=rule)
    return net


def by_hand(net: Network, end_point: str, number: int) -> NDArray[np.float32]:
    """Selvaraju et al. 2017, equations 1 and 2, with a hook of our own."""
    kept: list[Tensor] = []
    layer = net.get_submodule(end_point)
    handle = layer.register_forward_hook(lambda _m, _i, output: kept.append(output))
    batch = net.preprocess(PIXELS).requires_grad_()
    score = net(batch)[0, number]
    handle.remove()
    (slope,) = torch.autograd.grad(score, kept[0])
    coarse = F.relu((slope.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True))
    fine = F.interpolate(coarse, batch.shape[2:], mode="bilinear", align_corners=False)
    return fine[0, 0].detach().numpy()


@pytest.mark.parametrize("form", ["basic", "bottleneck", "v2"])
def test_grad_cam_before_the_pool_is_the_class_activation_map(form: str) -> None:
    """Zhou et al. 2016: the weights of the class times the maps, here divided by their size."""
    net, seen = tiny(form), []
    with torch.no_grad():
        for number in range(4):
            found = explain(net, PIXELS, class_name=str(number))
            values = net.end_points(net.preprocess(PIXELS), [found.end_point])[found.end_point]
            weight = net.state_dict()["logits.weight"][number]
            coarse = F.relu((values * weight[:, None, None]).sum(1, keepdim=True))
            coarse = coarse / (values.shape[2] * values.shape[3])
            assert coarse.shape[2:] == (3, 3)
            expected = F.interpolate(coarse, (32, 32), mode="bilinear", align_corners=False)
            np.testing.assert_allclose(found.map, expected[0, 0].numpy(), rtol=1e-4, atol=1e-6)
            seen.append(float(found.map.max()))
    assert max(seen) > 0


@pytest.mark.parametrize("form", ["basic", "v2"])
@pytest.mark.long
def test_grad_cam_at_any_end_point_is_its_formula(form: str) -> None:
    net, checked = tiny(form), 0
    for name in end_points(net.plan):
        shape = net.end_points(net.preprocess(PIXELS), [name])[name].shape
        if len(shape) == 4 and shape[2] > 1:
            found = explain(net, PIXELS, end_point=name, class_name="2")
            np.testing.assert_allclose(found.map, by_hand(net, name, 2), rtol=1e-3, atol=1e-5)
            checked += 1
    assert checked > 20


def test_what_an_explanation_has() -> None:
    net = tiny()
    found = explain(net, Image.fromarray(PIXELS))
    logits = net(net.preprocess(PIXELS))[0].detach()
    np.testing.assert_allclose(found.probabilities, logits.softmax(0).numpy(), rtol=1e-5)
    assert found.number == int(logits.argmax())
    assert found.class_name == str(found.number)
    assert found.probability == pytest.approx(float(logits.softmax(0).max()), rel=1e-5)
    assert found.top(1) == [(found.class_name, found.probability)]
    assert len(found.top()) == 4
    assert found.map.shape == found.pixels.shape[:2] == (32, 32)
    assert found.map.dtype == np.float32
    assert (found.method, found.end_point, found.window) == ("grad-cam", "block4", 0)
    hidden = explain(net, PIXELS, method="occlusion", class_name="1")
    assert (hidden.method, hidden.end_point, hidden.window) == ("occlusion", "", 6)
    assert (hidden.number, hidden.probability) == (1, float(found.probabilities[1]))
    assert hidden.map.dtype == np.float32


class Corner(nn.Module):
    """Logits that depend only on how bright one square is: the place of the answer is known."""

    def __init__(self, row: int, column: int, side: int) -> None:
        super().__init__()
        self.place = (
            slice(None),
            slice(None),
            slice(row, row + side),
            slice(column, column + side),
        )

    def forward(self, images: Tensor) -> Tensor:
        bright = images[self.place].mean((1, 2, 3))
        return torch.stack([4 * bright, torch.zeros_like(bright)], 1)


@pytest.mark.parametrize(("row", "column"), [(2, 20), (20, 3), (12, 12)])
@pytest.mark.parametrize("number", [0, 1])
def test_occlusion_finds_the_only_informative_place(row: int, column: int, number: int) -> None:
    net = forebear.create("paper/resnet20", num_classes=2).eval()
    pixels = np.full((32, 32, 3), 120, np.uint8)
    pixels[row : row + 6, column : column + 6] = 190
    corner = Corner(row, column, 6)
    net.forward = corner.forward  # type: ignore[method-assign]
    found = explain(net, pixels, method="occlusion", class_name=str(number)).map
    signed = found if number == 0 else -found
    top, left = np.unravel_index(int(signed.argmax()), signed.shape)
    assert row <= top < row + 6
    assert column <= left < column + 6
    inside = np.zeros((32, 32), bool)
    inside[max(0, row - 5) : row + 11, max(0, column - 5) : column + 11] = True
    assert np.abs(signed[~inside]).max() < 1e-6  # no square that reaches the place covers these
    assert signed[row + 2, column + 2] > 0.05


def test_probabilities_have_the_temperature_that_predict_uses() -> None:
    net = tiny()
    plain = explain(net, PIXELS, method="occlusion")
    net.card = replace(net.card, calibration=FITTED)
    assert FITTED.temperature == 2
    halved = explain(net, PIXELS, method="occlusion")
    wanted = torch.from_numpy(plain.probabilities).log().div(2).softmax(0).numpy()
    np.testing.assert_allclose(halved.probabilities, wanted, rtol=1e-4)
    assert not np.allclose(halved.map, plain.map)


def test_occlusion_hides_by_grey() -> None:
    grey = np.full((32, 32, 3), 128, np.uint8)
    same, other = (
        np.abs(explain(tiny(), pixels, method="occlusion").map).max()
        for pixels in (grey, grey - np.uint8(13))
    )
    assert same < 1e-7  # rounding: the batches have other sizes
    assert other > 1e-5


def test_occlusion_is_not_lost_where_the_probability_is_one() -> None:
    net = forebear.create("paper/resnet20", num_classes=2).eval()
    pixels = np.full((32, 32, 3), 250, np.uint8)
    net.forward = lambda images: torch.stack(  # type: ignore[method-assign]
        [10 * images.mean((1, 2, 3)), 0 * images.mean((1, 2, 3))], 1
    )
    found = explain(net, pixels, method="occlusion")
    assert found.probability == 1.0
    assert (found.map > 0).all()


@pytest.mark.parametrize(("name", "end_point"), FAMILIES)
@pytest.mark.long(after=1)
def test_every_family(name: str, end_point: str) -> None:
    net = make(name, num_classes=3)
    net = net if "alexnet" in name else sized(net, 64)
    assert default_end_point(net) == end_point
    assert check_end_point(net) == end_point
    assert set(maps(net)) < set(end_points(net.plan))
    for known in maps(net):
        assert check_end_point(net, known) == known
    size = net.preprocessing.size
    found = explain(net, PIXELS, class_name="1")
    assert found.map.shape == (size, size)
    assert found.end_point == end_point
    assert (found.map >= 0).all()


def test_greyscale() -> None:
    net = tiny(channels=1)
    assert net.preprocessing.channels == 1
    for method in module.METHODS:
        found = explain(net, PIXELS, method=method)
        assert found.pixels.shape == (32, 32, 1)
        assert found.map.any()


class InPlace(nn.Module):
    """A layer that changes its input, as nn.ReLU(inplace=True) does."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(F.relu_(x))
        return result


def test_relus_that_write_into_their_input_do_not_disturb() -> None:
    net = tiny("v2")
    last = net.get_submodule("block4.unit_2")
    expected = {}
    for name in ("block4.unit_1", "block4.unit_2", "block3"):
        plain = nn.Sequential(nn.ReLU(), net.get_submodule("postnorm"))
        assert isinstance(plain, nn.Module)
        net.postnorm = plain
        expected[name] = explain(net, PIXELS, end_point=name, class_name="0").map
        net.postnorm = InPlace(plain[1])
        found = explain(net, PIXELS, end_point=name, class_name="0").map
        np.testing.assert_array_equal(found, expected[name])
        net.postnorm = plain[1]
    assert last is net.get_submodule("block4.unit_2")
    assert expected["block4.unit_2"].any()


@pytest.mark.parametrize("method", module.METHODS)
@pytest.mark.parametrize("around", [torch.inference_mode, torch.no_grad, nullcontext])
@pytest.mark.long(after=1)
def test_modes_of_torch_do_not_disturb(
    method: module.Method, around: type[AbstractContextManager[None]]
) -> None:
    expected = explain(tiny(), PIXELS, method=method).map
    net = tiny()
    with around():
        made_inside = tiny()
        np.testing.assert_array_equal(explain(net, PIXELS, method=method).map, expected)
        np.testing.assert_array_equal(explain(made_inside, PIXELS, method=method).map, expected)
    np.testing.assert_array_equal(explain(made_inside, PIXELS, method=method).map, expected)


@pytest.mark.parametrize("method", module.METHODS)
def test_accelerated_and_frozen_networks_give_the_same_map(method: module.Method) -> None:
    net = tiny()
    expected = explain(net, PIXELS, method=method).map
    accelerate(net)
    net.requires_grad_(False)
    np.testing.assert_array_equal(explain(net.train(), PIXELS, method=method).map, expected)


@pytest.mark.parametrize("method", module.METHODS)
def test_the_network_is_the_same_afterwards(method: module.Method) -> None:
    net = tiny().train()
    net.get_submodule("block2").eval()  # a part that is frozen, as fine-tuning leaves it
    weight = next(net.parameters())
    weight.grad = torch.ones_like(weight)
    before = state(net)
    explain(net, PIXELS, method=method)
    with pytest.raises(ValueError, match="end point pool"):
        explain(net, PIXELS, end_point="pool")
    after = state(net)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert np.array_equal(value, after[name]), name


def state(net: Network) -> dict[str, NDArray[np.float64]]:
    """All that a network must keep: values, gradients, whether they are taken, modes and hooks."""
    found = {name: tensor.double().numpy() for name, tensor in net.state_dict().items()}
    for name, parameter in net.named_parameters():
        grad = parameter.grad
        found[f"{name}.grad"] = np.array([] if grad is None else grad.tolist())
        found[f"{name}.requires_grad"] = np.array([parameter.requires_grad])
    for name, part in net.named_modules():
        hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks)
        found[f"{name}.mode"] = np.array([part.training, *map(len, hooks)])
    return found


@pytest.mark.parametrize(
    ("end_point", "message"),
    [
        ("pool", r"end point pool: its shape is \[64\], which is no map. Expected one of root.conv1"
         r", block1, block2, block3, block4, or a unit or layer inside. Pass one of these."),
        ("logits", r"end point logits: its shape is \[4\], which is no map"),
        ("predictions", r"end point predictions: its shape is \[4\], which is no map"),
        ("blok4", r"end point 'blok4': .* Did you mean block4"),
    ],
)  # fmt: skip
def test_end_points_without_a_map(end_point: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explain(tiny(), PIXELS, end_point=end_point)


def test_a_map_of_one_value_is_none() -> None:
    net = make("torchvision/alexnet", num_classes=3)
    with pytest.raises(ValueError, match=r"end point fc6: its shape is \[4096, 1, 1\], .* conv5"):
        check_end_point(net, "fc6")


def test_networks_that_cannot_be_explained() -> None:
    for options in ({"num_classes": None}, {"num_classes": 3, "global_pool": False}):
        net = make(table(), **options, dialect="slim-v1")
        with pytest.raises(ValueError, match="no classifier or no global pool"):
            explain(net, PIXELS)


def test_classes_by_name() -> None:
    net = named("n02123045", "tabby", "n01440764")
    assert class_number(net, "n01440764") == class_number(net, "tench") == 2
    assert class_number(net, "tabby") == 1  # the name itself comes before a synset's word
    message = (
        r"class 'tenc': small has no class of that name. Expected one of tabby, tabby.*, tench. "
        r"Pass one of these. Did you mean tench\?"
    )
    with pytest.raises(ValueError, match=message):
        class_number(net, "tenc")
    assert explain(net, PIXELS, class_name="tench").class_name == "n01440764"
    with pytest.raises(ValueError, match="class '4': .* Expected one of 0, 1, 2, 3. Pass"):
        class_number(tiny(), "4")


def named(*classes: str) -> Network:
    net = make(table("basic", SMALL_ROOT), "torchvision", num_classes=len(classes))
    net = sized(net, 32)
    net.card = replace(net.card, classes=classes)
    return net


def test_methods() -> None:
    assert methods_of("occlusion, grad-cam,occlusion") == ["occlusion", "grad-cam"]
    message = "method='grad-cm': expected one of grad-cam, occlusion. .* Did you mean grad-cam"
    with pytest.raises(ValueError, match=message):
        methods_of("grad-cm")
    with pytest.raises(ValueError, match="method='lime': expected one of grad-cam, occlusion"):
        explain(tiny(), PIXELS, method="lime")  # type: ignore[arg-type]


def test_weights_that_are_not_finite() -> None:
    net = tiny()
    with torch.no_grad():
        net.state_dict()["logits.weight"].fill_(float("nan"))
    with pytest.raises(WeightsError, match="small: the logits of the image are not finite"):
        explain(net, PIXELS)


def test_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("broken")
    with pytest.raises(DataError, match=r"a\.png: not an image"):
        explain(tiny(), tmp_path / "a.png")


@pytest.fixture
def _no_captum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)


@pytest.mark.usefixtures("_no_captum")
def test_without_the_library() -> None:
    message = (
        r"captum cannot be imported \(.*\)\. Expected the library that explains\. "
        r"Run: pip install 'forebear\[explain\]'"
    )
    with pytest.raises(ForebearError, match=message):
        explain(tiny(), PIXELS)


def test_an_explanation_names_classes() -> None:
    found = explain(named("a", "b", "c"), PIXELS)
    assert isinstance(found, Explanation)
    assert {name for name, _ in found.top()} == {"a", "b", "c"}
