"""forebear's own weight files: what they keep, and that damage and impossible values are seen."""

from __future__ import annotations

import json
import math
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file as tensors_of
from safetensors.torch import save_file
from torch import Tensor

import forebear
from forebear import Block, Conv, Table, WeightsError
from forebear.network.multi_label import MultiLabel
from forebear.weights.native_format import (
    FORMAT,
    FORMAT_1,
    FORMAT_3,
    describes_itself,
    digest,
    load_file,
)
from tests.network.making import FITTED, make

SMALL = Table(
    "small",
    (Conv("conv1", 4, 3),),
    form="basic",
    blocks=(Block("b1", 1, 4, 4), Block("b2", 1, 8, 8, 2)),
    classes=3,
    image_size=16,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    net = make(SMALL, "paper-cifar-b")
    forebear.save(net, path, classes=["a", "b", "c"], metrics={"top1": 0.5})
    return path


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        metadata: dict[str, str] = file.metadata()
    return metadata


def rewrite(path: Path, key: str, change: Callable[[Any], Any]) -> None:
    """Changes a value of the metadata, and makes the hash anew, as an attacker would."""
    metadata, tensors = metadata_of(path), tensors_of(path)
    metadata[key] = json.dumps(change(json.loads(metadata.get(key, "null"))))
    metadata["sha256"] = digest(tensors, metadata)
    save_file(tensors, path, metadata)


def refusal(path: Path) -> str:
    """The message of a file that is refused, which is one printable line."""
    with pytest.raises(WeightsError) as caught:
        load_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < 1200
    return message


def test_damage_in_a_file_of_ours_is_seen(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-100] ^= 1
    path.write_bytes(whole)
    assert "its arrays and its metadata do not match their SHA-256" in refusal(path)


def test_every_value_of_the_metadata_is_under_the_hash(path: Path) -> None:
    metadata, tensors = metadata_of(path), tensors_of(path)
    assert metadata["format"] == FORMAT == "forebear weights 2"
    for key in set(metadata) - {"format", "sha256"}:
        save_file(tensors, path, {**metadata, key: metadata[key] + " "})
        assert "do not match their SHA-256" in refusal(path), key
        save_file(tensors, path, {k: value for k, value in metadata.items() if k != key})
        assert "do not match their SHA-256" in refusal(path), key
    save_file(tensors, path, {**metadata, "more": "1"})
    assert "do not match their SHA-256" in refusal(path)
    changed = {**metadata, "classes": metadata["classes"].replace('"a"', '"z"')}
    save_file(tensors, path, changed)
    assert "do not match their SHA-256" in refusal(path)
    save_file(tensors, path, {**metadata, "format": FORMAT_1})
    assert "its arrays do not match their SHA-256" in refusal(path)
    save_file(tensors, path, metadata)
    assert load_file(path).classes == ("a", "b", "c")


def test_a_file_of_a_later_format_asks_for_an_update(path: Path) -> None:
    save_file(tensors_of(path), path, {**metadata_of(path), "format": "forebear weights 9"})
    assert describes_itself(path)
    assert refusal(path).endswith(
        "its metadata have format='forebear weights 9'. Expected 'forebear weights 3', 'forebear "
        "weights 2' or 'forebear weights 1'. Pass a file that forebear.save wrote, or update "
        "forebear."
    )


def test_thresholds_of_a_multi_label_network_are_kept_in_a_format_of_their_own(
    path: Path, tmp_path: Path
) -> None:
    net = load_file(path)
    assert not net.multi_label
    several = MultiLabel(thresholds=(0.25, 0.5, 1.0), images=7, fingerprint="ab")
    net.card = replace(net.card, multi_label=several)
    again = tmp_path / "several.safetensors"
    forebear.save(net, again)
    assert metadata_of(again)["format"] == FORMAT_3 == "forebear weights 3"
    found = forebear.load(again)
    assert found.multi_label
    assert found.card.multi_label == several
    for changes in ({"format": FORMAT}, {"multi_label": '{"thresholds": [0.5]}'}):
        tensors, metadata = tensors_of(again), metadata_of(again) | changes
        metadata["sha256"] = digest(tensors, metadata)
        save_file(tensors, again, metadata)
        with pytest.raises(WeightsError, match="not consistent"):
            load_file(again)
        forebear.save(net, again)


def test_the_source_of_a_table_is_kept_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    net = make("paper/resnet20")
    forebear.save(net, path)
    metadata = metadata_of(path)
    assert metadata["table_source"].startswith("He et al. 2015 (arXiv 1512.03385), section 4.2")
    assert "source" not in json.loads(metadata["table"])  # forebear without sources reads it
    assert forebear.load(path).table.source == net.table.source == metadata["table_source"]
    del metadata["table_source"]  # as files were before
    metadata |= {"format": FORMAT_1, "sha256": digest(net.state_dict())}
    save_file(net.state_dict(), path, metadata)
    older = forebear.load(path).table
    assert older.source == ""
    assert older == net.table


def test_a_calibration_is_kept_and_takes_no_key_without_one(path: Path) -> None:
    assert "calibration" not in metadata_of(path)
    net = load_file(path)
    assert net.card.calibration is None
    net.card = replace(net.card, calibration=FITTED)
    forebear.save(net, path)
    assert json.loads(metadata_of(path)["calibration"]) == FITTED.as_dict()
    assert load_file(path).card == net.card


def test_a_file_of_the_first_format_stays_readable() -> None:
    net = forebear.load(Path(__file__).parent / "format1.safetensors")
    assert (net.table.name, net.dialect.name, net.classes) == ("kept", "torchvision", ("a", "b"))
    assert net.card.metrics == {"top1": 0.5}
    assert net.card.provenance == {"file": "made by hand"}
    image = torch.linspace(-1, 1, 3 * 64).reshape(1, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(net(image), torch.tensor([[-0.3189, 0.0302]]), atol=1e-4, rtol=0)


def changed(**values: Any) -> Callable[[Any], Any]:
    return lambda data: {**data, **values}


def first_block(**values: Any) -> Callable[[Any], Any]:
    return lambda data: {
        **data,
        "blocks": [{**data["blocks"][0], **values}, *data["blocks"][1:]],
    }


def of_calibration(**values: Any) -> Callable[[Any], Any]:
    return lambda _: FITTED.as_dict() | values


IMPOSSIBLE: list[tuple[str, Callable[[Any], Any], str]] = [
    ("preprocessing", changed(resize="xhorter"), "resize='xhorter'. Expected one of shorter"),
    ("preprocessing", changed(interpolation="x"), "interpolation='x'. Expected one of nearest"),
    ("preprocessing", changed(std=[0, 1, 1]), "std=(0, 1, 1). Expected a tuple of 3 finite"),
    ("preprocessing", changed(scale=math.nan), "scale=nan. Expected a finite number other"),
    ("preprocessing", changed(size=10**6), "size=1000000. Expected an integer from 1 to 8,192"),
    ("preprocessing", changed(size=8192, side=8192), "makes 268,435,456 values at root.conv1"),
    ("preprocessing", changed(mean=5), "mean=5. Expected a tuple of 3 finite numbers"),
    ("preprocessing", lambda _: [], "preprocessing=[]: expected a mapping"),
    ("dialect", changed(norm_eps=math.inf), "norm_eps=inf. Expected a number above 0"),
    ("dialect", changed(shortcut="x"), "shortcut='x'. Expected one of widen"),
    ("classes", lambda _: ["a"], "1 class names for 3 logits: expected one name for each"),
    ("classes", lambda _: ["a", "a", "b"], "classes 0 and 1 have the same name, 'a'"),
    ("classes", lambda _: ["a", "\udc80", "b"], r"class 1 is '\udc80'. Expected a name"),
    ("classes", lambda _: {"a": 1}, "classes: {'a': 1}. Expected at most 100,000 names"),
    ("built", changed(num_classes=10**9), "num_classes=1000000000: expected a positive integer"),
    ("built", changed(in_channels=0), "in_channels=0: expected a positive integer"),
    ("built", changed(output_stride=7), "output_stride=7: small supports 1 or 2."),
    ("built", changed(global_pool="no"), "built: global_pool='no'. Expected true or false"),
    ("built", changed(x=1), "built: the key 'x' is unknown"),
    ("metrics", lambda _: [1], "card: metrics=[1]. Expected a mapping"),
    ("calibration", of_calibration(temperature=0), "temperature=0. Expected a number from 0.0156"),
    ("calibration", of_calibration(threshold=math.nan), "threshold=nan. Expected a number from"),
    ("calibration", of_calibration(x=1), "calibration: the key 'x' is unknown"),
    ("calibration", lambda _: [], "calibration=[]: expected a mapping"),
    ("provenance", lambda _: None, "card: provenance=None. Expected a mapping"),
    ("table", first_block(units=10**9), "units=1000000000. Expected a positive integer of at most"),
    ("table", first_block(units=10**6), "units=1000000. Expected a positive integer of at most"),
    ("table", first_block(units=9_000), "107988 arrays are missing and 0 are unexpected"),
    ("table", first_block(channels=10**5, width=10**5), "the network has 90,013,200,823 values"),
    ("table", first_block(stride=2), "6 arrays are missing"),
    ("table", changed(name="\x1b[31m"), r"row '\x1b[31m': this is not a valid name"),
    ("table", lambda _: 5, "int instead of a table: expected a mapping"),
]


@pytest.mark.parametrize(("key", "change", "message"), IMPOSSIBLE)
@pytest.mark.long
def test_a_value_that_is_not_possible_is_refused_by_its_name(
    path: Path, key: str, change: Callable[[Any], Any], message: str
) -> None:
    rewrite(path, key, change)
    assert message in refusal(path)


def test_json_that_is_too_deep_or_missing_is_refused(path: Path) -> None:
    metadata, tensors = metadata_of(path), tensors_of(path)
    for text, message in (
        ("[" * 100_000, "nested more than 64 levels deep"),
        ("{", "are not consistent (Expecting property name"),
    ):
        metadata["metrics"] = text
        save_file(tensors, path, {**metadata, "sha256": digest(tensors, metadata)})
        assert message in refusal(path)
    del metadata["metrics"]
    save_file(tensors, path, {**metadata, "sha256": digest(tensors, metadata)})
    assert "the metadata lack 'metrics'" in refusal(path)


def with_array(name: str, tensor: Tensor) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {**tensors, name: tensor}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_array("x\x1b\n", torch.zeros(1)), r"1 are unexpected. The first is 'x\x1b\n'"),
        (with_array("logits.bias", torch.zeros(4)), "float32 [4] instead of torch.float32 [3]"),
        (with_array("logits.bias", torch.zeros(3).half()), "torch.float16 [3] instead of"),
        (with_array("logits.bias", torch.zeros(3).bool()), "torch.bool [3] instead of"),
        (lambda tensors: {k: v.to(torch.int8) for k, v in tensors.items()}, "torch.int8"),
        (lambda tensors: {k: v for k, v in tensors.items() if k != "logits.bias"}, "1 arrays are"),
    ],
)
def test_arrays_that_do_not_fit_the_table_are_named(
    path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    metadata, tensors = metadata_of(path), change(tensors_of(path))
    save_file(tensors, path, {**metadata, "sha256": digest(tensors, metadata)})
    assert message in refusal(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_dtypes_are_kept(path: Path, dtype: torch.dtype) -> None:
    net = load_file(path).to(dtype)
    forebear.save(net, path)
    assert {p.dtype for p in load_file(path).parameters()} == {dtype}


def test_a_metric_that_is_not_finite_is_saved_as_null(path: Path) -> None:
    net = load_file(path)
    forebear.save(net, path, metrics={"loss": math.nan, "all": [math.inf, 1.0]})
    metadata = metadata_of(path)
    assert metadata["metrics"] == '{"loss": null, "all": [null, 1.0]}'
    assert load_file(path).card.metrics == {"loss": None, "all": [None, 1.0]}


def test_class_names_that_cannot_be_keys_are_not_saved(path: Path) -> None:
    before = path.read_bytes()
    for classes, message in (
        (["a", "a", "b"], "classes 0 and 1 have the same name"),
        (["a", "b"], "2 class names for 3 logits"),
        (["a", "b", "\udc80"], "class 2 is"),
    ):
        with pytest.raises(ValueError, match=message):
            forebear.save(load_file(path), path, classes=classes)
    assert path.read_bytes() == before


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    pipe, device = tmp_path / "pipe.safetensors", tmp_path / "device.safetensors"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for place, message in (
        (pipe, "it is a pipe, not a file"),
        (device, "it is a device, not a file"),
        (tmp_path, "it is a folder, not a file"),
        (tmp_path / "none", "No such file or directory"),
    ):
        assert not describes_itself(place)
        assert message in refusal(place)


# Loads each file under a limit of memory, and prints what is no WeightsError.
CHILD = """
import resource, sys, traceback
import torch
from pathlib import Path
from forebear import WeightsError
from forebear.weights.native_format import describes_itself, load_file
torch.set_num_threads(1)
refused = 0
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        describes_itself(path)
        load_file(path)
    except WeightsError as error:
        assert str(error).isprintable(), repr(error)
        refused += 1
print(refused)
"""


def in_child(folder: Path) -> int:
    """Loads all files of a folder in a process with little memory; returns how many it refuses."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def mutated(whole: bytes, draws: random.Random) -> bytes:
    """A file with one kind of damage, mostly in its header."""
    damaged = bytearray(whole)
    at = draws.randrange(len(whole) if draws.random() < 0.3 else 8000)
    kind = draws.randrange(6)
    if kind == 0:
        del damaged[at : at + draws.randrange(1, 50)]
    elif kind == 1:
        damaged[at:at] = draws.randbytes(draws.randrange(1, 20))
    elif kind == 2:
        del damaged[at:]
    elif kind == 3:
        damaged[:8] = struct.pack("<Q", draws.choice([0, 2**63, 2**40, 10, len(whole)]))
    else:
        damaged[at] ^= 1 << draws.randrange(8)
    return bytes(damaged)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process")
@pytest.mark.long
def test_2000_mutated_files_are_refused_in_one_line(path: Path, tmp_path: Path) -> None:
    draws, whole = random.Random(0), path.read_bytes()
    folder = tmp_path / "mutated"
    folder.mkdir()
    for number in range(2000):
        damaged = mutated(whole, draws)
        if damaged != whole:
            (folder / f"{number}.safetensors").write_bytes(damaged)
    assert in_child(folder) == len([*folder.iterdir()]) > 1990


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process")
@pytest.mark.long
def test_a_small_file_cannot_ask_for_much_memory(path: Path, tmp_path: Path) -> None:
    whole, folder = path.read_bytes(), tmp_path / "bombs"
    folder.mkdir()
    for number, change in enumerate(
        (
            first_block(units=10**9),
            first_block(units=10_000 - 3),
            first_block(channels=10**5, width=10**5),
            first_block(channels=16_000, width=16_000, convs=[[16_000, 1]]),
            changed(classes=10**9),
            changed(blocks=[{"name": "b", "units": 1, "width": 1, "channels": 1}] * 20_000),
        )
    ):
        bomb = folder / f"{number}.safetensors"
        bomb.write_bytes(whole)
        rewrite(bomb, "table", change)
    with (folder / "sparse.safetensors").open("wb") as file:
        file.write(whole)
        file.truncate(20 * 2**30)
    assert in_child(folder) == 7
