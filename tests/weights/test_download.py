"""Downloads from a server on this machine: whole, resumed, refused; never the internet."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import sys
import tarfile
import threading
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request

import pytest

from forebear import WeightsError
from forebear.weights import download as module
from forebear.weights.catalog import Hash, Published, find_published
from forebear.weights.download import fetch, place

BODY = bytes(range(256)) * 40  # 10,240 bytes of "weights"


@dataclass
class Server:
    """What it serves, how it misbehaves, and what it was asked."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    cut: int | None = None  # bytes after which it hangs up
    asked: list[str] = field(default_factory=list)  # "path range"


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            state.asked.append(f"{self.path} {wanted}".strip())
            if self.path in state.redirects:
                self.send_response(302)
                self.send_header("Location", state.redirects[self.path])
                self.end_headers()
                return
            if self.path not in state.files:
                self.send_error(404)
                return
            body = state.files[self.path]
            start = int(wanted[6:-1]) if wanted and state.ranges else 0
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            self.wfile.write(body[start : state.cut])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.address = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "home"


@pytest.fixture
def row(server: Server) -> Published:
    """A row of torchvision's whose file this server has."""
    server.files["/resnet18.pth"] = BODY
    return replace(
        find_published("torchvision/resnet18"),
        file="resnet18.pth",
        url=f"{server.address}/resnet18.pth",
        hash=Hash("sha256", hashlib.sha256(BODY).hexdigest()[:8]),
        size=len(BODY),
    )


@pytest.fixture
def archive(server: Server) -> Published:
    """A row of TF-Slim's whose archive this server has."""
    row = find_published("slim/resnet_v1_50")
    serve(server, tar({"./resnet_v1_50.ckpt": BODY, "train.graph": b"more"}))
    return replace(row, url=f"{server.address}/{row.file}")


def serve(server: Server, packed: bytes) -> None:
    server.files["/resnet_v1_50_2016_08_28.tar.gz"] = packed


