"""TensorFlow itself reads what is written here, and what it writes is read here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebear.errors import WeightsError
from forebear.weights.readers.base import Array
from forebear.weights.readers.tensorflow.open import open_tensorflow
from forebear.weights.writers.tensorflow.checkpoint_v2 import write_tensorflow
from tests.weights.readers.tensorflow_making import GOLDENS, read_all

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def tf() -> Any:
    return pytest.importorskip("tensorflow")


def test_tensorflow_reads_every_type_and_shape(tf: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Array] = read_all(GOLDENS / "odd.format_v2.ckpt")
    arrays |= {
        f"many/{n:05d}/{'x' * (n % 40)}": np.float32(n) + np.zeros(n % 3) for n in range(9000)
    }
    arrays |= {"uint16": np.arange(5, dtype=np.uint16), "uint64": np.array([2**64 - 1], np.uint64)}
    arrays |= {"large": rng.standard_normal((1000, 1000)).astype(np.float32)}
    write_tensorflow(tmp_path / "x", arrays.items())
    reader = tf.train.load_checkpoint(str(tmp_path / "x"))
    assert sorted(reader.get_variable_to_shape_map()) == sorted(arrays)
    for name, wanted in arrays.items():
        found = np.asarray(reader.get_tensor(name))
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), name
        assert found.tobytes() == wanted.tobytes(), name


def test_tensorflow_restores_its_variables_from_it(tf: Any, tmp_path: Path) -> None:
    arrays = read_all(GOLDENS / "slim_tiny_v2.format_v1.ckpt")
    write_tensorflow(tmp_path / "x", arrays.items())
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        variables = {
            name: v1.get_variable(name, array.shape, array.dtype) for name, array in arrays.items()
        }
        v1.train.Saver(variables).restore(session, str(tmp_path / "x"))
        for name, variable in variables.items():
            assert session.run(variable).tobytes() == arrays[name].tobytes(), name


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_slices_and_types_that_tensorflow_writes_are_read(
    tf: Any, tmp_path: Path, kind: str
) -> None:
    array = np.random.default_rng(0).standard_normal((10000, 30)).astype(np.float32)
    corners = [(0, 70, 0, 12), (0, 70, 12, 18), (70, 8930, 0, 30), (9000, 1000, 0, 30)]
    tensors = [tf.constant(array[a : a + m, b : b + n]) for a, m, b, n in corners]
    slices = [f"10000 30 {a},{m}:{b},{n}" for a, m, b, n in corners]
    names = ["sliced"] * len(corners)
    extra = {"text": np.array([b"one", b""]), "int8": np.arange(-128, 128, dtype=np.int8)}
    names += extra
    tensors += [tf.constant(value) for value in extra.values()]
    slices += [""] * len(extra)
    path = str(tmp_path / "x")
    if kind == "v1":
        tf.raw_ops.SaveSlices(
            filename=path, tensor_names=names, shapes_and_slices=slices, data=tensors
        )
    else:
        tf.raw_ops.SaveV2(prefix=path, tensor_names=names, shape_and_slices=slices, tensors=tensors)
    with open_tensorflow(tmp_path / "x") as arrays:
        assert list(arrays) == ["int8", "sliced", "text"]
        assert np.array_equal(arrays["sliced"], array)
        assert np.array_equal(arrays["int8"], extra["int8"])
        with pytest.raises(WeightsError, match="text: it holds strings"):
            arrays["text"]
