from __future__ import annotations

import numpy as np

from forebear.weights.readers.tensorflow.crc32c import crc32c, masked


def test_the_checksum_is_crc32c() -> None:
    # RFC 3720, appendix B.4, and the catalogue's check value of CRC-32C.
    assert crc32c(np.zeros(32, np.uint8)) == 0x8A9136AA
    assert crc32c(np.arange(32, dtype=np.uint8)) == 0x46DD794E
    digits = np.frombuffer(b"123456789", np.uint8)
    assert crc32c(digits) == crc32c(digits[4:], crc32c(digits[:4])) == 0xE3069283
    assert masked(0) == 0xA282EAD8
