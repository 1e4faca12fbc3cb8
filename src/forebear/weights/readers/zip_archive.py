"""Zip archives as checkpoints use them: checked in size and shape before any member is read."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

from forebear.weights.readers.errors import MAX_NAMES, largest_content, reading, refused

_EXPECTED = "a whole zip archive"
_END = 22  # bytes of the end record, without comment
_LOCATOR = 20  # of what zip64 puts before it
_END_64 = 56  # of what zip64 puts before that


def open_archive(path: Path) -> ZipFile:
    """Opens a zip archive of plain members that unpack to no more than files of weights do.

    Raises:
        WeightsError: no zip archive, members twice or encrypted or compressed in other ways, or a
            bomb.
    """
    with reading(path, _EXPECTED):
        archive = ZipFile(path)
    try:
        with reading(path, _EXPECTED):
            _check(path, archive)
    except BaseException:
        archive.close()
        raise
    return archive


def _check(path: Path, archive: ZipFile) -> None:
    size = path.stat().st_size
    members = archive.infolist()
    if len(members) > MAX_NAMES or len({member.filename for member in members}) < len(members):
        raise refused(path, "too many members, or two of one name", _EXPECTED)
    for member in members:
        if member.flag_bits & 1 or member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise refused(
                path,
                f"{member.filename}: encrypted, or compressed by method {member.compress_type}",
                "members that are stored or deflated",
            )
    unpacked = sum(member.file_size for member in members)
    if unpacked > largest_content(size):
        raise refused(
            path,
            f"{size} bytes that claim to unpack to {unpacked}",
            f"at most {largest_content(size)}",
            "Do not trust this file.",
        )
    if _directory(path, size) != archive.start_dir:
        raise refused(path, "its directory is not where its end says", _EXPECTED)


def _directory(path: Path, size: int) -> int | None:
    """Where the directory starts, or None where two readers of zip may see two archives."""
    with path.open("rb") as file:
        file.seek(max(0, size - _END - _LOCATOR - _END_64))
        tail = file.read()
    end = tail[-_END:]
    if not end.startswith(b"PK\5\6") or end[20:] != b"\0\0":
        return None
    locator, end_64 = tail[-_END - _LOCATOR : -_END], tail[: -_END - _LOCATOR]
    if not locator.startswith(b"PK\6\7"):
        return int.from_bytes(end[16:20], "little")
    placed = int.from_bytes(locator[8:16], "little") == size - _END - _LOCATOR - _END_64
    if not placed or not end_64.startswith(b"PK\6\6"):
        return None
    return int.from_bytes(end_64[48:56], "little")
