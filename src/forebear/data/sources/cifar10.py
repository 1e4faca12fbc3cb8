"""CIFAR-10: 60,000 images of 32x32 pixels in 10 classes (Krizhevsky 2009)."""

from __future__ import annotations

from pathlib import Path

from forebear.data.dataset import Dataset
from forebear.data.sources.cifar_archive import Edition, read_cifar

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

EDITION = Edition(
    archive="cifar-10",
    classes=CLASSES,
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    labels="labels",
    label_bytes=1,
    names=("batches.meta", "label_names"),
    binary_names="batches.meta.txt",
)


def read_cifar10(path: Path, spec: str) -> Dataset:
    """Returns the 50,000 training and 10,000 test images.

    Args:
        path: cifar-10-python.tar.gz, cifar-10-binary.tar.gz, or the unpacked folder of either.
        spec: The spec given to `read_data`.

    Raises:
        DataError: A batch is missing, damaged, or contains objects other than arrays.
    """
    return read_cifar(path, spec, EDITION)
