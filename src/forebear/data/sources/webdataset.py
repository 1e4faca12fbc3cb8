"""Tar shards in WebDataset's layout, read in place: nothing is unpacked.

A sample is a run of neighbouring files that share their name up to the first point of its last
part: 0001.jpg with 0001.cls (a number or a class's name) or 0001.json (with an entry `label`).
The headers of a shard are scanned once; where its pictures lie is kept in the cache folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import Dataset, EncodedPictures
from forebear.data.home import cache_folder
from forebear.data.sources.folders import EXTENSIONS
from forebear.data.sources.label_checks import checked_labels, numbered_classes
from forebear.data.sources.split import fingerprint, held_out
from forebear.errors import DataError, near_misses
from forebear.files import write_text
from forebear.text import printable

SIDE = 224  # pixels
HELD_OUT = 0.15  # share of each class, where no shard is for validation
VALIDATION = ("val", "test")  # beginnings of names; the first that is there ("val": validation too)

_VERSION = 1  # of the kept index
_MOST_LABEL = 2**20  # bytes of a .cls or .json file
_MOST_SHARDS = 100_000  # that a pattern may name
_LAYOUT = "KEY.jpg and KEY.cls (or KEY.json with an entry label) beside each other"
_log = logging.getLogger(__name__)


def read_shards(path: Path, spec: str) -> Dataset:
    """The pictures of all shards of a folder, or of those that a pattern names.

    Shards whose names begin with val, validation or test are for validation; without one, 15 % of
    each class are held out.

    Args:
        path: A folder with *.tar inside, one such file, or a pattern with braces, as in
            data/train-{000..146}.tar or data/{train,val}-{00..05}.tar.
        spec: As given to `read_data`.

    Raises:
        DataError: A shard is missing, damaged, compressed or holds more than plain files; a
            picture has no label.
    """
    train_files, val_files = _parts(path)
    train = [_index(file) for file in train_files]
    classes = _classes(train, printable(path))
    pictures = _pictures(train, classes)
    if not val_files:
        return held_out(pictures, share=HELD_OUT, spec=spec, classes=classes, side=SIDE)
    val = [_index(file) for file in val_files]
    both = [pictures, _pictures(val, classes)]
    keys = [
        [(key, label) for key, label in zip(_keys(part), own.labels.tolist(), strict=True)]
        for part, own in zip((train, val), both, strict=True)
    ]
    return Dataset(
        spec=spec,
        classes=classes,
        train=both[0],
        val=both[1],
        side=SIDE,
        mirror=True,
        split=f"as given by the shards {train_files[0].name}, ... and {val_files[0].name}, ...",
        fingerprint=fingerprint(classes, *keys),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shard:
    """Where the pictures of one shard lie."""

    path: str
    keys: list[str] = field(default_factory=list)  # names of the picture files inside
    offsets: list[int] = field(default_factory=list)  # bytes from the shard's beginning
    sizes: list[int] = field(default_factory=list)  # bytes
    labels: list[str] = field(default_factory=list)  # as written


def _parts(path: Path) -> tuple[list[Path], list[Path]]:
    """The shards to train on and those to validate with."""
    files = _files(path)
    for begin in VALIDATION:
        val = [file for file in files if file.name.startswith(begin)]
        if val:
            break
    others = [file for file in files if not file.name.startswith(VALIDATION)]
    if not others:
        raise DataError(
            f"{printable(path)}: no shard to train on. Expected *.tar files, those for validation "
            f"called val-*.tar. {'Rename the others.' if files else 'Check the path.'}"
        )
    return others, val


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
    """The names that a pattern with braces stands for, as a shell would spell them."""
    names = [pattern]
    while "{" in names[0]:
        match = re.search(r"\{(?:(\d{1,9})\.\.(\d{1,9})|([^{}]+))\}", names[0])
        if match is None:
            raise DataError(
                f"{printable(pattern)}: braces that do not close, or are empty. Expected "
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
                f"{printable(pattern)}: names {len(names) * len(values)} shards or more. Expected "
                f"1 to {_MOST_SHARDS}. Correct the pattern."
            )
        found = match.group(0)
        names = [name.replace(found, value, 1) for name in names for value in values]
    return names


def _index(file: Path) -> _Shard:
    """The kept index of a shard, or a new one, which is kept."""
    try:
        state = file.stat()
    except OSError as error:
        raise _unreadable(file, error) from error
    identity = f"{_VERSION}\0{file.resolve()}\0{state.st_size}\0{state.st_mtime_ns}"
    kept = (
        cache_folder()
        / f"shard-{hashlib.sha256(identity.encode(errors='surrogateescape')).hexdigest()[:32]}.json"
    )
    with suppress(OSError, ValueError, TypeError):  # not there, or damaged: made again
        entries = json.loads(kept.read_text(encoding="utf-8"))
        return _checked(_Shard(**{**entries, "path": str(file)}), state.st_size)
    shard = _scan(file, state.st_size)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, json.dumps(asdict(shard)))
    except OSError as error:
        _log.info("%s: its index was not kept (%s)", file, error)
    return shard


def _checked(shard: _Shard, size: int) -> _Shard:
    """The index as it was read. Raises ValueError where it cannot be that of such a shard."""
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
        raise ValueError("no index of this shard")
    return shard


def _scan(file: Path, size: int) -> _Shard:
    """Reads the headers of a shard, and the labels."""
    shard = _Shard(path=str(file))
    try:
        with tarfile.open(file, "r:") as archive:
            for key, members in _samples(archive, file, size):
                _add(shard, key, members, archive)
    except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError) as error:
        raise _unreadable(file, error) from error
    if not shard.keys:
        raise DataError(
            f"{printable(file)}: no pictures inside. Expected {_LAYOUT}. Remove the file."
        )
    return shard


def _samples(
    archive: tarfile.TarFile, file: Path, size: int
) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Runs of neighbouring files of one key, each file by what stands behind the first point."""
    key, members, end = "", dict[str, tarfile.TarInfo](), -1
    for member in archive:
        if member.isdir():
            continue
        # Sizes below zero make older tarfile modules go round in circles.
        if member.size < 0 or member.offset_data <= end or member.offset_data + member.size > size:
            raise tarfile.ReadError(f"{printable(member.name)} lies outside the file")
        end = member.offset_data
        if not member.isreg() or member.issparse():
            raise DataError(
                f"{printable(file)}: {printable(member.name)} is a link or a device. Expected "
                "plain files. Do not trust this shard: fetch it from its publisher."
            )
        folder, _, name = member.name.rpartition("/")
        stem, _, kind = name.partition(".")
        if not stem:  # hidden files, such as macOS leaves
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
    """Adds a sample to the index, or nothing where it has no picture."""
    pictures = [kind for kind in members if f".{kind.rpartition('.')[2]}" in EXTENSIONS]
    if not pictures:
        return
    where = f"{printable(Path(shard.path))}: {printable(key)}"
    if len(pictures) > 1:
        raise DataError(
            f"{where}: pictures {', '.join(map(printable, pictures))}. Expected one a sample. "
            "Name them apart, or leave all but one out."
        )
    picture = members[pictures[0]]
    shard.keys.append(picture.name)
    shard.offsets.append(picture.offset_data)
    shard.sizes.append(picture.size)
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
            label = json.loads(text)["label"]
        except (ValueError, KeyError, TypeError, RecursionError):
            label = None
        text = str(label) if isinstance(label, int | str) else ""
    if not text:
        raise DataError(
            f"{where}: its label is empty. Expected a number or a class's name in .cls, or as the "
            "entry label of .json. Write the shard again."
        )
    return text


