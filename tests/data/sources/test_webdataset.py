from __future__ import annotations

import io
import json
import os
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebear.data.sources.registry import read_data
from forebear.errors import DataError
from tests.data.making import encoded, noise


def shard(path: Path, files: dict[str, bytes], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def image(seed: int) -> bytes:
    return encoded(noise(seed), "PNG")


def samples(first: int, labels: list[Any]) -> dict[str, bytes]:
    """An image and a .cls for each label."""
    files = {}
    for seed, label in enumerate(labels, start=first):
        files[f"{seed:05}.png"] = image(seed)
        files[f"{seed:05}.cls"] = str(label).encode()
    return files


def test_a_folder_gives_its_parts_without_unpacking(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shard(folder / "train-000.tar", samples(0, [0, 1, 2]))
    shard(folder / "train-001.tar", samples(3, [2, 0]))
    shard(folder / "val-000.tar", samples(5, [1]))
    data = read_data(f"shards:{folder}")
    assert data.classes == ("0", "1", "2")
    assert data.train.labels.tolist() == [0, 1, 2, 2, 0]
    assert data.val.labels.tolist() == [1]
    assert (data.side, data.channels, data.mirror) == (224, 3, True)
    for index in (4, 0, 3):  # in any order
        found = np.asarray(data.train.image(index))
        np.testing.assert_array_equal(found, np.asarray(noise(index)))
    assert data.train.name(3) == f"{folder / 'train-001.tar'}: 00003.png"
    assert data.train.source(2) == image(2)
    chosen = data.train.take(np.array([4, 1]))
    assert chosen.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(np.asarray(chosen.image(0)), np.asarray(noise(4)))
    assert sorted(path.name for path in folder.iterdir()) == [
        "train-000.tar",
        "train-001.tar",
        "val-000.tar",
    ]


def test_patterns_are_spelled_out(tmp_path: Path) -> None:
    for first, name in enumerate(("train-08", "train-09", "train-10", "val-08")):
        shard(tmp_path / f"{name}.tar", samples(2 * first, [0, 1]))
    data = read_data(f"shards:{tmp_path}/train-{{08..10}}.tar")
    assert len(data.train) + len(data.val) == 6
    both = read_data(f"shards:{tmp_path}/{{train,val}}-{{08..08}}.tar")
    assert (len(both.train), len(both.val)) == (2, 2)
    with pytest.raises(DataError, match=r"train-11\.tar: no such file"):
        read_data(f"shards:{tmp_path}/train-{{08..11}}.tar")
    for pattern in ("{", "{}", "{5..3}", "{0..999999999}", "{0..999}{0..999}"):
        with pytest.raises(DataError, match="Correct the pattern"):
            read_data(f"shards:{tmp_path}/{pattern}.tar")


def test_labels_may_be_names_or_json(tmp_path: Path) -> None:
    files = {
        "a/x.1.jpg": encoded(noise(0), "JPEG"),
        "a/x.cls": b"dog\n",
        "a/y.JPG": encoded(noise(1), "JPEG"),
        "a/y.json": json.dumps({"label": "cat", "caption": "x"}).encode(),
        "a/notes.txt": b"nothing",
        "b/y.png": image(2),
        "b/y.cls": b"cat",
    }
    shard(tmp_path / "train.tar", files)
    shard(tmp_path / "test.tar", {"z.png": image(3), "z.json": b'{"label": "dog"}'})
    data = read_data(f"shards:{tmp_path}")
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [1, 0, 0]
    assert data.val.labels.tolist() == [1]
    shard(tmp_path / "test.tar", {"z.png": image(3), "z.cls": b"dgo"})
    with pytest.raises(DataError, match="dgo .* Did you mean dog"):
        read_data(f"shards:{tmp_path}")


def test_the_index_is_kept_and_made_anew_when_shard_or_index_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard(tmp_path / "set/train.tar", samples(0, [0, 1]))
    shard(tmp_path / "set/val.tar", samples(2, [0, 1]))
    spec = f"shards:{tmp_path / 'set'}"
    first = read_data(spec)
    kept = sorted((tmp_path / "home/cache").glob("shard-*.json"))
    assert len(kept) == 2
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("scanned again"))
        assert read_data(spec).fingerprint == first.fingerprint
    contents = [path.read_bytes() for path in kept]
    for damage in (
        b"",
        b"words",
        b"[1]",
        b'{"keys": ["x"]}',
        contents[0].replace(b"[512", b"[-12"),
    ):
        for path in kept:
            path.write_bytes(damage)
        assert read_data(spec).fingerprint == first.fingerprint
        assert [path.read_bytes() for path in kept] == contents
    shard(tmp_path / "set/train.tar", samples(0, [0, 1, 1]))
    again = read_data(spec)
    assert again.train.labels.tolist() == [0, 1, 1]
    assert again.fingerprint != first.fingerprint


def test_a_home_that_cannot_be_written_does_not_stop_the_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path / "file"))
    shard(tmp_path / "set/train.tar", samples(0, [0, 1]))
    shard(tmp_path / "set/val.tar", samples(0, [0, 1]))
    assert len(read_data(f"shards:{tmp_path / 'set'}").train) == 2


def special(kind: bytes, name: str = "00000.png", link: str = "/etc/passwd") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "train.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(special(kind))
    with pytest.raises(DataError, match=r"00000\.png is a link or a device"):
        read_data(f"shards:{path}")


