"""What every reader gives: all arrays of a file, and the dicts that their names come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from forebear.weights.readers.base import Arrays
from forebear.weights.readers.detect import open_arrays


def test_a_file_of_one_network_is_whole_and_has_no_dicts(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.ones(2))
    with open_arrays(tmp_path / "a.npz") as arrays:
        assert isinstance(arrays, Arrays)
        assert arrays.whole is arrays
        assert arrays.scope("a") == ""
        assert arrays.unbuilt == ()
        assert len(arrays) == 1


def test_the_whole_of_a_torch_file_has_every_dict(tmp_path: Path) -> None:
    net = {"module.a": torch.ones(2), "module.b": torch.ones(1)}
    content = {"net": net, "o": {0: [torch.ones(3)]}}
    torch.save(content, tmp_path / "a.pth")
    with open_arrays(tmp_path / "a.pth") as arrays:
        assert list(arrays) == ["a", "b"]
        assert list(arrays.whole) == ["net.module.a", "net.module.b", "o.0.0"]
        assert arrays.whole.scope("net.module.a") == "net."
        assert arrays.whole.scope("o.0.0") == "o.0."
        assert arrays.whole["o.0.0"].tolist() == [1, 1, 1]
