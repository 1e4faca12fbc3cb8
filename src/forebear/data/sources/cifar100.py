"""CIFAR-100 with its fine labels: 60,000 images of 32x32 pixels in 100 classes."""

from __future__ import annotations

from pathlib import Path

from forebear.data.dataset import Dataset
from forebear.data.sources.cifar_archive import Edition, read_cifar

# The order of fine_label_names in the archive's own file `meta`: alphabetical.
CLASSES = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle",
    "bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle",
    "caterpillar", "cattle", "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch",
    "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox",
    "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom",
    "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road",
    "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake",
    "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone",
    "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow_tree", "wolf", "woman", "worm",
)  # fmt: skip

EDITION = Edition(
    archive="cifar-100",
    classes=CLASSES,
    train=("train",),
    test="test",
    labels="fine_labels",
    label_bytes=2,  # the coarse label, then the fine one
    names=("meta", "fine_label_names"),
    binary_names="fine_label_names.txt",
)


def read_cifar100(path: Path, spec: str) -> Dataset:
    """Returns the 50,000 training and 10,000 test images.

    Args:
        path: cifar-100-python.tar.gz, cifar-100-binary.tar.gz, or the unpacked folder of either.
        spec: The spec given to `read_data`.

    Raises:
        DataError: A batch is missing, damaged, or contains objects other than arrays.
    """
    return read_cifar(path, spec, EDITION)
