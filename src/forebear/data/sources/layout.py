"""Recognises how a folder of images is laid out, by a short table of rules.

The rules, in the order in which they are tried:

    ROOT/only/...                      a lone folder around the rest: stepped into
    ROOT/train/CLASS, ROOT/valid/CLASS parts by name; other folders next to them are not used
    ROOT/CLASS/train, ROOT/CLASS/val   parts inside the classes
    ROOT/fold1/CLASS, ROOT/fold2/...   folds: refused, as the choice is the user's
    ROOT/images, ROOT/labels           a data set for detection or segmentation: refused
    ROOT/CLASS                         classes

Hidden folders, folders of the operating system, and the outputs of training runs are never classes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from forebear.data.sources.part_names import PARTS, Part, is_part, part_of
from forebear.errors import DataError
from forebear.text import printable

LAYOUT = "one folder per class, or train and val folders that contain one folder per class"

_WRAPPERS = 8  # lone folders around the classes that are stepped into, at most
_SYSTEM = frozenset(  # folders that systems and tools put next to the user's, in lower case
    ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "__pycache__")
)
_OUTPUTS = frozenset(  # usual names of folders with the outputs of training runs, in lower case
    (
        *("runs", "run", "logs", "log", "wandb", "mlruns", "mlflow", "trackio", "tensorboard"),
        *("lightning_logs", "tb_logs"),
    )
)
_WEIGHTS = (".safetensors", ".ckpt", ".pth", ".pt", ".h5", ".keras", ".onnx", ".tfevents")
_TRACKED = (".wandb", ".db")  # files of experiment trackers
_SETTINGS = ("args.yaml", "hparams.yaml", "config.yaml", "meta.yaml")  # of other trainers
_FOLD = re.compile(r"(?:k?fold|cv|split|part|batch)[ _-]?\d+", re.IGNORECASE)
_DETECTION = frozenset(("labels", "annotations", "masks", "bboxes", "label"))
_IMAGES = frozenset(("images", "jpegimages", "imgs", "img"))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the images of each part are."""

    root: Path
    # For each part, the folders of its classes: (class, folder). Parts that are missing are absent.
    parts: dict[Part, list[tuple[str, Path]]]
    origins: dict[Part, str]  # for each part, where it comes from: "valid/"
    unlabelled: dict[Part, Path] = field(default_factory=dict)  # parts without class folders
    notes: tuple[str, ...] = ()  # what the user should know


def recognise(root: Path) -> Layout:
    """Returns the layout of a folder.

    Raises:
        DataError: The folder cannot be listed, or no rule fits.
    """
    if not root.is_dir():
        found = "a file, not a folder" if root.exists() else "no such folder"
        raise DataError(f"{printable(root)}: {found}. Expected {LAYOUT}. Check the path.")
    inner = _unwrapped(root)
    names, notes = _candidates(inner)
    _refuse_folds(inner, names)
    _refuse_detection(inner, names)
    parts = _parts(inner, names)
    if parts is not None:
        return _with_parts(root, inner, names, parts, notes)
    turned = _transposed(inner, names)
    if turned is not None:
        origins = {part: f"CLASS/{_said(root, inner)}{part}/" for part in turned}
        return Layout(root, turned, origins, notes=tuple(notes))
    alike = _alike(inner, names)
    if alike:
        notes.append(
            f"every class folder contains the folders {', '.join(map(printable, alike))}, whose "
            "names are not used"
        )
    classes = [(name, inner / name) for name in names]
    return Layout(root, {"train": classes}, {"train": _said(root, inner)}, notes=tuple(notes))


def _with_parts(
    root: Path, inner: Path, names: list[str], parts: dict[Part, str], notes: list[str]
) -> Layout:
    found: dict[Part, list[tuple[str, Path]]] = {}
    unlabelled, origins = {}, {}
    for part, name in parts.items():
        folder = _unwrapped(inner / name)
        classes, unused = _candidates(folder)
        notes += unused
        origins[part] = _said(root, folder)
        if classes:
            found[part] = [(one, folder / one) for one in classes]
        else:
            unlabelled[part] = folder
    for name in names:
        if name not in parts.values():
            notes.append(f"the folder {printable(name)}/ is not used, as it is no part by its name")
    return Layout(root, found, origins, unlabelled, tuple(notes))


def _unwrapped(folder: Path) -> Path:
    """Returns the folder inside lone folders that contain nothing but folders."""
    for _ in range(_WRAPPERS):
        names, _notes = _candidates(folder)
        if len(names) != 1 or _has_images(folder):
            break
        below, _notes = _candidates(folder / names[0])
        if not below or _has_images(folder / names[0]):
            break
        folder = folder / names[0]
    return folder


