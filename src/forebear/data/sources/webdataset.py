"""Tar shards in WebDataset's layout, read in place without unpacking.

A sample is a run of consecutive files that share their key, the path up to the first dot of the
file name: 0001.jpg with 0001.cls (a number or a class name) or 0001.json (with an entry `label`).
The headers of a shard are scanned once. The index of its images is saved in the cache folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import Dataset, EncodedImages
from forebear.data.sources.label_checks import (
    checked_classes,
    checked_labels,
    numbered_classes,
)
from forebear.data.sources.layout import EXTENSIONS
from forebear.data.sources.part_names import part_of
from forebear.data.sources.shard_members import ShardMembers, ShardNames, ShardPlaces
from forebear.data.sources.split import given, split_validation
from forebear.errors import DataError, near_misses
from forebear.files import cache_folder, make_private, own_text, write_text
from forebear.limits import SHARD_MEMBERS
from forebear.text import printable
from forebear.untrusted import opened, parse_json

SIDE = 224  # pixels
VALIDATION_FRACTION = 0.15  # fraction of each class for validation, if there is no validation shard
VALIDATION = ("val", "test")  # parts by the names of the shards, in order of preference

_VERSION = 2  # format version of the cached index
_END = 2**16  # bytes at each end of a shard that its identity covers
_MOST_INDEX = 2**31  # bytes of a cached index
_MOST_LABEL = 2**20  # largest .cls or .json file in bytes
_MOST_SHARDS = 100_000  # largest number of shards in a pattern
_LAYOUT = "KEY.jpg and KEY.cls (or KEY.json with an entry label) next to each other"
_log = logging.getLogger(__name__)


def read_shards(path: Path, spec: str) -> Dataset:
    """Reads the images of all shards in a folder, or of those that match a pattern.

    Shards whose names begin with val or validation are used for validation, or else those that
    begin with test. Without any of them, 15 % of each class are used for validation.

    Args:
        path: A folder with *.tar files, one such file, or a pattern with braces, as in
            data/train-{000..146}.tar or data/{train,val}-{00..05}.tar.
        spec: The spec given to `read_data`.

    Raises:
        DataError: A shard is missing, damaged, compressed or contains links or devices, or an
            image has no label.
    """
    train_files, val_files = _parts(path)
    train = [_index(file) for file in train_files]
    classes = _classes(train, printable(path))
    images = _images(train, classes)
    if not val_files:
        return split_validation(
            images, fraction=VALIDATION_FRACTION, spec=spec, classes=classes, side=SIDE
        )
    val = [_index(file) for file in val_files]
    both = [images, _images(val, classes)]
    return given(
        *both,
        spec=spec,
        classes=classes,
        side=SIDE,
        split=f"given by the shards {train_files[0].name}, ... and {val_files[0].name}, ...",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shard:
    """The index of the images in one shard."""

    path: str
    keys: list[str] = field(default_factory=list)  # names of the image files inside
    offsets: list[int] = field(default_factory=list)  # bytes from the start of the shard
    sizes: list[int] = field(default_factory=list)  # bytes
    labels: list[str] = field(default_factory=list)  # as written


def _parts(path: Path) -> tuple[list[Path], list[Path]]:
    """Returns the training shards and the validation shards."""
    files = _files(path)
    parts = [_part(file) for file in files]
    for wanted in VALIDATION:
        val = [file for file, part in zip(files, parts, strict=True) if part == wanted]
        if val:
            break
    others = [file for file, part in zip(files, parts, strict=True) if part not in VALIDATION]
    if not others:
        raise DataError(
            f"{printable(path)}: no training shard. Expected *.tar files, with names val-*.tar "
            f"only for validation. {'Rename the training shards.' if files else 'Check the path.'}"
        )
    return others, val


def _part(file: Path) -> str:
    """Returns the part that the name of a shard means; train if it means none."""
    found = part_of(file.stem)
    return "train" if found is None else found[0]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.tar"))
    files = [Path(name) for name in _spelled(str(path))]
    for file in files:
        if not file.is_file():
            raise DataError(
                f"{printable(file)}: no such file. Expected a shard. Check the path and the "
                "pattern."
            )
    return files


def _spelled(pattern: str) -> list[str]:
    """Returns the names that a pattern with braces expands to, as in a shell."""
    names = [pattern]
    while "{" in names[0]:
        match = re.search(r"\{(?:(\d{1,9})\.\.(\d{1,9})|([^{}]+))\}", names[0])
        if match is None:
            raise DataError(
                f"{printable(pattern)}: unclosed or empty braces. Expected braces like "
                "{000..146} or {train,val}. Correct the pattern."
            )
        first, last, listed = match.groups()
        if listed is None:
            count = int(last) - int(first) + 1
            values = [
                f"{n:0{len(first)}}"
                for n in range(int(first), int(first) + min(count, _MOST_SHARDS + 1))
            ]
        else:
            values = listed.split(",")
        if not values or len(names) * len(values) > _MOST_SHARDS:
            raise DataError(
                f"{printable(pattern)}: at least {len(names) * len(values)} shards. Expected "
                f"1 to {_MOST_SHARDS}. Correct the pattern."
            )
        found = match.group(0)
        names = [name.replace(found, value, 1) for name in names for value in values]
    return names


def _index(file: Path) -> _Shard:
    """Returns the cached index of a shard, or scans the shard and caches the index."""
    try:
        with opened(file) as opened_file:
            state = os.fstat(opened_file.fileno())
            ends = _ends(opened_file, state.st_size)
    except OSError as error:
        raise _unreadable(file, error) from error
    # The times and the inode change with every rewrite; the ends differ where a clock jumped.
    facts = (_VERSION, file.resolve(), state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    identity = f"{facts} {state.st_dev} {state.st_ino} {ends}"
    kept = (
        cache_folder()
        / f"shard-{hashlib.sha256(identity.encode(errors='surrogateescape')).hexdigest()[:32]}.json"
    )
    with suppress(OSError, ValueError, TypeError):  # if missing or damaged, scan again
        entries = json.loads(own_text(kept, most=_MOST_INDEX))
        return _checked(_Shard(**{**entries, "path": str(file)}), state.st_size)
    shard = _scan(file, state.st_size)
    try:
        make_private(kept.parent)
        write_text(kept, json.dumps(asdict(shard)))
    except OSError as error:
        _log.info("%s: its index was not cached (%s)", file, error)
    return shard


def _ends(file: IO[bytes], size: int) -> str:
    """Returns the SHA-256 of the first and the last blocks of a shard."""
    total = hashlib.sha256(file.read(_END))
    file.seek(max(0, size - _END))
    total.update(file.read(_END))
    return total.hexdigest()


def _checked(shard: _Shard, size: int) -> _Shard:
    """Returns the index unchanged.

    Raises:
        ValueError: It cannot be the index of a shard of `size` bytes.
    """
    columns = (shard.keys, shard.offsets, shard.sizes, shard.labels)
    texts = [value for column in (shard.keys, shard.labels) for value in column]
    whole = (
        len({len(column) for column in columns}) == 1
        and all(isinstance(text, str) for text in texts)
        and all(
            0 <= at <= at + length <= size
            for at, length in zip(shard.offsets, shard.sizes, strict=True)
        )
    )
    if not whole:
        raise ValueError("not an index of this shard")
    return shard


def _scan(file: Path, size: int) -> _Shard:
    """Builds the index of a shard from its headers and labels."""
    shard = _Shard(path=str(file))
    try:
        with tarfile.open(file, "r:") as archive:
            for key, members in _samples(archive, file, size):
                _add(shard, key, members, archive)
    except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError) as error:
        raise _unreadable(file, error) from error
    if not shard.keys:
        raise DataError(
            f"{printable(file)}: no images inside. Expected {_LAYOUT}. Remove the file."
        )
    return shard


def _samples(
    archive: tarfile.TarFile, file: Path, size: int
) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Yields the key of each sample, and its files by extension, from the first dot on."""
    key, members, end = "", dict[str, tarfile.TarInfo](), -1
    for number, member in enumerate(archive):
        if number >= SHARD_MEMBERS:
            raise tarfile.ReadError(f"it has more than {SHARD_MEMBERS:,} files")
        if member.isdir():
            continue
        # Negative sizes make older tarfile modules loop forever.
        if member.size < 0 or member.offset_data <= end or member.offset_data + member.size > size:
            raise tarfile.ReadError(f"{printable(member.name)} is outside the file")
        end = member.offset_data
        if not member.isreg() or member.issparse():
            raise DataError(
                f"{printable(file)}: {printable(member.name)} is a link or a device. Expected "
                "plain files. Do not trust this shard: download it from its publisher."
            )
        folder, _, name = member.name.rpartition("/")
        stem, _, kind = name.partition(".")
        if not stem:  # hidden files, such as those of macOS
            continue
        own = f"{folder}/{stem}" if folder else stem
        if own != key:
            if members:
                yield key, members
            key, members = own, {}
        members[kind.lower()] = member
    if members:
        yield key, members


