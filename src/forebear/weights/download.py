"""Downloads of published weights, kept in a folder and checked before use.

They lie in $FOREBEAR_HOME/weights (default: ~/.cache/forebear/weights); files of the Hugging Face
Hub in the Hub's own cache where huggingface_hub is installed. What is there and whole is used
without asking the network. Reading the files is left to `readers`.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import importlib
import importlib.util
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from forebear.errors import WeightsError
from forebear.files import home, process_lock, write_text, write_whole
from forebear.weights.catalog import Published

OnProgress = Callable[[int, int | None], None]  # bytes there, and of how many where that is known

_MOST = 2 * 2**30  # bytes of a file, and of an unpacked archive; the largest row has 0.5 GiB
_SLACK = 2**20  # bytes: published sizes are rounded
_CHUNK = 2**20  # bytes
_PATIENCE = 30.0  # seconds without a byte
_MEMBERS = 100  # files of an archive that are looked at; TF-Slim's have one to three


def fetch(row: Published, *, progress: OnProgress | None = None) -> Path:
    """The file of a row, downloaded unless it is there with the right hash.

    Raises:
        WeightsError: it cannot be had, or is not what was published; the message says where to put
            a file that was fetched by hand.
    """
    path = place(row)
    try:
        if _is_whole(row, path):
            return path
        if row.hub and importlib.util.find_spec("huggingface_hub") is not None:
            hub = importlib.import_module("huggingface_hub")
            return Path(hub.hf_hub_download(row.hub, row.file))
        path.parent.mkdir(parents=True, exist_ok=True)
        with process_lock(path.parent / ".lock"):  # all processes of a run ask at once
            if not _is_whole(row, path):  # another process may have been faster
                _bring(row, path, progress or (lambda done, total: None))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise WeightsError(_by_hand(row, path, error)) from error
    return path


def place(row: Published) -> Path:
    """Where the file of a row lies once it is fetched."""
    folder = home() / "weights" / row.network / row.tag
    return folder / (row.member or row.file)


def _is_whole(row: Published, path: Path) -> bool:
    """Whether a file is there and its hash is the publisher's, or the one noted at first sight."""
    if not path.is_file():
        return False
    if row.hash is not None:
        return row.hash.fits(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    line = f"{digest}  {path.name}\n"  # as sha256sum writes and checks it
    note = _note(path)
    if note.exists():
        return note.read_bytes() == line.encode()
    with suppress(OSError):  # a cache that others keep may be read-only
        write_text(note, line)
    return True


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _bring(row: Published, path: Path, progress: OnProgress) -> None:
    """Puts a row's file in its place, whole and checked."""
    partial = path.with_name(f"{row.file}.part")
    _download(row, partial, progress)
    if row.hash is not None and not row.hash.fits(partial):
        partial.unlink()
        raise WeightsError(
            f"{row.url}: the {row.hash.algorithm} of what came is not {row.hash.digest}. Expected "
            "the published file, so nothing was kept. Try again; if it stays so and you trust that "
            "address, fetch it by hand and load the file by its path."
        )
    if row.member:
        write_whole(path, lambda target: _take_out(row, partial, target))
        partial.unlink()
    else:
        write_whole(path, lambda target: _move(partial, target))
    _note(path).unlink(missing_ok=True)
    _is_whole(row, path)  # notes the hash where none was published


def _move(source: Path, target: Path) -> None:
    source.replace(target)


def _download(row: Published, partial: Path, progress: OnProgress) -> None:
    """Fills a file from the row's address, going on where an earlier attempt ended."""
    limit = _MOST if row.size is None else row.size + _SLACK
    # An end is joined to a beginning only where a checksum (gzip's, for archives) covers both.
    joinable = row.hash is not None or bool(row.member)
    start = partial.stat().st_size if joinable and partial.exists() else 0
    with _answer(row.url, start) as response:
        joins = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        done = start if response.status == http.HTTPStatus.PARTIAL_CONTENT and joins else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
        with partial.open("ab" if done else "wb") as file:
            while done <= limit and (chunk := response.read(_CHUNK)):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
    if done > limit:
        partial.unlink()
        raise WeightsError(
            f"{row.url}: sends more than {limit:,} bytes. Expected {row.file}, which is smaller, "
            "so nothing was kept. Check what lies at that address."
        )
    if total is not None and done < total:
        raise WeightsError(
            f"{row.url}: the connection ended after {done:,} of {total:,} bytes. Expected the "
            f"rest. Try again: it {'goes on from there' if joinable else 'starts over'}."
        )


@contextmanager
def _answer(url: str, start: int) -> Iterator[http.client.HTTPResponse]:
    """An open response, from byte `start` on where the server can."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise URLError(f"{url} is neither https nor http")
    headers = {"User-Agent": "forebear", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = build_opener(_Guarded).open(Request(url, headers=headers), timeout=_PATIENCE)
    except HTTPError as error:
        if not start or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        with _answer(url, 0) as response:  # nothing after `start`: what is there is another file
            yield response
    else:
        with response:
            yield response


class _Guarded(HTTPRedirectHandler):
    """Follows redirects to https, and from http to http; to nothing else."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        allowed = ("https",) if req.type == "https" else ("https", "http")
        if urlsplit(newurl).scheme not in allowed:
            raise URLError(f"it redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _take_out(row: Published, archive: Path, target: Path) -> None:
    """Writes the one named file of a .tar.gz, reading a block at a time and trusting no header.

    tarfile itself would hold a header's extension in memory, however large it says that it is.
    """
    try:
        with gzip.open(archive) as tar, target.open("wb") as file:
            _copy(_find(tar, row.member), tar, file)
            while tar.read(_CHUNK):  # to the end, where gzip's checksum is
                _bounded(tar.tell())
    except (gzip.BadGzipFile, EOFError, zlib.error, tarfile.TarError) as error:
        archive.unlink()
        raise WeightsError(
            f"{row.file}: is damaged, or holds something else ({error}). Expected a .tar.gz with "
            f"the file {row.member}, so nothing was kept. Try again; if it stays so, the file was "
            "changed at the publisher's or on the way."
        ) from error


def _find(tar: gzip.GzipFile, member: str) -> int:
    """Goes to a file's first byte and gives its size."""
    for _ in range(_MEMBERS):
        try:
            info = tarfile.TarInfo.frombuf(tar.read(tarfile.BLOCKSIZE), "utf-8", "replace")
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"no {member} before: {error}") from error
        _bounded(info.size)
        _bounded(tar.tell() + info.size)
        if info.name.removeprefix("./") == member:
            if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                raise tarfile.ReadError(f"{member} is a link or a device")
            return info.size
        tar.seek(-(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, io.SEEK_CUR)
    raise tarfile.ReadError(f"no {member} among its first {_MEMBERS} files")


def _copy(size: int, tar: gzip.GzipFile, file: IO[bytes]) -> None:
    while size:
        chunk = tar.read(min(size, _CHUNK))
        if not chunk:
            raise EOFError("it ends too early")
        file.write(chunk)
        size -= len(chunk)


def _bounded(size: int) -> None:
    if not 0 <= size <= _MOST:
        raise tarfile.ReadError(f"it unpacks to more than {_MOST:,} bytes")


def _by_hand(row: Published, path: Path, error: Exception) -> str:
    wrapped = isinstance(error, URLError) and not isinstance(error, HTTPError)
    reason = getattr(error, "reason", error) if wrapped else error
    said = "".join(letter if letter.isprintable() else " " for letter in str(reason))
    what = f"{row.member} from it" if row.member else "the file"
    known = f", where its {row.hash.algorithm} begins {row.hash.digest}" if row.hash else ""
    return (
        f"{row.network}: {row.file} of {row.tag} cannot be downloaded ({said}). Expected an answer "
        f"from {row.url}. Try again, or fetch that by hand and put {what} at {path}{known}."
    )
