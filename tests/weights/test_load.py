from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import forebear
from forebear import Block, Table, WeightsError
from forebear.cli.main import main
from forebear.tables.resnet import IMAGENET_ROOT
from forebear.weights import catalog
from forebear.weights.catalog import Hash, Published, find_published
from forebear.weights.load import sha256
from forebear.weights.readers.detect import open_arrays
from forebear.weights.variable_names import pairs
from tests.network.making import make

SHARED = Path(__file__).parents[3] / "shared"
CHECKPOINTS = SHARED / "goldens" / "checkpoints"
PUBLISHED = SHARED / "data" / "checkpoints" / "resnet20-12fca82f.th"
SLIM = tuple(
    Block(f"block{n}", units, width, 4 * width, 1 if n == 1 else 2)
    for n, (width, units) in enumerate(((2, 2), (3, 3), (4, 2), (5, 2)), start=1)
)
KERAS = tuple(
    Block(f"block{n}", units, width, 4 * width, min(n, 2))
    for n, (width, units) in enumerate(((4, 2), (6, 2), (8, 3)), start=1)
)
RESNEXT = tuple(
    Block(f"block{n}", units, 4 * (1 + n), 64 * (1 + n), min(n, 2), groups=4)
    for n, units in enumerate((2, 2, 3), start=1)
)


# The real frameworks' files: blocks, dialect and classes of the network that wrote them.
FILES: dict[str, tuple[Any, str, str, int]] = {
    "slim_tiny_v1.format_v1.ckpt": (SLIM, "slim-v1", "tiny_v1", 7),
    "slim_tiny_v1.format_v2.ckpt": (SLIM, "slim-v1", "tiny_v1", 7),
    "slim_tiny_v2.format_v1.ckpt": (SLIM, "slim-v2", "tiny_v2", 7),
    "slim_tiny_v2.format_v2.ckpt": (SLIM, "slim-v2", "tiny_v2", 7),
    "slim_tiny_v2.format_v2_3shards.ckpt": (SLIM, "slim-v2", "tiny_v2", 7),
    "keras2_tiny_v1.h5": (KERAS, "keras2-v1", "tiny", 5),
    "keras2_tiny_v1.whole.h5": (KERAS, "keras2-v1", "tiny", 5),
    "keras2_tiny_v2.h5": (KERAS, "keras2-v2", "tiny", 5),
    "keras2_tiny_v2.whole.h5": (KERAS, "keras2-v2", "tiny", 5),
    "keras2_tiny_resnext.h5": (RESNEXT, "keras-resnext", "tiny", 5),
    "keras3_tiny_v1.weights.h5": (KERAS, "keras-v1", "tiny", 5),
    "keras3_tiny_v1.keras": (KERAS, "keras-v1", "tiny", 5),
    "keras3_tiny_v1.whole.h5": (KERAS, "keras-v1", "tiny", 5),
    "keras3_tiny_v2.weights.h5": (KERAS, "keras-v2", "tiny", 5),
    "keras3_tiny_v2.keras": (KERAS, "keras-v2", "tiny", 5),
    "keras3_tiny_v2.whole.h5": (KERAS, "keras-v2", "tiny", 5),
}


@pytest.mark.skipif(not CHECKPOINTS.is_dir(), reason="the checkpoints lie beside the repository")
@pytest.mark.parametrize("file", FILES)
def test_every_file_of_the_real_frameworks_gives_their_logits(file: str) -> None:
    blocks, dialect, name, classes = FILES[file]
    table = Table(name, IMAGENET_ROOT, blocks=blocks)
    net = forebear.create(table, dialect=dialect, num_classes=classes).eval()
    with forebear.read_arrays(CHECKPOINTS / file) as arrays:
        assert forebear.load_arrays(net, arrays) == []
    with np.load(CHECKPOINTS / f"{file.partition('.')[0]}.expected.npz") as expected:
        images = torch.from_numpy(expected["__input__"]).permute(0, 3, 1, 2)
        logits = expected["__logits__"].reshape(len(images), classes)
    with torch.inference_mode():
        assert np.abs(net(images).numpy() - logits).max() < 1e-5


def test_a_partial_load_says_what_stayed_and_refuses_when_nothing_fits(tmp_path: Path) -> None:
    source = make("paper/resnet20")
    from forebear.tasks.convert import convert

    forebear.save(source, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="linear.weight .10, 64., expected .3, 64."):
        forebear.load("paper/resnet20", weights=tmp_path / "b.pth", num_classes=3)
    net = forebear.create("paper/resnet20", num_classes=3)
    with open_arrays(tmp_path / "b.pth") as arrays:
        stayed = forebear.load_arrays(net, arrays, partial=True)
    assert stayed == ["logits.weight", "logits.bias"]
    name = "block3.unit_3.conv2.conv.weight"
    assert torch.equal(net.state_dict()[name], source.state_dict()[name])
    with pytest.raises(WeightsError, match="0 missing|missing"):
        forebear.load_arrays(net, {"x": np.zeros(1)}, partial=True)
    tuned = forebear.load("paper/resnet20", weights=tmp_path / "b.pth", num_classes=3, partial=True)
    assert torch.equal(tuned.state_dict()[name], source.state_dict()[name])