def _add(
    shard: _Shard, key: str, members: dict[str, tarfile.TarInfo], archive: tarfile.TarFile
) -> None:
    """Adds a sample to the index, unless it has no image."""
    images = [kind for kind in members if f".{kind.rpartition('.')[2]}" in EXTENSIONS]
    if not images:
        return
    where = f"{printable(Path(shard.path))}: {printable(key)}"
    if len(images) > 1:
        raise DataError(
            f"{where}: images {', '.join(map(printable, images))}. Expected one image per sample. "
            "Give each image its own key, or remove all but one."
        )
    image = members[images[0]]
    shard.keys.append(image.name)
    shard.offsets.append(image.offset_data)
    shard.sizes.append(image.size)
    shard.labels.append(_label(members, archive, where))


def _label(members: dict[str, tarfile.TarInfo], archive: tarfile.TarFile, where: str) -> str:
    member = members.get("cls") or members.get("json")
    stream = archive.extractfile(member) if member and member.size <= _MOST_LABEL else None
    if stream is None:
        raise DataError(
            f"{where}: no label, only {', '.join(map(printable, members))}. Expected {_LAYOUT}. "
            "Write the shard again."
        )
    text = stream.read().decode("utf-8", "replace").strip()
    if member is not members.get("cls"):
        try:
            label = parse_json(text)["label"]
        except (ValueError, KeyError, TypeError, RecursionError):
            label = None
        text = str(label) if isinstance(label, int | str) else ""
    if not text:
        raise DataError(
            f"{where}: its label is empty. Expected a number or a class name in .cls, or as the "
            "entry label of .json. Write the shard again."
        )
    return text