def _candidates(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the names of folders that can be classes or parts, and a note for each other one."""
    names, notes = [], []
    for entry in entries(folder):
        if not is_folder(entry) or entry.name.casefold() in _SYSTEM:
            continue
        if is_output(Path(entry.path)):
            shown = printable(entry.name)
            notes.append(f"{shown}/ is not used, as it contains the outputs of training runs")
        else:
            names.append(entry.name)
    return names, notes


def is_output(folder: Path) -> bool:
    """Whether a folder contains what a training run has written, rather than images of a class."""
    try:
        inside = {entry.name for entry in os.scandir(folder)}
    except OSError:
        return False
    if "settings.json" in inside and inside & {"metrics.jsonl", "model.safetensors", "checkpoints"}:
        return True
    below = [folder / name for name in sorted(inside)[:100]]
    folders = [one for one in below if one.is_dir() and not one.is_symlink()]
    if folders and len(folders) == len(below) and all(map(is_output, folders)):
        return True
    return folder.name.casefold() in _OUTPUTS and _has_weights(folder)


def _has_weights(folder: Path, depth: int = 4) -> bool:
    """Whether there are weights, logs or settings of a trainer, some levels deep."""
    for entry in entries(folder):
        name = entry.name.casefold()
        if name.endswith((*_WEIGHTS, *_TRACKED)) or ".tfevents." in name or name in _SETTINGS:
            return True
        deeper = depth and is_folder(entry) and not entry.is_symlink()
        if deeper and _has_weights(Path(entry.path), depth - 1):
            return True
    return False


def _parts(root: Path, names: Sequence[str]) -> dict[Part, str] | None:
    """Returns the folder of each part; None if the folders are not parts.

    Raises:
        DataError: Several folders are the same part, or there are parts but no training part.
    """
    groups: dict[str, list[tuple[Part, str]]] = {}
    for name in names:
        known = part_of(name)
        if known is not None and (is_part(name) or not _has_images(root / name)):
            groups.setdefault(known[1], []).append((known[0], name))
    plain = groups.pop("", [])
    if plain:
        # Beside folders of images, a folder called train with images is a class: the vehicle.
        others = [name for name in names if name not in {name for _, name in plain}]
        nested = [name for _, name in plain if not _has_images(root / name)]
        if others and not nested:
            return None
        return _one_each(root, plain)
    several = {rest: group for rest, group in groups.items() if len({p for p, _ in group}) > 1}
    if len(several) > 1:
        shown = ", ".join(printable(name) for group in several.values() for _, name in group[:2])
        raise DataError(
            f"{printable(root)}: the folders {shown} name parts and classes at once. Expected "
            f"{LAYOUT}. Move them to train/CLASS and val/CLASS."
        )
    return _one_each(root, next(iter(several.values()))) if several else None


def _one_each(root: Path, group: list[tuple[Part, str]]) -> dict[Part, str]:
    found: dict[Part, str] = {}
    for part, name in sorted(group, key=lambda one: PARTS.index(one[0])):
        if part in found:
            raise DataError(
                f"{printable(root)}: {printable(found[part])} and {printable(name)} are both names "
                f"of the {part} part. Expected one folder for each part. Rename or move one."
            )
        found[part] = name
    if "train" not in found and len(found) > 1:
        raise DataError(
            f"{printable(root)}: the folders {', '.join(map(printable, found.values()))}, and none "
            "for training. Expected a folder train next to them. Rename the folder of the training "
            f"images, or pass one part, as in folder:{printable(root / next(iter(found.values())))}"
        )
    if "train" not in found:  # a lone validation or test folder: all that there is
        return {"train": next(iter(found.values()))}
    return found


def _transposed(root: Path, names: Sequence[str]) -> dict[Part, list[tuple[str, Path]]] | None:
    """Returns the parts of ROOT/CLASS/train and ROOT/CLASS/val; None for another layout."""
    found: dict[Part, list[tuple[str, Path]]] = {}
    for name in names:
        inside, _ = _candidates(root / name)
        if not inside or not all(map(is_part, inside)) or _has_images(root / name):
            return None
        for part, own in _one_each(root / name, [(_part(one), one) for one in inside]).items():
            found.setdefault(part, []).append((name, root / name / own))
    return found if "train" in found and len(found) > 1 else None


def _part(name: str) -> Part:
    found = part_of(name)
    assert found is not None
    return found[0]


def _refuse_folds(root: Path, names: Sequence[str]) -> None:
    if len(names) > 1 and all(map(_FOLD.fullmatch, names)) and _alike(root, names, least=1):
        raise DataError(
            f"{printable(root)}: the folders {', '.join(map(printable, names[:5]))} are folds, not "
            f"classes. Expected {LAYOUT}. Move the folds to train and val folders, or pass one of "
            f"them, as in folder:{printable(root / names[0])}"
        )


def _refuse_detection(root: Path, names: Sequence[str]) -> None:
    known = {name.casefold() for name in names}
    if known & _IMAGES and known & _DETECTION and known <= _IMAGES | _DETECTION:
        raise DataError(
            f"{printable(root)}: the folders {', '.join(map(printable, names))} are those of a "
            f"data set for detection or segmentation. Expected {LAYOUT}. Move each image into a "
            "folder of its class, or list images and labels in a CSV and pass csv:FILE."
        )


def _alike(root: Path, names: Sequence[str], least: int = 2) -> list[str]:
    """Returns the names of the folders that every class folder contains, if they are the same."""
    inside = [_candidates(root / name)[0] for name in names]
    same = len(names) > 1 and len(inside[0]) >= least and all(one == inside[0] for one in inside)
    return inside[0] if same and not any(_has_images(root / name) for name in names) else []


def _said(root: Path, folder: Path) -> str:
    """Where a part comes from, relative to what the user passed: "train/", or "" for all of it."""
    below = os.path.relpath(folder, root)
    return "" if below == "." else f"{printable(below)}/"


def _has_images(folder: Path) -> bool:
    return any(loose_images(folder))


def loose_images(folder: Path) -> Iterable[str]:
    """Yields the paths of the images directly in a folder, by their extension."""
    return (entry.path for entry in entries(folder) if has_extension(entry.name))


EXTENSIONS = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc",
}  # fmt: skip


def has_extension(name: str) -> bool:
    """Whether a file name ends as those of images do."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122 - Path objects are slow


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Returns what is in a folder, without hidden entries, in the order of the bytes of the names.

    Raises:
        DataError: The folder cannot be listed.
    """
    try:
        with os.scandir(folder) as found:
            seen = [entry for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(
            f"{printable(folder)}: cannot be listed ({error.strerror}). Expected a readable "
            "folder. Check its permissions."
        ) from error
    return sorted(seen, key=lambda entry: os.fsencode(entry.name))