def tar(files: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as packed:
        for name, body in files.items():
            if isinstance(body, tarfile.TarInfo):
                packed.addfile(body)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(body)
                packed.addfile(info, io.BytesIO(body))
    return made.getvalue()


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def kept(home: Path) -> list[str]:
    """Every file of the cache but the locks."""
    return sorted(path.name for path in home.rglob("*") if path.is_file() and path.name != ".lock")


def test_a_file_comes_whole_and_says_how_far_it_is(row: Published, home: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    path = fetch(row, progress=lambda done, total: steps.append((done, total)))
    assert path == home / "weights/torchvision/resnet18/IMAGENET1K_V1/resnet18.pth" == place(row)
    assert path.read_bytes() == BODY
    assert steps[-1] == (len(BODY), len(BODY))
    assert kept(home) == ["resnet18.pth"]


def test_what_is_there_is_not_asked_for_again(row: Published, server: Server) -> None:
    first = fetch(row)
    assert fetch(row) == first
    assert len(server.asked) == 1


def test_a_file_put_there_by_hand_needs_no_network(row: Published) -> None:
    path = place(row)
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    assert fetch(replace(row, url="http://127.0.0.1:1/resnet18.pth")) == path


def test_a_damaged_file_in_the_cache_is_brought_again(row: Published, server: Server) -> None:
    path = fetch(row)
    path.write_bytes(BODY[:-1] + b"!")
    assert fetch(row).read_bytes() == BODY
    assert len(server.asked) == 2


def test_a_cut_download_goes_on_where_it_ended(row: Published, server: Server, home: Path) -> None:
    server.cut = 4096
    with pytest.raises(
        WeightsError,
        match=r"the connection closed after 4,096 of 10,240 bytes\. Expected the complete file\.",
    ):
        fetch(row)
    assert kept(home) == ["resnet18.pth.part"]
    server.cut = None
    assert fetch(row).read_bytes() == BODY
    assert server.asked == ["/resnet18.pth", "/resnet18.pth bytes=4096-"]
    assert kept(home) == ["resnet18.pth"]


def test_a_server_without_ranges_starts_over(row: Published, server: Server) -> None:
    server.cut, server.ranges = 4096, False
    with pytest.raises(WeightsError):
        fetch(row)
    server.cut = None
    assert fetch(row).read_bytes() == BODY


def test_a_beginning_as_long_as_the_file_starts_over(row: Published) -> None:
    place(row).parent.mkdir(parents=True)
    place(row).with_name("resnet18.pth.part").write_bytes(b"?" * len(BODY))
    assert fetch(row).read_bytes() == BODY


def test_a_beginning_of_another_file_is_found_out(row: Published, home: Path) -> None:
    place(row).parent.mkdir(parents=True)
    place(row).with_name("resnet18.pth.part").write_bytes(b"?" * 100)
    with pytest.raises(WeightsError, match="the sha256 of the download is not"):
        fetch(row)
    assert kept(home) == []
    assert fetch(row).read_bytes() == BODY


def test_without_a_hash_no_end_is_joined_to_a_beginning(row: Published, server: Server) -> None:
    row = replace(row, hash=None)
    server.cut = 4096
    with pytest.raises(WeightsError):
        fetch(row)
    server.cut = None
    assert fetch(row).read_bytes() == BODY
    assert server.asked == ["/resnet18.pth", "/resnet18.pth"]


def test_a_wrong_hash_keeps_nothing(row: Published, server: Server, home: Path) -> None:
    server.files["/resnet18.pth"] = BODY[::-1]
    with pytest.raises(WeightsError) as caught:
        fetch(row)
    assert row.hash is not None
    assert str(caught.value) == (
        f"{row.url}: the sha256 of the download is not {row.hash.digest}. Expected the published "
        "file, so the download was deleted. Try again. If the error persists and you trust this "
        "URL, download the file manually and pass its path."
    )
    assert kept(home) == []


def test_a_file_that_is_too_large_is_not_kept(row: Published, server: Server, home: Path) -> None:
    server.files["/resnet18.pth"] = bytes(4 * 2**20)
    with pytest.raises(WeightsError, match=r"sends more than 1,058,816 bytes\. Expected resnet18"):
        fetch(row)
    assert kept(home) == []


def test_without_a_published_hash_the_first_sight_is_noted(row: Published, server: Server) -> None:
    row = replace(row, hash=None)
    path = fetch(row)
    note = path.with_name("resnet18.pth.sha256").read_text()
    assert note == f"{hashlib.sha256(BODY).hexdigest()}  resnet18.pth\n"
    path.write_bytes(BODY[:-1] + b"!")
    for _ in range(2):  # a failed attempt must not make the damaged file the first sight
        with pytest.raises(WeightsError, match="cannot be downloaded"):
            fetch(replace(row, url="http://127.0.0.1:1/resnet18.pth"))
    assert fetch(row).read_bytes() == BODY
    assert len(server.asked) == 2


def test_offline_says_how_to_fetch_by_hand(row: Published) -> None:
    row = replace(row, url="http://127.0.0.1:1/resnet18.pth")
    with pytest.raises(WeightsError) as caught:
        fetch(row)
    said = str(caught.value)
    assert row.hash is not None
    assert said.startswith(
        "torchvision/resnet18: resnet18.pth of IMAGENET1K_V1 cannot be downloaded"
    )
    assert said.endswith(
        f"Expected a download from {row.url}. Try again, or download it manually and put the file "
        f"at {place(row)}. Its sha256 must start with {row.hash.digest}."
    )
    assert said.isprintable()


def test_an_address_that_is_gone_says_so(row: Published, server: Server) -> None:
    del server.files["/resnet18.pth"]
    with pytest.raises(WeightsError, match=r"cannot be downloaded \(.*404"):
        fetch(row)


def test_a_cache_that_cannot_be_written_says_so(row: Published, home: Path) -> None:
    home.write_text("a file in the way")
    with pytest.raises(WeightsError, match=r"cannot be downloaded \(.*home"):
        fetch(row)


def test_redirects_to_http_are_followed(row: Published, server: Server) -> None:
    server.redirects["/old.pth"] = row.url
    assert fetch(replace(row, url=f"{server.address}/old.pth")).read_bytes() == BODY


@pytest.mark.parametrize("target", ["file://{path}", "ftp://127.0.0.1/{path}", "data:,{path}"])
def test_redirects_elsewhere_are_refused(
    row: Published, server: Server, tmp_path: Path, home: Path, target: str
) -> None:
    (tmp_path / "secret").write_bytes(BODY)
    server.redirects["/resnet18.pth"] = target.format(path=tmp_path / "secret")
    with pytest.raises(WeightsError, match="cannot be downloaded"):
        fetch(row)
    assert kept(home) == []


def test_https_is_not_left() -> None:
    guarded = module._Guarded()
    request = Request("https://huggingface.co/model.safetensors")
    with pytest.raises(URLError, match="it redirects to http://elsewhere/x, which is not https"):
        guarded.redirect_request(
            request, io.BytesIO(), 302, "Found", Message(), "http://elsewhere/x"
        )


def test_a_local_address_is_refused(row: Published, tmp_path: Path) -> None:
    (tmp_path / "resnet18.pth").write_bytes(BODY)
    with pytest.raises(WeightsError, match="is not an https or http URL"):
        fetch(replace(row, url=f"file://{tmp_path}/resnet18.pth"))


def test_one_file_is_taken_out_of_an_archive(archive: Published, home: Path) -> None:
    path = fetch(archive)
    assert path == home / "weights/slim/resnet_v1_50/2016_08_28/resnet_v1_50.ckpt"
    assert path.read_bytes() == BODY
    assert kept(home) == ["resnet_v1_50.ckpt", "resnet_v1_50.ckpt.sha256"]


def test_an_archive_that_was_cut_goes_on(archive: Published, server: Server) -> None:
    server.cut = 100
    with pytest.raises(WeightsError, match="the connection closed after 100 of"):
        fetch(archive)
    server.cut = None
    assert fetch(archive).read_bytes() == BODY
    assert server.asked[1].endswith("bytes=100-")


def hostile() -> dict[str, bytes]:
    name = "resnet_v1_50.ckpt"

    def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
        info = tarfile.TarInfo(name)
        info.size, info.type = size, kind
        return gzip.compress(info.tobuf(tarfile.GNU_FORMAT) * 3)

    good = tar({name: BODY})
    flipped = bytearray(gzip.compress(gzip.decompress(good), compresslevel=0))
    flipped[2000] ^= 1
    return {
        "a name above": tar({f"../../{name}": BODY}),
        "an absolute name": tar({f"/tmp/{name}": BODY}),
        "a symbolic link": tar({name: link(name, "/etc/passwd", tarfile.SYMTYPE)}),
        "a hard link": tar({name: link(name, "/etc/passwd", tarfile.LNKTYPE)}),
        "a device": tar({name: link(name, "", tarfile.CHRTYPE)}),
        "a folder": tar({name: link(name, "", tarfile.DIRTYPE)}),
        "a huge size": header(name, 10 * 2**30),
        "a size below zero": header("other", -512),
        "a huge extension": header("x", 10 * 2**30, tarfile.XHDTYPE),
        "too many files": tar({f"{number}": b"" for number in range(200)} | {name: BODY}),
        "nothing": gzip.compress(b""),
        "no archive": b"<html>sign in</html>",
        "an archive of noise": gzip.compress(BODY),
        "half of it": gzip.compress(gzip.decompress(good)[:5000]),
        "half of its bytes": good[: len(good) // 2],
        "a flipped bit": bytes(flipped),
    }


@pytest.mark.parametrize("kind", hostile())
def test_a_hostile_archive_leaves_nothing(
    archive: Published, server: Server, tmp_path: Path, kind: str
) -> None:
    serve(server, hostile()[kind])
    with pytest.raises(WeightsError) as caught:
        fetch(archive)
    said = str(caught.value)
    assert said.startswith(f"{archive.file}: the archive is damaged or has other contents (")
    assert said.isprintable()
    assert kept(tmp_path) == []


def test_an_archive_that_unpacks_without_end_is_left(
    archive: Published, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 2**20)
    serve(server, tar({"resnet_v1_50.ckpt": BODY, "zeros": bytes(2**22)}))
    with pytest.raises(WeightsError, match=r"the archive unpacks to more than 1,048,576 bytes"):
        fetch(archive)
    assert kept(tmp_path) == []


def test_ranks_that_ask_together_download_once(row: Published, server: Server) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(row))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [place(row)] * 4
    assert len(server.asked) == 1


def test_the_hubs_own_cache_is_used_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def hf_hub_download(repo: str, file: str) -> str:
        asked.append((repo, file))
        if len(asked) > 1:
            raise FileNotFoundError("offline")
        return str(tmp_path / "hub" / file)

    hub = types.ModuleType("huggingface_hub")
    hub.__spec__ = types.SimpleNamespace(name="huggingface_hub")  # type: ignore[assignment]
    hub.hf_hub_download = hf_hub_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    row = find_published("timm/resnetv2_50")
    assert fetch(row) == tmp_path / "hub" / "model.safetensors"
    assert asked == [("timm/resnetv2_50.a1h_in1k", "model.safetensors")]
    with pytest.raises(
        WeightsError, match=r"cannot be downloaded \(offline\)\. .* put the file at"
    ):
        fetch(row)


def test_without_the_hubs_library_its_file_comes_over_https(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    server.files["/timm/resolve/main/model.safetensors"] = BODY
    row = find_published("timm/resnetv2_50")
    row = replace(row, url=f"{server.address}/timm/resolve/main/model.safetensors")
    assert fetch(row) == place(row)
    assert place(row).read_bytes() == BODY
