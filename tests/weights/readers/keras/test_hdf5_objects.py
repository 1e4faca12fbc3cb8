"""Groups and headers of HDF5: circles, links and newer kinds are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.weights.readers.keras.making import legacy
from tests.weights.readers.making import (
    golden,
    refusal,
)

h5py = pytest.importorskip("h5py")  # to make odd files; reading needs none


@pytest.mark.parametrize("kind", ["soft", "external", "chunks", "virtual", "outside", "latest"])
def test_what_keras_does_not_write_is_refused(kind: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(12))
    path = legacy(tmp_path / "a.h5", "conv1", {"kernel:0": None})
    with h5py.File(path, "a", libver="latest" if kind == "latest" else None) as file:
        group = file["conv1"]
        match kind:
            case "soft":
                group["kernel:0"] = h5py.SoftLink("/elsewhere")
            case "external":
                group["kernel:0"] = h5py.ExternalLink(str(secret), "/data")
            case "chunks":
                group.create_dataset("kernel:0", (10**9,), "f4", compression="gzip")
            case "virtual":
                layout = h5py.VirtualLayout((3,), "f4")
                layout[:] = h5py.VirtualSource(secret, "data", (3,))
                group.create_virtual_dataset("kernel:0", layout)
            case "outside":
                group.create_dataset("kernel:0", (3,), "f4", external=[(str(secret), 0, 12)])
            case "latest":
                group.create_dataset("kernel:0", data=np.ones((3, 3)))
    wanted = {
        "soft": "a soft link",
        "external": "links or shared",
        "latest": "object header of version",
    }
    assert wanted.get(kind, "conv1/kernel") in refusal(path)


def test_groups_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    path = tmp_path / "a.weights.h5"
    with h5py.File(path, "w") as file:
        groups = [file.create_group(f"layers/g{i}") for i in range(20)]
        for group in groups:
            for i, other in enumerate(groups):
                group[f"to{i}"] = other
        groups[0].create_group("vars")["0"] = np.ones(1)
    assert "it has circular references" in refusal(path)


def test_a_file_cut_short_says_how_much_is_there(tmp_path: Path) -> None:
    path = golden("keras2.h5", tmp_path)
    path.write_bytes(path.read_bytes()[:40_000])
    assert "but it has 40000" in refusal(path)
