"""forebear predict: a line an image, best class first."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import forebear
from forebear.cli.main import main
from forebear.weights.variable_names import pairs
from tests.cli.making import CLASSES, folder, image
from tests.network.making import FITTED, make
from tests.weights.onnx_making import Editor


@pytest.fixture(autouse=True)
def one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only torch, so that no line about a measurement comes between those of the tests."""
    monkeypatch.setattr("forebear.engines.open.MEASURED", ("torch",))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    net = make("paper/resnet20", num_classes=3)
    names = ["n01440764", "dog", "owl"]
    forebear.save(net, tmp_path / "net.safetensors", classes=names)
    return tmp_path / "net.safetensors"


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in (2, 0, 1)]
    for kind, path in enumerate(paths):
        Image.fromarray(image(kind, 7)).save(path)
    return paths


def test_a_line_an_image_in_the_order_given(
    saved: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(saved), *map(str, images), "--top", "1"]) == 0
    out, err = capsys.readouterr()
    assert [line.split(": ")[0] for line in out.splitlines()] == [str(path) for path in images]
    assert all(line.endswith("%") and "," not in line for line in out.splitlines())
    assert err == ""


def test_classes_and_probabilities_are_the_networks(
    saved: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    net = forebear.load(saved)
    with torch.inference_mode():
        shares = net(net.preprocess(images[0]))[0].softmax(0).tolist()
    wanted = sorted(zip(net.classes, shares, strict=True), key=lambda pair: -pair[1])
    assert main(["predict", str(saved), str(images[0]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["image"] == str(images[0])
    assert [guess["class"] for guess in found["classes"]] == [name for name, _ in wanted]
    assert [guess["probability"] for guess in found["classes"]] == pytest.approx(
        [share for _, share in wanted]
    )
    assert main(["predict", str(saved), str(images[0])]) == 0
    words = {"n01440764": "n01440764 (tench)"}
    listed = ", ".join(f"{words.get(name, name)} {share:.2%}" for name, share in wanted)
    assert capsys.readouterr().out == f"{images[0]}: {listed}\n"


def test_with_weights_all_words_are_images(
    saved: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "--weights", str(saved), str(images[0]), str(images[1])]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_mistakes_are_one_line(
    saved: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(saved)]) == 2
    said = "forebear: no IMAGE: expected at least one image after RUN. Pass its path.\n"
    assert capsys.readouterr() == ("", said)
    assert main(["predict", str(saved), str(images[0]), "--top", "0"]) == 2
    assert capsys.readouterr().err.startswith("forebear: top=0: expected")


def test_images_that_cannot_be_read_are_named_and_the_others_are_answered(
    saved: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images[1].write_bytes(b"no image")
    words = ["predict", str(saved), *map(str, images)]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert [line.split(": ")[0] for line in out.splitlines()] == [str(images[0]), str(images[2])]
    first, last = err.splitlines()
    assert first.startswith(f"forebear: {images[1]}: ")
    assert last == "forebear: 1 of 3 images could not be read"
    assert main([*words, "--bad", "skip"]) == 0
    assert capsys.readouterr().out == out
    assert main([*words, "--bad", "fail"]) == 2
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_folder_is_its_images(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path / "set", 2)
    (root / "across" / "notes.txt").write_text("words")
    assert main(["predict", str(saved), str(root)]) == 0
    names = [line.split(": ")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [str(root / kind / f"{n}.png") for kind in CLASSES for n in range(2)]
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(saved), str(tmp_path / "empty")]) == 2
    assert "empty: no images inside" in capsys.readouterr().err


def test_class_names_cannot_control_the_terminal(
    tmp_path: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["\x1b]0;owned\x07", "two\nlines", "\x9b31m\u202e"]
    path = tmp_path / "net.safetensors"
    forebear.save(make("paper/resnet20", num_classes=3), path, classes=names)
    odd = images[0].rename(tmp_path / "a\x1b[31m.png")
    assert main(["predict", str(path), str(odd)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable()
    assert r"'two\nlines'" in line
    assert main(["predict", str(path), str(odd), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable()
    found = json.loads(line)
    assert {guess["class"] for guess in found["classes"]} == set(names)
    assert found["image"] == str(odd)


def test_names_of_other_alphabets_are_printed_as_they_are(
    tmp_path: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.safetensors"
    forebear.save(make("paper/resnet20", num_classes=2), path, classes=["Füchse", "狐"])
    assert main(["predict", str(path), str(images[0]), "--json"]) == 0
    assert '"Füchse"' in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_weights_that_are_not_finite_are_an_error(
    tmp_path: Path, images: list[Path], capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    net = make("paper/resnet20", num_classes=3)
    net.get_parameter("logits.weight").data.fill_(float("nan"))
    forebear.save(net, tmp_path / "net.safetensors")
    assert main(["predict", str(tmp_path / "net.safetensors"), str(images[0]), *options]) == 2
    assert capsys.readouterr() == (
        "",
        f"forebear: {tmp_path / 'net.safetensors'}: its array logits.weight has values that are "
        "not finite, so its results are not finite either. Expected finite weights. Pass other "
        "weights.\n",
    )


def test_a_folder_into_a_file(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "in", 3)
    (tmp_path / "in" / CLASSES[0] / "0.png").write_text("broken")
    words = ["predict", str(saved), str(tmp_path / "in"), "--out", str(tmp_path / "r.csv")]
    assert main([*words, "--top", "2"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "9 images" in told.err
    assert "1 of 9 images could not be read" in told.err
    text = (tmp_path / "r.csv").read_text().splitlines()
    assert len(text) == 10
    assert text[0] == "path,class,probability,class_2,probability_2,error"
    assert main([*words, "--top", "2", "--bad", "skip"]) == 0
    assert "9 of 9 images answered" in capsys.readouterr().err
    assert (tmp_path / "r.csv").read_text().splitlines() == text
    assert main([*words, "--top", "1"]) == 2
    assert "the result of another job (--top differ)" in capsys.readouterr().err


def test_shards_patterns_and_stdin(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    folder(tmp_path / "in", 3)
    place = tmp_path / "in" / CLASSES[1]
    pattern = str(place / "*.png")
    assert main(["predict", str(saved), pattern, "--json"]) == 0
    every = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["image"] for line in every] == [
        str(place / f"{number}.png") for number in range(3)
    ]
    parts = []
    for part in ("1/2", "2/2"):
        assert main(["predict", str(saved), pattern, "--json", "--shard", part]) == 0
        parts += capsys.readouterr().out.splitlines()
    assert [json.loads(line)["image"] for line in parts] == [
        json.loads(line)["image"] for line in every
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{place / '2.png'}\n\n{place / '0.png'}\n"))
    assert main(["predict", str(saved), "-"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(place / "2.png"), str(place / "0.png")]
    assert main(["predict", str(saved), str(place / "*.jpg")]) == 2
    assert "no file matches" in capsys.readouterr().err
    assert main(["predict", str(saved), str(tmp_path / "in"), "--no-recursive"]) == 2
    assert "no images inside" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--top", "0"], "top=0: expected 1 or more"),
        (["--batch", "0"], "batch=0: expected 1 or more"),
        (["--shard", "3/2"], "shard=3/2: expected I/N"),
        (["--json", "--out", "r.csv"], "--json and --out"),
        (["--out", "r.txt"], "Expected one of .csv, .jsonl, .parquet"),
        (["--precision", "int8"], "Run forebear quantize"),
        (["--device", "nothing"], "device='nothing' is no device"),
        (["--tta", "mirror", "--ray", "auto"], "--tta mirror: the workers of --ray"),
    ],
)
def test_arguments_that_cannot_be(
    words: list[str], message: str, saved: Path, images: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(["predict", str(saved), str(images[0]), *words]) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def calibrated(saved: Path) -> Path:
    """Weights by which every image is unknown."""
    net = forebear.load(saved)
    net.card = replace(net.card, calibration=replace(FITTED, threshold=1.0))
    forebear.save(net, saved)
    return saved


def test_an_image_below_the_threshold_is_unknown_and_its_best_class_is_shown(
    calibrated: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(calibrated), str(images[0])]
    assert main([*words, "--unknown"]) == 0
    line = capsys.readouterr().out
    assert re.fullmatch(r".*: unknown \(most probable: .* \d+\.\d\d%\)\n", line)
    assert main([*words, "--unknown", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unknown"] is True
    assert main([*words, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert "unknown" not in plain
    assert plain["classes"] == found["classes"]


def test_unknown_images_of_a_file_and_a_job_of_another_calibration(
    calibrated: Path, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    words = ["predict", str(calibrated), *map(str, images), "--top", "2", "--out", str(out)]
    assert main([*words, "--unknown"]) == 0
    lines = out.read_text().splitlines()
    assert lines[0] == "path,class,probability,class_2,probability_2,error"
    assert [line.split(",")[1] for line in lines[1:]] == ["unknown"] * 3
    capsys.readouterr()
    assert main(words) == 2  # the same job without --unknown has other answers
    assert "it is the result of another job" in capsys.readouterr().err
    net = forebear.load(calibrated)
    net.card = replace(net.card, calibration=replace(FITTED, temperature=3.0, threshold=1.0))
    forebear.save(net, calibrated)
    assert main([*words, "--unknown"]) == 2
    assert main([*words, "--unknown", "--replace"]) == 0


def test_unknown_without_a_threshold_names_the_verb_that_makes_one(
    saved: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(saved), str(images[0]), "--unknown"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has no threshold for unknown images" in line
    assert "Run forebear calibrate" in line


def test_mirror_images_change_the_answers_and_the_job(
    saved: Path, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(saved), str(images[0]), "--json"]
    shown = []
    for more in ([], ["--tta", "mirror"]):
        assert main([*words, *more]) == 0
        said = capsys.readouterr()
        shown.append(said.out)
        assert ("takes twice the time" in said.err) == bool(more)
    assert shown[0] != shown[1]
    job = ["predict", str(saved), str(images[0]), "--out", str(tmp_path / "r.csv")]
    assert main(job) == 0
    assert main([*job, "--tta", "mirror"]) == 2
    assert "weights differ" in capsys.readouterr().err


GRAPHS = Path(__file__).parents[1] / "weights" / "goldens" / "families"


def test_a_graph_of_another_program_is_read_as_weights(
    images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = GRAPHS / "zoo_mxnet_v2_bottleneck.onnx"
    net = forebear.load(path)
    with torch.inference_mode():
        shares = net(net.preprocess(images[0]))[0].softmax(0).tolist()
    assert main(["predict", str(path), str(images[0]), "--json", "--top", "9"]) == 0
    out, err = capsys.readouterr()
    found = {row["class"]: row["probability"] for row in json.loads(out)["classes"]}
    assert [found[str(number)] for number in range(9)] == pytest.approx(shares, abs=1e-5)
    assert f"{path}: read from an ONNX graph of mxnet: pre-activation bottleneck units" in err


def test_a_graph_that_is_no_network_of_forebear_is_refused(
    images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = Editor(GRAPHS / "zoo_mxnet_v2_bottleneck.onnx")
    graph.change("Add", op="Concat")
    path = graph.write(tmp_path / "other.onnx")
    assert main(["predict", str(path), str(images[0])]) == 2
    assert f"{path}: this ONNX graph of mxnet is no network of forebear: node" in (
        capsys.readouterr().err
    )


def test_what_was_noticed_in_a_file_is_said_once(
    images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = make("torchvision/resnet18", num_classes=3).state_dict()
    names = {pair.ours: pair.theirs for pair in pairs(make("torchvision/resnet18").plan)}
    held = {names[name]: value for name, value in state.items() if name in names}
    torch.save({"state_dict": held, "args": Namespace(lr=0.1)}, tmp_path / "net.pth")
    for _ in range(2):  # the second time, the graph may be kept
        assert main(["predict", "--weights", str(tmp_path / "net.pth"), str(images[0])]) == 0
        assert capsys.readouterr().err.count("left unbuilt: argparse.Namespace") == 1
