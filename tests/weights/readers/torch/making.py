"""Files of torch.save, and archives with other members."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

KINDS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(path: Path, content: object, *, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def rezip(path: Path, changed: dict[str, bytes], method: int = 0) -> Path:
    """Writes an archive again with other members, or by another method."""
    with ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    folder = next(iter(members)).split("/")[0]
    members |= {f"{folder}/{name}": data for name, data in changed.items()}
    with ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path
