from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import forebear
from forebear import WeightsError
from forebear.tasks.convert import convert
from tests.network.making import make

SMALL = {  # the shallowest of each home
    "slim": "slim/resnet_v1_50",
    "keras": "keras/ResNet50",
    "torchvision": "torchvision/resnet18",
    "timm": "timm/resnetv2_18",
    "paper": "paper/resnet20",
}
IMAGE = torch.randn(1, 3, 65, 65, generator=torch.Generator().manual_seed(3))


def saved(tmp_path: Path, name: str, file: str) -> Path:
    """A network's weights in its home's own format."""
    net = make(name, num_classes=5)
    forebear.save(net, tmp_path / "first.safetensors")
    convert(tmp_path / "first.safetensors", tmp_path / file)
    return tmp_path / file


@pytest.mark.parametrize(
    ("home", "file", "other"),
    [
        ("slim", "a.ckpt", "b.npz"),
        ("keras", "a.h5", "b.weights.h5"),
        ("keras", "a.weights.h5", "b.h5"),
        ("torchvision", "a.pth", "b.safetensors"),
        ("timm", "a.pt", "b.npz"),
        ("paper", "a.th", "b.pth"),
    ],
)
@pytest.mark.long
def test_round_trips_are_bit_for_bit_and_the_network_is_recognised(
    tmp_path: Path, home: str, file: str, other: str
) -> None:
    first = saved(tmp_path, SMALL[home], file)
    convert(first, tmp_path / other, to=home)
    convert(tmp_path / other, tmp_path / f"c{file[1:]}", to=home)
    last = tmp_path / f"c{file[1:]}"
    with forebear.read_arrays(first) as a, forebear.read_arrays(last) as c:
        assert list(a) == list(c)
        for name in a:
            np.testing.assert_array_equal(a[name], c[name])
    net, known = forebear.load(first), make(SMALL[home], num_classes=5)
    assert net.plan == known.plan
    with torch.inference_mode():
        assert torch.equal(net(IMAGE), known(IMAGE))


def test_a_file_that_describes_itself_goes_back_out(tmp_path: Path) -> None:
    net = make("torchvision/resnet18", num_classes=3)
    forebear.save(net, tmp_path / "a.safetensors", classes=["x", "y", "z"], metrics={"top1": 0.5})
    again = forebear.load(tmp_path / "a.safetensors")
    assert again.classes == ("x", "y", "z")
    assert again.card.metrics == {"top1": 0.5}
    convert(tmp_path / "a.safetensors", tmp_path / "b.pth", to="timm")
    state = torch.load(tmp_path / "b.pth", weights_only=True)
    ours = net.state_dict()["block1.unit_1.conv1.conv.weight"]
    assert torch.equal(state["layer1.0.conv1.weight"], ours)
    with pytest.raises(ValueError, match="2 class names for 3 logits"):
        forebear.save(net, tmp_path / "c.safetensors", classes=["x", "y"])


@pytest.mark.parametrize(
    ("name", "to", "reason"),
    [
        ("slim/resnet_v1_50", "torchvision", "they subsample at different positions"),
        (
            "keras/ResNet50",
            "slim",
            "the padding of their pools differ; epsilon is 1.001e-5 and 1",
        ),
        ("torchvision/resnet18", "slim", "none has weights of these shapes"),
    ],
)
@pytest.mark.long(after=1)
def test_a_home_that_cannot_hold_it_exactly_is_refused_with_the_reason(
    tmp_path: Path, name: str, to: str, reason: str
) -> None:
    forebear.save(make(name, num_classes=5), tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=f"to='{to}': no network of this library.*{reason}"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.pth", to=to)
    assert not (tmp_path / "b.pth").exists()


def test_targets_are_not_overwritten_unasked_and_endings_tell_the_format(tmp_path: Path) -> None:
    forebear.save(make("paper/resnet20"), tmp_path / "a.safetensors")
    (tmp_path / "b.pth").write_bytes(b"precious")
    with pytest.raises(WeightsError, match="the file exists"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.pth")
    assert (tmp_path / "b.pth").read_bytes() == b"precious"
    convert(tmp_path / "a.safetensors", tmp_path / "b.pth", replace=True)
    assert forebear.load(tmp_path / "b.pth").table.name == "resnet20"
    with pytest.raises(ValueError, match="its extension is no known format"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.onnx")
    with pytest.raises(ValueError, match="to='tim': expected one of.*Did you mean timm"):
        convert(tmp_path / "a.safetensors", tmp_path / "c.pth", to="tim")


def test_values_that_are_not_finite_are_kept_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = make("paper/resnet20")
    source, target = tmp_path / "a.safetensors", tmp_path / "a.npz"
    forebear.save(net, source)
    convert(source, target)
    assert caplog.messages == []
    net.get_parameter("logits.weight").data[0, 0] = float("nan")
    forebear.save(net, source)
    convert(source, target, replace=True)
    assert caplog.messages == [
        f"{source}: its array logits.weight has values that are not finite. They are converted as "
        "they are. Check the weights."
    ]
    with np.load(target) as arrays:
        assert sum(int(np.isnan(arrays[name]).sum()) for name in arrays) == 1


def test_rewrites_of_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    net = make("paper/resnet20")
    net.get_parameter("logits.weight").data[0, 0] = float("nan")
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    forebear.save(net, source)
    with pytest.raises(WeightsError, match="a test image: the results of resnet20 are not finite"):
        convert(source, target, rewrites=["norms"])  # the largest error was said to be 0
    assert not target.exists()