def _classes(shards: list[_Shard], where: str) -> tuple[str, ...]:
    """Names in the order of their bytes, or all numbers from 0."""
    found = {label for shard in shards for label in shard.labels}
    if not all(map(_is_number, found)):
        return tuple(sorted(found, key=str.encode))
    numbers = np.array([int(label) for label in found], dtype=np.int64)
    return numbered_classes(numbers, f"{where}: labels", remedy="write names into .cls")


def _is_number(label: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,18}", label) is not None


def _pictures(shards: list[_Shard], classes: tuple[str, ...]) -> EncodedPictures:
    counts = [len(shard.keys) for shard in shards]
    places = _Places(
        [Path(shard.path) for shard in shards],
        np.repeat(np.arange(len(shards)), counts),
        np.concatenate([np.array(shard.offsets, dtype=np.int64) for shard in shards]),
        np.concatenate([np.array(shard.sizes, dtype=np.int64) for shard in shards]),
    )
    names = _Names([shard.path for shard in shards], [k for s in shards for k in s.keys], places)
    labels = np.concatenate([_numbers(shard, classes) for shard in shards])
    return EncodedPictures(_Members(places, names), names, labels)


def _numbers(shard: _Shard, classes: tuple[str, ...]) -> NDArray[np.int64]:
    where = f"{printable(Path(shard.path))}: labels"
    if classes == tuple(map(str, range(len(classes)))) and all(map(_is_number, shard.labels)):
        numbers = np.array([int(label) for label in shard.labels], dtype=np.int64)
        return checked_labels(numbers, classes, where)
    number = {name: label for label, name in enumerate(classes)}
    unknown = sorted(set(shard.labels) - number.keys())
    if unknown:
        raise DataError(
            f"{where}: {printable(unknown[0])} ({len(unknown)} such names) is no class that is "
            f"trained.{near_misses(unknown[0], classes)} Expected one of the {len(classes)} of the "
            "training shards. Correct the labels or leave the shard out."
        )
    return np.array([number[label] for label in shard.labels], dtype=np.int64)