def _classes(shards: list[_Shard], where: str) -> tuple[str, ...]:
    """Returns the class names sorted by their bytes, or the numbers from 0."""
    found = {label for shard in shards for label in shard.labels}
    if not all(map(_is_number, found)):
        return checked_classes(sorted(found, key=str.encode), f"{where}: labels")
    numbers = np.array([int(label) for label in found], dtype=np.int64)
    return numbered_classes(numbers, f"{where}: labels", remedy="write names into .cls")


def _is_number(label: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,18}", label) is not None


def _images(shards: list[_Shard], classes: tuple[str, ...]) -> EncodedImages:
    counts = [len(shard.keys) for shard in shards]
    places = ShardPlaces(
        [Path(shard.path) for shard in shards],
        np.repeat(np.arange(len(shards)), counts),
        np.concatenate([np.array(shard.offsets, dtype=np.int64) for shard in shards]),
        np.concatenate([np.array(shard.sizes, dtype=np.int64) for shard in shards]),
    )
    names = ShardNames(
        [shard.path for shard in shards], [k for s in shards for k in s.keys], places
    )
    labels = np.concatenate([_numbers(shard, classes) for shard in shards])
    return EncodedImages(ShardMembers(places, names), names, labels)


def _numbers(shard: _Shard, classes: tuple[str, ...]) -> NDArray[np.int64]:
    where = f"{printable(Path(shard.path))}: labels"
    if classes == tuple(map(str, range(len(classes)))) and all(map(_is_number, shard.labels)):
        numbers = np.array([int(label) for label in shard.labels], dtype=np.int64)
        return checked_labels(numbers, classes, where)
    number = {name: label for label, name in enumerate(classes)}
    unknown = sorted(set(shard.labels) - number.keys())
    if unknown:
        raise DataError(
            f"{where}: class {printable(unknown[0])} ({len(unknown)} such classes) is not in the "
            f"training shards.{near_misses(unknown[0], classes)} Expected one of their "
            f"{len(classes)} classes. Correct the labels or remove the shard."
        )
    return np.array([number[label] for label in shard.labels], dtype=np.int64)


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(
        f"{printable(file)}: cannot be read ({printable(str(error))}). Expected a complete, "
        "uncompressed tar file. Unpack a .gz with gunzip, or download the shard again."
    )
