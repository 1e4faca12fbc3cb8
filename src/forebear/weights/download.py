"""Downloads published weights to a cache, and verifies them before use.

The cache is $FOREBEAR_HOME/weights (default: ~/.cache/forebear/weights). If huggingface_hub is
installed, files of the Hugging Face Hub are in the Hub's own cache. A complete file in the cache is
used without network access. `readers` read the files.
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

OnProgress = Callable[[int, int | None], None]  # bytes so far, and the total if it is known

_MOST = 4 * 2**30  # maximum bytes of a file or an unpacked archive; the largest row has 3.1 GiB
_SLACK = 2**20  # bytes; a tolerance, because published sizes are rounded
_CHUNK = 2**20  # bytes
_PATIENCE = 30.0  # timeout in seconds
_MEMBERS = 100  # maximum number of files to search in an archive; TF-Slim's have one to three


def fetch(row: Published, *, progress: OnProgress | None = None) -> Path:
    """Returns the file of a row. It is downloaded unless it is in the cache with the right hash.

    Raises:
        WeightsError: The download fails, or the file is not the published one. The message says
            where to put a file that was downloaded manually.
    """
    path = place(row)
    try:
        if _is_whole(row, path):
            return path
        if row.hub and importlib.util.find_spec("huggingface_hub") is not None:
            hub = importlib.import_module("huggingface_hub")
            return Path(hub.hf_hub_download(row.hub, row.file))
        path.parent.mkdir(parents=True, exist_ok=True)
        with process_lock(path.parent / ".lock"):  # one process of a run downloads
            if not _is_whole(row, path):  # another process may have downloaded it meanwhile
                _bring(row, path, progress or (lambda done, total: None))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise WeightsError(_by_hand(row, path, error)) from error
    return path


def place(row: Published) -> Path:
    """Returns the path of a row's file in the cache."""
    folder = home() / "weights" / row.network / row.tag
    return folder / (row.member or row.file)


def _is_whole(row: Published, path: Path) -> bool:
    """Whether a file exists with the publisher's hash.

    If none was published, the hash is compared with the one recorded when the file was first seen.
    """
    if not path.is_file():
        return False
    if row.hash is not None:
        return row.hash.fits(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    line = f"{digest}  {path.name}\n"  # the format of sha256sum
    note = _note(path)
    if note.exists():
        return note.read_bytes() == line.encode()
    with suppress(OSError):  # a shared cache may be read-only
        write_text(note, line)
    return True


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _bring(row: Published, path: Path, progress: OnProgress) -> None:
    """Downloads and verifies a row's file, and moves it to its path in the cache."""
    partial = path.with_name(f"{row.file}.part")
    _download(row, partial, progress)
    if row.hash is not None and not row.hash.fits(partial):
        partial.unlink()
        raise WeightsError(
            f"{row.url}: the {row.hash.algorithm} of the download is not {row.hash.digest}. "
            "Expected the published file, so the download was deleted. Try again. If the error "
            "persists and you trust this URL, download the file manually and pass its path."
        )
    if row.member:
        write_whole(path, lambda target: _take_out(row, partial, target))
        partial.unlink()
    else:
        write_whole(path, lambda target: _move(partial, target))
    _note(path).unlink(missing_ok=True)
    _is_whole(row, path)  # records the hash if none was published


def _move(source: Path, target: Path) -> None:
    source.replace(target)


def _download(row: Published, partial: Path, progress: OnProgress) -> None:
    """Downloads a file from the row's URL. It resumes an earlier attempt if possible."""
    limit = _MOST if row.size is None else row.size + _SLACK
    # A download is resumed only if a checksum (gzip's for archives) covers the complete file.
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
            f"{row.url}: the server sends more than {limit:,} bytes. Expected {row.file}, which is "
            "smaller, so the download was deleted. Check the content at this URL."
        )
    if total is not None and done < total:
        raise WeightsError(
            f"{row.url}: the connection closed after {done:,} of {total:,} bytes. Expected the "
            "complete file. Try again: the download "
            f"{'resumes' if joinable else 'starts from the beginning'}."
        )


@contextmanager
def _answer(url: str, start: int) -> Iterator[http.client.HTTPResponse]:
    """Opens a response that starts at byte `start`, if the server supports it."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise URLError(f"{url} is not an https or http URL")
    headers = {"User-Agent": "forebear", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = build_opener(_Guarded).open(Request(url, headers=headers), timeout=_PATIENCE)
    except HTTPError as error:
        if not start or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        with _answer(url, 0) as response:  # the local part is longer, so it is of another file
            yield response
    else:
        with response:
            yield response


class _Guarded(HTTPRedirectHandler):
    """Follows only redirects to https, and redirects from http to http."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        allowed = ("https",) if req.type == "https" else ("https", "http")
        if urlsplit(newurl).scheme not in allowed:
            raise URLError(f"it redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _take_out(row: Published, archive: Path, target: Path) -> None:
    """Extracts the row's member from a .tar.gz, block by block and with checks of all sizes.

    tarfile itself reads the extension of a header into memory, whatever size the header claims.
    """
    try:
        with gzip.open(archive) as tar, target.open("wb") as file:
            _copy(_find(tar, row.member), tar, file)
            while tar.read(_CHUNK):  # gzip verifies its checksum at the end
                _bounded(tar.tell())
    except (gzip.BadGzipFile, EOFError, zlib.error, tarfile.TarError) as error:
        archive.unlink()
        raise WeightsError(
            f"{row.file}: the archive is damaged or has other contents ({error}). Expected a "
            f".tar.gz with the file {row.member}, so the download was deleted. Try again. If the "
            "error persists, the file has changed at the publisher or in transit."
        ) from error


def _find(tar: gzip.GzipFile, member: str) -> int:
    """Seeks to the first byte of a member, and returns the size of the member in bytes."""
    for _ in range(_MEMBERS):
        try:
            info = tarfile.TarInfo.frombuf(tar.read(tarfile.BLOCKSIZE), "utf-8", "replace")
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{member} was not found before this: {error}") from error
        _bounded(info.size)
        _bounded(tar.tell() + info.size)
        if info.name.removeprefix("./") == member:
            if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                raise tarfile.ReadError(f"{member} is a link or a device")
            return info.size
        tar.seek(-(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, io.SEEK_CUR)
    raise tarfile.ReadError(f"{member} is not among the first {_MEMBERS} files")


def _copy(size: int, tar: gzip.GzipFile, file: IO[bytes]) -> None:
    while size:
        chunk = tar.read(min(size, _CHUNK))
        if not chunk:
            raise EOFError("the archive ends too early")
        file.write(chunk)
        size -= len(chunk)


def _bounded(size: int) -> None:
    if not 0 <= size <= _MOST:
        raise tarfile.ReadError(f"the archive unpacks to more than {_MOST:,} bytes")


def _by_hand(row: Published, path: Path, error: Exception) -> str:
    wrapped = isinstance(error, URLError) and not isinstance(error, HTTPError)
    reason = getattr(error, "reason", error) if wrapped else error
    said = "".join(letter if letter.isprintable() else " " for letter in str(reason))
    what = f"{row.member} from it" if row.member else "the file"
    known = f" Its {row.hash.algorithm} must start with {row.hash.digest}." if row.hash else ""
    return (
        f"{row.network}: {row.file} of {row.tag} cannot be downloaded ({said}). Expected a "
        f"download from {row.url}. Try again, or download it manually and put {what} at {path}."
        f"{known}"
    )
