"""A ResNet that was taken apart into an nn.Sequential is the same network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import forebear
from forebear import WeightsError
from forebear.cli.main import main
from forebear.weights.sequential_names import with_names
from forebear.weights.variable_names import pairs

PLACES = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


@pytest.fixture(scope="module")
def network() -> forebear.Network:
    return forebear.create("torchvision/resnet18", num_classes=4).eval()


def taken_apart(network: forebear.Network, body: str, head: str) -> dict[str, Tensor]:
    """The state of a program that has the children of the network at places of a Sequential."""
    state, found = network.state_dict(), {}
    for pair in pairs(network.plan):
        first, _, rest = pair.theirs.partition(".")
        place = head if first == "fc" else f"{body}{PLACES[first]}."
        found[place + rest] = state[pair.ours]
    return found


def test_only_places_of_the_network_get_names() -> None:
    names = [
        *("0.weight", "1.running_mean", "4.0.conv1.weight", "7.1.bn2.bias", "9.weight"),
        *("features.0.weight", "features.4.0.conv1.weight", "other.4.0.conv1.weight"),
    ]
    assert list(with_names({name: name for name in names})) == [
        *("conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer4.1.bn2.bias"),
        *("9.weight", "features.0.weight", "features.4.0.conv1.weight", "other.4.0.conv1.weight"),
    ]
    two = ["a.0.weight", "a.1.running_mean", "a.4.0.conv1.weight", "1.2.weight", "b.0.weight"]
    assert list(with_names({name: name for name in two})) == [
        *("a.conv1.weight", "a.bn1.running_mean", "a.layer1.0.conv1.weight", "1.2.weight"),
        "b.0.weight",
    ]
    whole = ["conv1.weight", "layer1.0.conv1.weight"]
    assert list(with_names({name: name for name in whole})) == whole


@pytest.mark.parametrize(
    ("body", "head"),
    [("", "10."), ("features.", "classifier."), ("0.", "1.3."), ("module.encoder.", "head.fc.")],
)
def test_a_network_in_a_sequential_loads(
    body: str, head: str, network: forebear.Network, tmp_path: Path
) -> None:
    torch.save({"state_dict": taken_apart(network, body, head)}, tmp_path / "net.pth")
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = network(images)
        assert torch.equal(forebear.load(tmp_path / "net.pth")(images), wanted)
        named = forebear.load("torchvision/resnet18", weights=tmp_path / "net.pth")
        assert torch.equal(named(images), wanted)


def test_a_body_alone_gives_the_features(network: forebear.Network, tmp_path: Path) -> None:
    state = taken_apart(network, "", "fc.")
    body = {name: one for name, one in state.items() if not name.startswith("fc.")}
    torch.save(body, tmp_path / "body.pth")
    assert forebear.load(tmp_path / "body.pth").plan.num_classes is None


def test_a_head_of_several_layers_is_left_on_request(
    network: forebear.Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in fastai, whose head has norms."""
    state = taken_apart(network, "0.", "1.8.")
    norm = {f"1.2.{name}": torch.ones(512) for name in ("weight", "running_mean", "running_var")}
    torch.save({"model": state | norm}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="its head is not one linear layer: it has model.1.2."):
        forebear.load(tmp_path / "net.pth")
    source, target = str(tmp_path / "net.pth"), str(tmp_path / "a.safetensors")
    assert main(["convert", source, target, "--which", "body"]) == 0
    assert forebear.load(target).plan.num_classes is None
    capsys.readouterr()


def test_a_sequential_with_another_root_is_refused(
    network: forebear.Network, tmp_path: Path
) -> None:
    state = taken_apart(network, "", "10.")
    state["0.weight"] = torch.ones(64, 3, 5, 4)
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(WeightsError):
        forebear.load(tmp_path / "net.pth")
