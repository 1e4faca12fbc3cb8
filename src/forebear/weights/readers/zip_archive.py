"""Opens zip archives of checkpoints, and checks their sizes and structure before any is read."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

from forebear.text import truncated
from forebear.weights.readers.errors import MAX_NAMES, largest_content, reading, refused

_EXPECTED = "a whole zip archive"
_END = 22  # bytes of the end record, without comment
_LOCATOR = 20  # bytes of zip64's locator, before the end record
_END_64 = 56  # bytes of zip64's end record, before the locator


def open_archive(path: Path) -> ZipFile:
    """Opens a zip archive of plain members with a plausible unpacked size.

    Raises:
        WeightsError: The file is not a zip archive, it is a zip bomb, or a member occurs twice, is
            encrypted, or has an unsupported compression method.
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
        what = "it has too many members, or two with the same name"
        raise refused(path, what, f"at most {MAX_NAMES} members with different names")
    for member in members:
        if member.flag_bits & 1 or member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise refused(
                path,
                f"{truncated(member.filename)}: encrypted, or compressed with method "
                f"{member.compress_type}",
                "members that are stored or deflated",
            )
    unpacked = sum(member.file_size for member in members)
    if unpacked > largest_content(size):
        raise refused(
            path,
            f"its {size} bytes claim to unpack to {unpacked} bytes",
            f"at most {largest_content(size)} bytes",
            "Do not trust this file.",
        )
    if _directory(path, size) != archive.start_dir:
        what = "its directory is not at the offset that its end record gives"
        raise refused(path, what, _EXPECTED)


def _directory(path: Path, size: int) -> int | None:
    """Returns the offset of the directory; None if zip readers could interpret it differently."""
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
