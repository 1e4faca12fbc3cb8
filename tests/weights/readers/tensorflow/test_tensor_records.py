from __future__ import annotations

import pytest

from forebear.weights.readers.tensorflow.tensor_records import FULL, slice_key


@pytest.mark.parametrize(
    ("start", "length", "key"),
    [
        (63, 1, "bf81"),
        (64, 64, "c040c040"),
        (8191, 1, "dfff81"),
        (8192, 8192, "e02000e02000"),
        (1048575, 1, "efffff81"),
        (1048576, 1, "f010000081"),
    ],
)
def test_slices_have_the_keys_that_tensorflow_gave_them(start: int, length: int, key: str) -> None:
    wanted = bytes.fromhex(f"006b00010102{key}807f")
    assert slice_key("k", ((start, length), (0, FULL))) == wanted


def test_a_scalar_has_a_key_without_dimensions() -> None:
    assert slice_key("odd/scalar", ()) == b"\0odd/scalar\0\x01\0"
