"""Reads pickles of numpy arrays: Paddle's .pdparams, and the .pkl files of Detectron.

The pickle is followed by `forebear.safe_unpickle`, which runs nothing that it names. Caffe2 writes
an underscore between a layer and its array, "res2_0_branch2a_w", and its norms are folded into a
scale and a shift. Here the names have a dot, and the folded norms have statistics that change
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from forebear.errors import DataError
from forebear.limits import NESTING, PICKLED_ARRAYS_BYTES
from forebear.safe_unpickle import unpickle_arrays
from forebear.text import truncated
from forebear.weights.readers.base import Array, Arrays
from forebear.weights.readers.errors import check_names, reading, refused

_EXPECTED = "a pickle of numpy arrays by name, as Paddle and Detectron write"
_REMEDY = "Save its arrays with numpy.savez."
_CAFFE2 = re.compile(r"(?P<layer>(?:res\w*|conv1|pred|fc1000))_(?P<array>w|b|s|rm|riv)")
FOLDED_VARIANCE = 1 - 1e-5  # with epsilon 1e-5, a norm with it and mean 0 is scale and shift


class PickledArrays(Arrays):
    """The arrays of a pickle of nested dicts. All of them are in memory."""

    format = "pickle of numpy arrays"

    def __init__(self, path: Path) -> None:
        """Reads the file.

        Raises:
            WeightsError: The file is too large, holds no arrays, or refers to anything but arrays.
        """
        self.path = path
        size = path.stat().st_size
        if size > PICKLED_ARRAYS_BYTES:
            what = f"it has {size:,} bytes, and a pickle is read into memory"
            raise refused(path, what, f"at most {PICKLED_ARRAYS_BYTES:,} bytes", _REMEDY)
        where = truncated(path)
        with reading(path, _EXPECTED):
            pickled = path.read_bytes()
        try:
            content = unpickle_arrays(pickled, where)
        except DataError as error:
            what = str(error).removeprefix(f"{where}: ").partition(". Expected")[0]
            what = f"this is a pickle that torch.save did not write: {what}"
            raise refused(path, what, _EXPECTED, _REMEDY) from error
        found = dict(_arrays(content))
        if not found:
            raise refused(path, "it holds no arrays with names", _EXPECTED, "Pass another file.")
        check_names(path, found)
        self._arrays = with_dots(found)

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of an array."""
        return self._arrays[name].shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Returns the dtype of an array."""
        return self._arrays[name].dtype

    def close(self) -> None:
        """Forgets the arrays."""
        self._arrays = {}


def with_dots(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Returns arrays with Caffe2's names under names with a dot, and with complete norms."""
    dotted = dots(arrays)
    found = {name: arrays[own] for name, own in dotted.items()}
    for name in dotted:
        layer, _, array = name.rpartition(".")
        if array == "s" and f"{layer}.rm" not in found:
            found[f"{layer}.rm"] = np.zeros_like(found[name])
            found[f"{layer}.riv"] = np.full_like(found[name], FOLDED_VARIANCE)
    return found


def dots(names: Iterable[str]) -> dict[str, str]:
    """Returns {name with a dot: name}, if the names are Caffe2's; otherwise the names as they are.

    Momenta of a training are left out.
    """
    listed = list(names)
    if not any(re.search(r"(?:^|[./])res2_0_branch2a_w(?:_0)?$", name) for name in listed):
        return {name: name for name in listed}
    found = {}
    for name in listed:
        scope, last = re.match(r"(.*[./])?(.*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
        match = _CAFFE2.fullmatch(last)
        if match is not None:
            found[f"{scope or ''}{match['layer']}.{match['array']}"] = name
        elif not last.endswith("_momentum"):
            found[name] = name
    return found


def _arrays(content: object, scope: str = "", depth: int = 0) -> Iterator[tuple[str, Array]]:
    """Yields the arrays in nested dicts, with the names of the dicts before theirs."""
    if not isinstance(content, dict) or depth > NESTING:
        return
    for key, value in content.items():
        name = scope + (key.decode("latin-1") if isinstance(key, bytes) else key)
        if isinstance(value, np.ndarray):
            yield name, value
        else:
            yield from _arrays(value, f"{name}.", depth + 1)
