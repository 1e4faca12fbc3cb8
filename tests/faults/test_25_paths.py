"""Archives with links, devices and paths that lead out, and run folders with links."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from tests.faults import making
from tests.faults.conftest import Figure
from tests.faults.zygote import Zygote

MEMORY = 9 * 2**28  # bytes of address space, beyond what torch takes


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def shard(path: Path, odd: tarfile.TarInfo | None, content: bytes = b"x") -> Path:
    """A shard of whole samples, and one odd member."""
    with tarfile.open(path, "w") as tar:
        for number, (image, label) in enumerate(zip(*making.pixels(), strict=True)):
            if number == 60:
                break
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "PNG")
            for ending, data in (("png", stream.getvalue()), ("cls", str(label).encode())):
                info = member(f"{number:03}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        if odd is not None:
            odd.size = len(content) if odd.isreg() else 0
            tar.addfile(odd, io.BytesIO(content) if odd.isreg() else None)
    return path


LINKS = {
    "a symbolic link": member("999.png", tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link": member("999.png", tarfile.LNKTYPE, "../../outside"),
    "a device": member("999.png", tarfile.CHRTYPE),
    "a pipe": member("999.png", tarfile.FIFOTYPE),
}
PATHS = {"up": "../../outside.txt", "absolute": "/tmp/outside-of-forebear.txt", "dots": "a/../../x"}


@pytest.mark.parametrize("what", LINKS)
def test_links_and_devices_in_a_shard_are_refused(
    what: str, place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    path = shard(tmp_path / "train-0.tar", LINKS[what])
    words = making.train(place, tmp_path / "run", data=f"shards:{path}")
    done = zygote.start(*words, folder=tmp_path / "said").wait()
    done.refused("999.png is a link or a device")
    figure.count("refused", 1)


@pytest.mark.parametrize("what", PATHS)
@pytest.mark.long(after=1)
def test_names_that_lead_out_write_nothing(
    what: str, place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    path = shard(inner / "train-0.tar", member(PATHS[what]))
    before = making.contents(tmp_path)
    words = making.train(place, inner / "run", "--epochs", 1, data=f"shards:{path}")
    zygote.start(*words, folder=tmp_path / "said").wait()
    new = {name for name in making.contents(tmp_path) if name not in before}
    outside = {name for name in new if not name.startswith(("a/b/run/", "said/"))}
    figure.total("files outside of the run", len(outside))
    assert outside == set()
    assert not Path("/tmp/outside-of-forebear.txt").exists()


def cifar(path: Path, odd: tarfile.TarInfo, content: bytes = b"x") -> Path:
    with tarfile.open(path, "w:gz", compresslevel=9) as tar:
        odd.size = len(content) if odd.isreg() else 0
        tar.addfile(odd, io.BytesIO(content) if odd.isreg() else None)
    return path


@pytest.mark.parametrize(
    "odd",
    [
        member("cifar-10-batches-py/data_batch_1", tarfile.SYMTYPE, "/etc/passwd"),
        member("../../data_batch_1"),
        member("/data_batch_1"),
    ],
    ids=["a link", "up", "absolute"],
)
def test_a_cifar_archive_is_never_unpacked(
    odd: tarfile.TarInfo, place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    path = cifar(tmp_path / "cifar-10-python.tar.gz", odd)
    before = making.contents(tmp_path)
    words = making.train(place, tmp_path / "run", data=f"cifar10:{path}")
    zygote.start(*words, folder=tmp_path / "said").wait().refused("cifar-10-python.tar.gz")
    assert {n: c for n, c in making.contents(tmp_path).items() if n[:5] != "said/"} == before
    figure.count("refused", 1)


def test_an_archive_that_swells_is_refused_in_bounded_memory_and_time(
    place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    head = member("cifar-10-batches-py/data_batch_1")
    head.size = 10 * 2**30
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(head.tobuf())
        file.write(bytes(50_000_000))
    words = making.train(place, tmp_path / "run", data=f"cifar10:{path}")
    done = zygote.start(*words, folder=tmp_path / "said", memory_bytes=MEMORY).wait(20)
    done.refused("data_batch_1 has 10737418240 bytes")
    figure.most("s to the refusal", done.seconds)


def test_a_run_folder_with_links_is_refused_and_their_targets_stay(
    trained: Path, place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "step-00000001.safetensors").write_bytes(b"kept")
    (precious / "file").write_bytes(b"kept")
    before = making.contents(precious)
    for number, (name, target) in enumerate(
        ((".lock", "file"), ("metrics.jsonl", "file"), ("checkpoints", "."))
    ):
        run = making.copied(trained, tmp_path / f"run{number}")
        (run / "model.safetensors").unlink()
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(precious / target)
        for words in (
            making.resume(run),
            making.train(place, run),
            (*making.train(place, run), "--replace"),
        ):
            folder = tmp_path / f"said{number}{len(words)}"
            zygote.start(*words, folder=folder).wait().refused(f"{name}: a link")
        figure.count("links refused", 1)
    assert making.contents(precious) == before
