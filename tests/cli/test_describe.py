"""forebear describe: the numbers, the names, and the forms in which they are printed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forebear.cli.main import main
from forebear.network.plan.naming_schemes import NAMING_SCHEMES
from forebear.tables.registry import NETWORKS

MANIFESTS = Path(__file__).parents[3] / "shared" / "goldens" / "manifests"


def described(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["describe", *words]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["describe", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def loaded(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(described(capsys, *words, "--json"))
    return found


@pytest.mark.parametrize(
    ("name", "multiply_adds", "trainable"),
    [
        ("slim/resnet_v1_50", "3.482 G", "25,557,032"),
        ("keras/ResNet50", "3.858 G", "25,583,592"),
        ("torchvision/resnet50", "4.089 G", "25,557,032"),
    ],
)
def test_totals_are_the_published_ones(
    capsys: pytest.CaptureFixture[str], name: str, multiply_adds: str, trainable: str
) -> None:
    lines = described(capsys, name).splitlines()
    totals = dict(line.split("  ", 1) for line in lines[-6:])
    assert totals["multiply-adds"].strip() == f"{multiply_adds} at 224x224"
    assert totals["trainable parameters"].strip() == trainable
    assert totals["output strides"].strip() == "4, 8, 16, 32 (here 32)"
    assert f"source                {NETWORKS[name].table.source}" in lines


def test_table_1_reads_as_the_paper_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    text = described(capsys, "torchvision/resnext50_32x4d", "--output-stride", "16")
    rows = [" ".join(line.split()) for line in text.split("\n\n")[0].splitlines()]
    assert rows == [
        "resnext50_32x4d output dialect torchvision",
        "conv1 112x112 7x7, 64, stride 2",
        "pool1 56x56 3x3 max pool, stride 2",
        "block1 56x56 [1x1, 128 | 3x3, 128, C=32 | 1x1, 256] x 3",
        "block2 28x28 [1x1, 256 | 3x3, 256, C=32 | 1x1, 512] x 4, stride 2 in unit_1",
        "block3 14x14 [1x1, 512 | 3x3, 512, C=32 | 1x1, 1024] x 6, stride 2 in unit_1",
        "block4 14x14 [1x1, 1024 | 3x3, 1024, C=32 | 1x1, 2048] x 1",
        "[1x1, 1024 | 3x3, 1024, C=32, rate 2 | 1x1, 2048] x 2",
        "pool 1x1 average over the map",
        "logits 1x1 1000-d linear",
    ]


def test_a_line_a_unit_and_every_layer_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    listing = described(capsys, "slim/resnet_v1_50").split("\n\n")[1].splitlines()
    assert len(listing) == 1 + 2 + 16 + 2
    *_, last = (line for line in listing if line.startswith("block"))
    assert " ".join(last.split()) == "block4.unit_3 2048x7x7 4,462,592 218.366 M 32 1 483"
    inside = described(capsys, "slim/resnet_v1_50", "--layers").split("\n\n")[1].splitlines()
    assert "block4.unit_3.conv2" in [line.split()[0] for line in inside]
    assert len(inside) == 1 + 2 + 16 * 5 + 2


def test_like_units_of_a_very_deep_network_share_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    listing = described(capsys, "paper/resnet1202").split("\n\n")[1].splitlines()
    assert len(listing) == 1 + 1 + 5 + 2
    assert listing[2].startswith("block1.unit_1 to unit_200")
    assert listing[2].endswith("7 to 803")


def test_the_dialects_answers_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    line = described(capsys, "keras/ResNet50V2").splitlines()[-1]
    assert "stride in conv2 of a block's last unit" in line
    assert "zeros around" in line
    assert "epsilon 1.001e-5" in line
    assert "RGB x 1/127.5 - 1" in line
    basic = described(capsys, "torchvision/resnet18").splitlines()[-1]
    assert "stride in conv1 of a block's first unit" in basic  # a basic unit strides its conv1


def test_another_dialect_size_and_classes(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--dialect", "torchvision", "--image-size", "65", "--num-classes", "7")
    found = loaded(capsys, "slim/resnet_v1_50", *words)
    assert found["dialect"] == "torchvision"
    assert found["image_size"] == 65
    assert found["layers"][-1]["shape"] == [7, 1, 1]
    shapes = {row["path"]: row["shape"] for row in found["layers"]}
    assert shapes["block4.unit_3"] == [2048, 3, 3]


def test_json_holds_everything(capsys: pytest.CaptureFixture[str]) -> None:
    found = loaded(capsys, "slim/resnet_v2_101")
    assert found["trainable"] == 44577896
    assert found["values"] == 44675560
    units = [row for row in found["layers"] if row["kind"] == "unit"]
    assert len(units) == 33
    inside = [row for row in found["layers"] if row["kind"] != "unit"]
    assert sum(row["trainable"] for row in inside) == found["trainable"]
    assert sum(row["multiply_adds"] for row in inside) == found["multiply_adds"]
    assert found["table"]["blocks"][2]["units"] == 23
    assert found["table"]["source"].startswith("He et al. 2015 (arXiv 1512.03385), table 1; He et")
    assert found["answers"]["norm_eps"] == 1e-5


def test_a_table_file_is_described_in_a_dialect(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\nform = "basic"\nimage_size = 32\nclasses = 10\n'
        'root = [{kind = "conv", name = "conv1", channels = 16, kernel = 3}]\n'
        'blocks = [{name = "block1", units = 2, width = 16, channels = 16}]\n'
    )
    text = described(capsys, str(file), "--dialect", "torchvision")
    assert "[3x3, 16 | 3x3, 16] x 2" in text
    assert "\nsource " not in text
    file.write_text(f'source = "my notes"\n{file.read_text()}')
    assert "\nsource                my notes\n" in described(
        capsys, str(file), "--dialect", "torchvision"
    )
    assert "Expected a dialect" in refused(capsys, str(file))


def test_slim_names_are_the_originals_267(capsys: pytest.CaptureFixture[str]) -> None:
    header, *lines = described(capsys, "slim/resnet_v1_50", "--names", "slim").splitlines()
    assert header.split() == ["forebear", "slim", "layout", "shape"]
    rows = [line.split(maxsplit=3) for line in lines]
    names = [theirs for _, theirs, _, _ in rows]
    assert len(names) == len(set(names)) == 267
    assert rows[0] == [
        "root.conv1.conv.weight", "resnet_v1_50/conv1/weights", "HWIO", "[7, 7, 3, 64]"
    ]  # fmt: skip
    assert names[1:5] == [
        f"resnet_v1_50/conv1/BatchNorm/{name}"
        for name in ("gamma", "beta", "moving_mean", "moving_variance")
    ]
    assert rows[-2:] == [
        ["logits.weight", "resnet_v1_50/logits/weights", "HWIO", "[1, 1, 2048, 1000]"],
        ["logits.bias", "resnet_v1_50/logits/biases", "C", "[1000]"],
    ]
    assert {line.index(name) for line, name in zip(lines, names, strict=True)} == {
        header.index("slim")
    }


def test_our_names_are_those_of_the_networks_state(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.network.making import make

    for name, home in (("slim/resnet_v2_50", "slim"), ("timm/resnetv2_50", "timm")):
        found = loaded(capsys, name, "--names", home)["arrays"]
        state = make(name, num_classes=1000).state_dict()
        assert {row["ours"] for row in found} >= {
            key for key in state if not key.endswith("num_batches_tracked")
        }
        shapes = {row["ours"]: row["shape"] for row in found if row["layout"] in ("OIHW", "C")}
        shapes.pop("logits.weight", None)  # a 1x1 convolution in timm, a matrix here
        assert shapes
        assert all(list(state[key].shape) == shape for key, shape in shapes.items())


def manifests() -> dict[str, Path]:
    """The lists of variables that the homes themselves gave, by network."""
    found = {}
    for file in sorted(MANIFESTS.glob("*.json")):
        home, _, net = file.stem.partition("_")
        found[f"{'paper' if home == 'cifar' else home}/{net}"] = file
    return {name: file for name, file in found.items() if name in NETWORKS}


@pytest.mark.parametrize("name", manifests())
def test_names_and_shapes_are_those_of_the_home(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    rows = loaded(capsys, name, "--names", NETWORKS[name].dialect.names)["arrays"]
    found = [(row["theirs"], row["shape"]) for row in rows]
    wanted = json.loads(manifests()[name].read_text())["variables"]
    expected = [(row["name"], row["shape"]) for row in wanted]
    assert sorted(_without_counters(found)) == sorted(_without_counters(expected))
    if name.startswith("slim/"):  # the others create a unit's shortcut after its convolutions
        assert found == expected


def _without_counters(rows: list[tuple[str, list[int]]]) -> list[tuple[str, list[int]]]:
    return [(name, shape) for name, shape in rows if "num_batches_tracked" not in name]


def test_names_of_another_home(capsys: pytest.CaptureFixture[str]) -> None:
    text = described(capsys, "slim/resnet_v1_50", "--names", "torchvision")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "block4.unit_3.conv3.conv.weight layer4.2.conv3.weight OIHW [2048, 512, 1, 1]" in lines
    assert "logits.weight fc.weight OI [1000, 2048]" in lines
    assert "root.conv1.norm.num_batches_tracked bn1.num_batches_tracked scalar []" in lines


@pytest.mark.parametrize("home", NAMING_SCHEMES)
def test_every_home_names_each_array_once_or_says_which_homes_do(
    capsys: pytest.CaptureFixture[str], home: str
) -> None:
    for name in ("slim/alexnet_v2", "keras/ResNeXt50", "timm/resnetv2_18", "paper/resnet20"):
        if main(["describe", name, "--names", home, "--json"]) == 0:
            found = json.loads(capsys.readouterr().out)
            names = [row["theirs"] for row in found["arrays"]]
            assert len(names) == len(set(names))
            assert found["names"] in (home, f"{home}-alexnet", f"{home}-v2")
        else:
            err = capsys.readouterr().err
            assert err.count("\n") == 1
            own = NETWORKS[name].dialect.names.removesuffix("-alexnet")
            assert "Pass names=" in err or f" {own}" in err.partition(": ")[2]


def test_names_that_a_home_cannot_give_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert refused(capsys, "slim/alexnet_v2", "--names", "keras") == (
        "forebear: names='keras' has no name for conv2.conv.weight. Expected a naming scheme that "
        "covers all arrays of alexnet_v2: slim, torchvision. Pass one of these.\n"
    )
    assert "has residual blocks. Expected 'slim'. Pass names='slim'" in refused(
        capsys, "slim/resnet_v1_50", "--names", "slim-alexnet"
    )
    file = tmp_path / "deep.toml"  # two convolutions before the blocks, where torchvision has one
    file.write_text(
        'name = "deep"\nform = "basic"\n'
        'root = [{kind = "conv", name = "conv1", channels = 16, kernel = 3},\n'
        '        {kind = "conv", name = "conv2", channels = 16, kernel = 3}]\n'
        'blocks = [{name = "block1", units = 2, width = 16, channels = 16}]\n'
    )
    words = (str(file), "--dialect", "torchvision", "--names")
    assert (
        "gives root.conv1.conv.weight and root.conv2.conv.weight the same name, conv1.weight. "
        "Expected a naming scheme that covers all arrays of deep: slim, keras, keras-old, "
        "kerashub. Pass"
    ) in refused(capsys, *words, "torchvision")
    assert "deep/conv2/weights" in described(capsys, *words, "slim")
    for other in (["--layers"], ["--draw", "x.svg"]):
        assert f"--names with {other[0]}" in refused(capsys, *words, "slim", *other)


def test_a_drawing_prints_nothing_on_stdout(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "net.svg"
    assert main(["describe", "paper/resnet20", "--draw", str(file)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"forebear: drawn: {file}\n"
    assert "<!-- paper/resnet20 -->" in file.read_text(encoding="utf-8")


def test_mistakes_say_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean slim/resnet_v1_50" in refused(capsys, "slim/resnet_v1_5")
    text = refused(capsys, "slim/resnet_v1_50", "--output-stride", "12")
    assert "supports 4, 8, 16 or 32" in text
    assert "at least 195x195" in refused(capsys, "slim/alexnet_v2", "--image-size", "194")
    assert "Did you mean slim" in refused(capsys, "slim/resnet_v1_50", "--names", "slum")


@pytest.mark.parametrize(
    "words",
    [
        ["describe", "slim/resnet_v1_50"],
        ["describe", "slim/resnet_v1_50", "--names", "slim"],
        ["describe", "slim/resnet_v1_50", "--names", "slim", "--json"],
        ["describe", "slim/resnet_v1_50", "--json"],
        ["list"],
        ["diff", "slim/resnet_v1_50", "keras/ResNet50"],
    ],
)
def test_pure_verbs_do_without_torch(words: list[str]) -> None:
    code = (
        "import sys; from forebear.cli.main import main; "
        f"code = main({words!r}); assert 'torch' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import forebear

    network = forebear.create("paper/resnet20", num_classes=7, in_channels=1)
    rule = replace(network.preprocessing, size=24, side=24, order="L", mean=(0.5,), std=(0.25,))
    network.card = replace(network.card, preprocessing=rule)
    path = tmp_path_factory.mktemp("described") / "a.safetensors"
    forebear.save(network, path)
    return path


def test_weights_are_described_by_their_own_network(
    capsys: pytest.CaptureFixture[str], weights: Path
) -> None:
    lines = described(capsys, str(weights)).splitlines()
    assert lines[0].split() == ["resnet20", "output", "dialect", "paper-cifar"]
    rows = [" ".join(line.split()) for line in lines]
    assert "logits 1x1 7-d linear" in rows
    assert any(row.startswith("multiply-adds") and row.endswith("at 24x24") for row in rows)
    assert rows[-1].endswith("shorter side to 24, centre crop (bilinear), L x 1/255 - 0.5 / 0.25")
    names = described(capsys, str(weights), "--names", "torchvision").splitlines()
    assert names[1].split()[:2] == ["root.conv1.conv.weight", "conv1.weight"]
    assert names[1].endswith("[16, 1, 3, 3]")


def test_weights_are_described_with_other_settings(
    capsys: pytest.CaptureFixture[str], weights: Path
) -> None:
    found = loaded(capsys, str(weights), "--output-stride", "1", "--num-classes", "3")
    assert (found["output_stride"], found["image_size"]) == (1, 24)
    said = refused(capsys, str(weights), "--dialect", "slim")
    assert "weights have a dialect of their own. Remove --dialect." in said


def test_a_file_without_a_network_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no weights")
    assert "notes.txt: " in refused(capsys, str(tmp_path / "notes.txt"))
    assert "is unknown" in refused(capsys, str(tmp_path / "missing.pth"))
