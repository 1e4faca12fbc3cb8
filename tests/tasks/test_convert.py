from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import forebear
from forebear import WeightsError
from forebear.cli.main import main
from forebear.network.plan.cost import measure
from forebear.tasks.convert import convert, difference
from forebear.weights.rewrite import fold_input, fold_norms, move_strides
from forebear.weights.transfer import transfer
from tests.network.making import lively, make

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
def test_a_home_that_cannot_hold_it_exactly_is_refused_with_the_reason(
    tmp_path: Path, name: str, to: str, reason: str
) -> None:
    forebear.save(make(name, num_classes=5), tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=f"to='{to}': no network of that home.*{reason}"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.pth", to=to)
    assert not (tmp_path / "b.pth").exists()


def test_targets_are_not_overwritten_unasked_and_endings_tell_the_format(tmp_path: Path) -> None:
    forebear.save(make("paper/resnet20"), tmp_path / "a.safetensors")
    (tmp_path / "b.pth").write_bytes(b"precious")
    with pytest.raises(WeightsError, match="is there already"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.pth")
    assert (tmp_path / "b.pth").read_bytes() == b"precious"
    convert(tmp_path / "a.safetensors", tmp_path / "b.pth", replace=True)
    assert forebear.load(tmp_path / "b.pth").table.name == "resnet20"
    with pytest.raises(ValueError, match="its ending names no format"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.onnx")
    with pytest.raises(ValueError, match="to='tim': expected one of.*Did you mean timm"):
        convert(tmp_path / "a.safetensors", tmp_path / "c.pth", to="tim")


def test_strides_move_to_tf_slims_place_and_a_tenth_of_the_work_goes() -> None:
    net = make("keras/ResNet50", num_classes=7)
    moved = move_strides(net)
    assert difference(net, moved) < 1e-5
    costs = [
        sum(row.multiply_adds for row in measure(n.plan, 224) if row.kind != "unit")
        for n in (net, moved)
    ]
    assert round(100 * (1 - costs[1] / costs[0]), 1) == 9.7
    with pytest.raises(ValueError, match="rewrite=strides: resnet18 in dialect torchvision"):
        move_strides(make("torchvision/resnet18"))


@pytest.mark.parametrize("name", ["slim/resnet_v2_50", "keras/ResNet50", "torchvision/resnet18"])
def test_folded_norms_leave_the_function(name: str) -> None:
    net = make(name, num_classes=7)
    folded = fold_norms(net)
    assert difference(net, folded) < 1e-5
    left = [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(left) == (17 if "v2" in name else 0)
    if not left:
        with pytest.raises(ValueError, match="rewrite=norms: no norm"):
            fold_norms(folded)


@pytest.mark.parametrize("name", ["keras/ResNet50", "timm/resnetv2_18"])
def test_folded_input_takes_plain_rgb_less_the_mean(name: str) -> None:
    net = make(name, num_classes=7)
    folded = fold_input(net)
    rule = folded.preprocessing
    assert (rule.order, rule.scale, rule.std) == ("RGB", 1.0, (1.0, 1.0, 1.0))
    assert difference(net, folded) < 2e-5
    if name.startswith("keras"):
        assert rule.mean == (123.68, 116.779, 103.939)


def test_folded_networks_survive_their_file(tmp_path: Path) -> None:
    net = fold_input(fold_norms(make("paper/resnet20")))
    forebear.save(net, tmp_path / "a.safetensors")
    again = forebear.load(tmp_path / "a.safetensors")
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(net(image), again(image), rtol=1e-5, atol=1e-5)
    assert again.preprocessing == net.preprocessing
    with pytest.raises(WeightsError, match="no network of that home holds resnet20"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.pth")


def test_biases_before_norms_are_folded_into_the_mean_where_the_target_has_none() -> None:
    keras = make("keras/ResNet50", num_classes=7)
    from dataclasses import replace

    plain = replace(keras.dialect, name="plain", bias_before_norm=False)
    other = lively(forebear.create(keras.table, dialect=plain, num_classes=7), seed=9)
    transfer(keras, other)
    with torch.inference_mode():
        expected = keras(IMAGE)
        assert (other(IMAGE) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_the_verb_says_what_it_wrote_and_how_far_it_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = saved(tmp_path, "keras/ResNet50", "a.h5")
    target = tmp_path / "b.safetensors"
    words = ["convert", str(first), str(target), "--rewrite", "strides", "--rewrite", "norms"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "rewrite strides: largest error " in out
    assert f"{target}: ResNet50, " in out
    assert main(words) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "none.pth"), str(tmp_path / "c.npz")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