def test_weights_of_a_table_of_ones_own_and_files_of_ours_load_by_name(tmp_path: Path) -> None:
    from forebear.tasks.convert import convert

    table = Table("mine", IMAGENET_ROOT, blocks=SLIM, classes=4)
    net = make(table, "slim-v1")
    forebear.save(net, tmp_path / "a.safetensors")
    image = torch.randn(1, 3, 65, 65)
    with torch.inference_mode():
        again = forebear.load(table, weights=tmp_path / "a.safetensors", dialect="slim-v1")
        assert torch.equal(again(image), net(image))
        convert(tmp_path / "a.safetensors", tmp_path / "b.ckpt", to="slim")
        slim = forebear.load(table, weights=tmp_path / "b.ckpt", dialect="slim-v1")
        assert torch.equal(slim(image), net(image))
        with pytest.raises(WeightsError, match="none has weights of these shapes"):
            convert(tmp_path / "a.safetensors", tmp_path / "c.pth", to="timm")
    with pytest.raises(WeightsError, match="none.ckpt: no such file"):
        forebear.load(tmp_path / "none.ckpt")


def test_random_weights_are_never_loaded_in_silence() -> None:
    with pytest.raises(ValueError, match="would keep its random initial weights"):
        forebear.load("paper/resnet20")
    with pytest.raises(ValueError, match="network='resnet_v1_5O' is unknown"):
        forebear.load("resnet_v1_5O")


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published file lies beside the repository")
@pytest.mark.long
def test_the_published_file_predicts_and_evaluates_straight_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = forebear.load(PUBLISHED)
    assert net.table.name == "resnet20"
    assert net.classes[0] == "airplane"
    renamed = tmp_path / "what.bin"
    shutil.copy(PUBLISHED, renamed)
    provenance = forebear.load(renamed).card.provenance
    assert provenance["sha256"].startswith("12fca82f")
    assert provenance["weights"] == "paper/resnet20 akamaster"
    assert provenance["converter"] == f"forebear {forebear.__version__}"
    data = f"npz:{SHARED / 'data' / 'cifar10_exact_subset.npz'}"
    assert main(["evaluate", str(PUBLISHED), "--data", data]) == 0
    assert "top-1     91.64%" in capsys.readouterr().out


def test_a_file_that_timm_published_keeps_its_licence_and_preprocessing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its names and shapes are torchvision's, so that the network is recognised as that."""
    path = tmp_path / "w.pth"
    network = forebear.create("torchvision/resnet18")
    state = network.state_dict()
    torch.save({pair.theirs: state[pair.ours] for pair in pairs(network.plan)}, path)
    known = Hash("sha256", sha256(path))

    def publish(*rows: Published) -> None:
        new = tuple(replace(row, hash=known) for row in rows)
        monkeypatch.setattr(catalog, "PUBLISHED", new)

    row = find_published("timm/resnet18", "a1_in1k")
    both = find_published("torchvision/resnet18"), find_published("timm/resnet18", "tv_in1k")
    publish(row)
    found = forebear.load(path)
    assert found.card.provenance["network"] == "torchvision/resnet18"
    assert found.card.provenance["weights"] == "timm/resnet18 a1_in1k"
    assert found.card.provenance["licence"] == "Apache-2.0"
    assert found.preprocessing == row.preprocessing
    assert found.preprocessing.interpolation == "bicubic"
    assert found.classes[0] == "tench"

    publish(*both)
    assert forebear.load(path).card.provenance["weights"] == "torchvision/resnet18 IMAGENET1K_V1"
    named = forebear.load("timm/resnet18", weights=path)
    assert named.card.provenance["weights"] == "timm/resnet18 tv_in1k"

    publish(replace(row, network="slim/resnet_v1_50"))  # the row of another function
    assert "weights" not in forebear.load(path).card.provenance


def test_a_run_folder_is_taken_wherever_a_checkpoint_is(tmp_path: Path) -> None:
    from forebear.weights.load import find_card, find_network, library_arrays
    from tests.tasks.making import write_run

    run = write_run(tmp_path / "run")
    net = make("paper/resnet20", num_classes=3)
    forebear.save(net, run / "model.safetensors", classes=("a", "b", "c"))
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        for again in (
            forebear.load(run),
            forebear.load(str(run)),
            forebear.load("paper/resnet20", weights=run),
        ):
            assert torch.equal(again(image), net(image))
    card = find_card(run)
    assert card is not None
    assert card.classes == ("a", "b", "c")
    assert find_network(run)[0] == "resnet20"
    with library_arrays(run) as arrays:
        assert "conv1.weight" in arrays
    with pytest.raises(
        WeightsError, match=r"which='ema': .*has one set of weights\. Expected 'raw'"
    ):
        forebear.load(run, which="ema")


def test_a_run_that_did_not_finish_is_refused_as_one(tmp_path: Path) -> None:
    from tests.tasks.making import write_run

    run = write_run(tmp_path / "run")
    (run / "model.safetensors").unlink(missing_ok=True)
    for words in ({"what": run}, {"what": "paper/resnet20", "weights": run}):
        with pytest.raises(WeightsError, match=r"a run that did not finish.*train --resume"):
            forebear.load(**words)