def test_names_that_climb_out_write_nothing(tmp_path: Path) -> None:
    files = {"../../up.png": image(0), "../../up.cls": b"0", "/abs.png": image(1)}
    shard(tmp_path / "deep/set/train.tar", {**files, "/abs.cls": b"0"})
    shard(tmp_path / "deep/set/val.tar", samples(0, [0]))
    before = {path for path in tmp_path.rglob("*") if "home" not in path.parts}
    assert len(read_data(f"shards:{tmp_path / 'deep/set'}").train) == 2
    assert {path for path in tmp_path.rglob("*") if "home" not in path.parts} == before
    assert not Path("/abs.png").exists()


def test_damaged_shards_are_named(tmp_path: Path) -> None:
    path = shard(tmp_path / "train.tar", samples(0, [0, 1, 2]))
    whole = path.read_bytes()
    negative = bytearray(whole)
    negative[124:136] = b"\xff" * 12  # a size of -1
    bad_sum = sum(negative[:148]) + 8 * 32 + sum(negative[156:512])
    negative[148:156] = f"{bad_sum:06o}\0 ".encode()
    huge = bytearray(whole)
    huge[124:136] = b"\x80" + bytes(3) + struct.pack(">Q", 1 << 60)
    huge[148:156] = f"{sum(huge[:148]) + 256 + sum(huge[156:512]):06o}\0 ".encode()
    for content in (
        b"",
        b"words" * 200,
        whole[:700],
        whole[: 512 + 3],
        bytes(negative),
        bytes(huge),
    ):
        path.write_bytes(content)
        os.utime(path, ns=(0, len(content) + sum(content)))
        with pytest.raises(DataError, match=r"train\.tar: (cannot be read|no images inside)"):
            read_data(f"shards:{path}")


def test_compressed_shards_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.tar"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x.png"))
    with pytest.raises(DataError, match=r"uncompressed.* gunzip"):
        read_data(f"shards:{path}")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"x.png": b"p"}, "x: no label, only png"),
        ({"x.png": b"p", "y.cls": b"0"}, "x: no label"),
        ({"x.png": b"p", "x.jpg": b"q", "x.cls": b"0"}, "images png, jpg. Expected one"),
        ({"x.png": b"p", "x.cls": b" "}, "its label is empty"),
        ({"x.png": b"p", "x.json": b"{"}, "its label is empty"),
        ({"x.png": b"p", "x.json": b'{"label": [1]}'}, "its label is empty"),
        ({"x.png": b"p", "x.json": b"[" * 100_000}, "its label is empty"),
        ({"x.png": b"p", "x.cls": b"3"}, r"labels 3\. Expected every number from 0"),
        ({"x.txt": b"p"}, "no images inside"),
    ],
)
def test_samples_that_do_not_fit_are_named(
    files: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        read_data(f"shards:{shard(tmp_path / 'train.tar', files)}")


def test_a_shard_that_shrinks_later_is_named(tmp_path: Path) -> None:
    path = shard(tmp_path / "train.tar", samples(0, [0, 1]))
    shard(tmp_path / "val.tar", samples(0, [0, 1]))
    data = read_data(f"shards:{tmp_path}")
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(DataError, match=r"00000\.png: the shard ends within this file"):
        data.train.image(0)
    path.unlink()
    with pytest.raises(DataError, match=r"00001\.png: cannot be read"):
        data.train.digest(1)


def test_a_shard_written_anew_with_the_size_and_time_of_the_old_one_is_read_anew(
    tmp_path: Path,
) -> None:
    path = shard(tmp_path / "train-0.tar", samples(0, [0, 1] * 6))
    before = read_data(f"shards:{path}")
    state = path.stat()
    shard(path, samples(0, [1, 0] * 6))  # the same images with other labels
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size
    after = read_data(f"shards:{path}")
    assert before.whole is not None
    assert after.whole is not None
    assert after.whole.labels.tolist() == (1 - before.whole.labels).tolist()
    assert after.fingerprint != before.fingerprint


def test_the_fingerprint_of_given_parts_is_that_of_their_content(tmp_path: Path) -> None:
    shard(tmp_path / "train-0.tar", samples(0, [0, 1]))
    shard(tmp_path / "val-0.tar", samples(9, [0, 1]))
    before = read_data(f"shards:{tmp_path}").fingerprint
    content = bytearray((tmp_path / "train-0.tar").read_bytes())
    content[content.index(b"IDAT") + 8] ^= 1
    (tmp_path / "train-0.tar").write_bytes(bytes(content))
    assert read_data(f"shards:{tmp_path}").fingerprint != before


def test_parts_are_told_by_words_and_not_by_their_first_letters(tmp_path: Path) -> None:
    shard(tmp_path / "valley-0.tar", samples(0, [0, 1]))
    shard(tmp_path / "Valid-0.tar", samples(4, [0, 1]))
    data = read_data(f"shards:{tmp_path}")
    assert (len(data.train), len(data.val)) == (2, 2)
    assert data.split == "given by the shards valley-0.tar, ... and Valid-0.tar, ..."


def test_an_index_of_another_user_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path / "home"))
    path = shard(tmp_path / "x.tar", samples(0, [0, 1] * 4))
    read_data(f"shards:{path}")
    (index,) = (tmp_path / "home" / "cache").glob("shard-*.json")
    forged = json.loads(index.read_text())
    forged["labels"] = ["1"] * 4 + ["0"] * 4
    index.write_text(json.dumps(forged))
    index.chmod(0o666)  # others may have written it
    data = read_data(f"shards:{path}")
    assert data.whole is not None
    assert data.whole.labels.tolist() == [0, 1] * 4


def test_a_pipe_in_place_of_a_shard_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train-0.tar")
    with pytest.raises(DataError, match=r"train-0\.tar: cannot be read .*a pipe, not a file"):
        read_data(f"shards:{tmp_path}")