def _keys(shards: list[_Shard]) -> Iterator[bytes]:
    """What tells a picture from others without reading it: shard, name and size."""
    for shard in shards:
        for key, size in zip(shard.keys, shard.sizes, strict=True):
            yield f"{Path(shard.path).name}\0{key}\0{size}".encode(errors="surrogateescape")


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Where pictures lie, as arrays: there may be millions."""

    files: list[Path]
    shards: NDArray[np.int64]  # [N], into files
    offsets: NDArray[np.int64]  # [N], bytes
    sizes: NDArray[np.int64]  # [N], bytes


@dataclass(frozen=True, slots=True, eq=False)
class _Names:
    """What the pictures are called: shard and name."""

    shards: list[str]
    keys: list[str]
    places: _Places

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int, /) -> str:
        return f"{self.shards[self.places.shards[index]]}: {self.keys[index]}"


@dataclass(frozen=True, slots=True, eq=False)
class _Members:
    """The bytes of pictures, each read from its shard when it is asked for."""

    places: _Places
    names: _Names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> bytes:
        places, size = self.places, int(self.places.sizes[index])
        try:
            with places.files[int(places.shards[index])].open("rb") as file:
                file.seek(int(places.offsets[index]))
                content: bytes = file.read(size)
        except OSError as error:
            raise DataError(
                f"{printable(self.names[index])}: cannot be read ({error.strerror}). Expected the "
                "shard as it was at the start. Restore it, and begin again."
            ) from error
        if len(content) != size:
            raise DataError(
                f"{printable(self.names[index])}: the shard ends within it. Expected the shard as "
                "it was at the start. Restore it, and begin again."
            )
        return content


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(
        f"{printable(file)}: cannot be read ({printable(error)}). Expected a whole tar file "
        "that is not compressed, as its pictures are already. Unpack a .gz with gunzip, or fetch "
        "the shard again."
    )
