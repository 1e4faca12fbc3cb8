"""Pickles that ask for code, or for too much memory, are refused before any is executed."""

from __future__ import annotations

import argparse
import datetime
import enum
import pickle
import types
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from forebear.weights.readers.detect import open_arrays
from forebear.weights.readers.torch.state_dict import LEGACY_START
from tests.weights.readers.making import Tempting, assert_same, refusal
from tests.weights.readers.torch.making import KINDS, rezip, save


@KINDS
@pytest.mark.parametrize("call", ["system", "exec", "eval"])
@pytest.mark.parametrize("place", ["alone", "beside", "nested", "key"])
def test_code_is_refused_by_name_and_not_run(
    zipped: bool, call: str, place: str, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    evil = Tempting(canary, call)
    content: object = {
        "alone": evil,
        "beside": {"a": torch.ones(1), "b": evil},
        "nested": {"state_dict": {"a": torch.ones(1)}, "epoch": [1, {"x": (evil,)}]},
        "key": OrderedDict([(evil, torch.ones(1))]),
    }[place]
    said = refusal(save(tmp_path / "a.pth", content, zipped=zipped))
    assert call in said
    assert "nothing was executed" in said
    assert not canary.exists()


@pytest.mark.parametrize("protocol", [0, 3, 4])
def test_code_in_other_protocols_is_refused(protocol: int, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    data = pickle.dumps(Tempting(canary, "system"), protocol)
    path = save(tmp_path / "a.pth", {"a": torch.ones(1)})
    assert refusal(rezip(path, {"data.pkl": data}))
    path.write_bytes(LEGACY_START + data)
    refusal(path)
    assert not canary.exists()


def test_a_whole_module_is_refused_with_what_to_do(tmp_path: Path) -> None:
    said = refusal(save(tmp_path / "a.pth", torch.nn.Linear(2, 2)))
    assert "torch.nn.modules.linear.Linear" in said
    assert "save only model.state_dict()" in said


@KINDS
def test_a_value_shown_a_billion_times_is_refused(zipped: bool, tmp_path: Path) -> None:
    state = {"small": torch.ones(1), "a": torch.ones(1).expand(10**9)}
    said = refusal(save(tmp_path / "a.pth", state, zipped=zipped))
    assert "asks for 1000000000 values" in said
    state["a"] = torch.ones(1).expand(400, 400, 400)
    said = refusal(save(tmp_path / "a.pth", state, zipped=zipped))
    assert "a: with [400, 400, 400] the tensors have 256000004 bytes" in said


@KINDS
def test_a_shape_beyond_its_storage_is_refused(zipped: bool, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.ones(77, 3)}, zipped=zipped)
    small, large = b"K\x4d", b"J\x00\xca\x9a\x3b"  # 77, and 10 ** 9
    if zipped:
        with ZipFile(path) as archive:
            pickled = archive.read("a/data.pkl")
        refusal(rezip(path, {"data.pkl": pickled.replace(small, large)}))
        numel = pickled.replace(b"K\xe7", b"J\x00\xca\x9a\x3b").replace(small, large)
        refusal(rezip(path, {"data.pkl": numel}))
    else:
        data = path.read_bytes()
        path.write_bytes(data.replace(small, large))
        refusal(path)
        path.write_bytes(data.replace(b"K\xe7", large).replace(small, large))
        refusal(path)


@pytest.mark.long
def test_tuples_without_bound_do_not_reach_the_stack(tmp_path: Path) -> None:
    deep = b"\x80\x02}K\x01" + b"\x85" * 1_100_000 + b"K\x01s."
    path = save(tmp_path / "a.pth", {"a": torch.ones(1)})
    assert "more than 1000000 objects" in refusal(rezip(path, {"data.pkl": deep}))
    path.write_bytes(LEGACY_START + deep)
    assert "more than 1000000 objects" in refusal(path)


class Colour(enum.Enum):
    RED = 1


class Config:
    """A class of the user; that a file brings back no object of it is what the test asks."""

    made = 0

    def __init__(self) -> None:
        self.rate = 0.1

    def __setstate__(self, state: object) -> None:
        Config.made += 1


def strangers() -> Iterator[tuple[str, object]]:
    yield "argparse.Namespace", argparse.Namespace(lr=0.1, nested=argparse.Namespace())
    yield "numpy._core.multiarray.scalar", np.float64(3)
    yield "numpy.ndarray", np.ones(3)
    yield "numpy.dtype", np.dtype("f4")
    yield "PosixPath", Path("/etc/passwd")
    yield "datetime.timedelta", datetime.timedelta(1)
    yield "datetime.datetime", datetime.datetime(2026, 1, 1)
    yield "test_pickle_tree.Colour", Colour.RED
    yield "test_pickle_tree.Config", Config()
    yield "test_pickle_tree.Config", Config
    yield "types.SimpleNamespace", types.SimpleNamespace(a=1)
    yield "torch.nn.modules.linear.Linear", torch.nn.Linear(2, 2)
    for plain in ({1, 2}, frozenset({1}), 1 + 2j, b"abc", bytearray(b"a"), slice(1), torch.float16):
        yield "", plain
    yield "", defaultdict(list, {"a": [1]})
    yield "", torch.device("cpu")


@KINDS
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "stranger", list(strangers()), ids=lambda one: one[0] or type(one[1]).__name__
)
def test_a_harmless_stranger_stays_unbuilt_and_is_named(
    zipped: bool, protocol: int, stranger: tuple[str, object], tmp_path: Path
) -> None:
    name, value = stranger
    content = {"args": value, "state_dict": {"a": torch.arange(3.0)}, "more": [value, (value,)]}
    path = tmp_path / "a.pth"
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    Config.made = 0
    with open_arrays(path) as arrays:
        assert_same(arrays, {"a": np.arange(3, dtype="f4")})
        assert bool(arrays.unbuilt) == bool(name)
        assert not name or any(one.endswith(name) for one in arrays.unbuilt)
    assert Config.made == 0


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_protocol_gives_the_same(protocol: int, tmp_path: Path) -> None:
    state = OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.tensor(True))
    path = tmp_path / "a.pth"
    torch.save({"net": state, "lr": 1e-3, "on": True, "n": 2**70}, path, pickle_protocol=protocol)
    with open_arrays(path) as arrays:
        assert_same(arrays, {name: tensor.numpy() for name, tensor in state.items()})


class Attribute:
    """Is pickled as a call of getattr, as Python 3.11.0 to 3.11.3 pickle a member of an Enum."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __reduce__(self) -> tuple[object, ...]:
        return getattr, self.arguments


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_member_of_an_enum_by_its_name_stays_unbuilt(protocol: int, tmp_path: Path) -> None:
    content = {"args": Attribute(Colour, "RED"), "state_dict": {"a": torch.ones(1)}}
    torch.save(content, tmp_path / "a.pth", pickle_protocol=protocol)
    with open_arrays(tmp_path / "a.pth") as arrays:
        assert list(arrays) == ["a"]
        assert [name.rpartition(".")[2] for name in arrays.unbuilt] == ["Colour"]


@pytest.mark.parametrize(
    "arguments",
    [(Colour, "__dict__"), (Colour, 1), (Colour,), ("a", "upper"), (Colour, "RED", 1)],
    ids=str,
)
def test_any_other_use_of_getattr_is_refused(arguments: tuple[object, ...], tmp_path: Path) -> None:
    said = refusal(save(tmp_path / "a.pth", {"a": torch.ones(1), "b": Attribute(*arguments)}))
    assert "getattr; nothing was executed" in said


def test_a_global_with_a_computed_name_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.ones(1)})
    evil = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R."
    assert "posix.system; nothing was executed" in refusal(rezip(path, {"data.pkl": evil}))
    twice = b"\x80\x02]q\x00h\x00h\x00\x86\x93."  # its name is a list
    assert "has no name" in refusal(rezip(path, {"data.pkl": twice}))


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02]" + b"q\x00h\x00h\x00\x86" * 200_000 + b".",  # more and more pairs
        b"\x80\x02}q\x00" + b"h\x00h\x00\x86" * 50_000 + b".",
        b"\x80\x02]q\x00h\x00a.",  # a list in itself
        b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",  # a dict in itself
    ],
    ids=["pairs", "shared", "list in itself", "dict in itself"],
)
@pytest.mark.long
def test_pickles_without_bound_end(pickled: bytes, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.ones(1)})
    refusal(rezip(path, {"data.pkl": pickled}))


def test_a_dict_copied_again_and_again_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.ones(1)})
    items = b"".join(b"J" + n.to_bytes(4, "little") + b"N" for n in range(1000))
    copies = b"h\x01h\x00\x85R0" * 2000
    pickled = b"\x80\x02}q\x00(" + items + b"uccollections\nOrderedDict\nq\x010" + copies
    said = refusal(rezip(path, {"data.pkl": pickled + b"h\x00."}))
    assert "more than 1000000 objects" in said
