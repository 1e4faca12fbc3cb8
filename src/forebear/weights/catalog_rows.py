"""The rows of the catalog: one `Published` for each checkpoint of catalog_files.py."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from forebear.tables import preprocessing
from forebear.tables.imagenet_classes import ClassSet
from forebear.tables.preprocessing import Preprocessing
from forebear.tables.registry import NETWORKS
from forebear.weights.catalog_files import (
    CIFAR_FILES,
    KERAS_FILES,
    SLIM_FILES,
    TIMM_DEFAULTS,
    TIMM_FILES,
    TIMM_KINDS,
    TORCHVISION_FILES,
    TORCHVISION_FOLDER,
    TORCHVISION_LICENCE,
)


class Hash(NamedTuple):
    """The publisher's hash of a file."""

    algorithm: Literal["sha256", "md5"]
    digest: str  # hexadecimal; only the first eight digits if it is from a file name

    def fits(self, path: Path) -> bool:
        """Whether a file has this hash."""
        return digest_of(path, self.algorithm).startswith(self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One checkpoint, as described by its publisher."""

    network: str
    tag: str  # distinguishes the checkpoints of a network
    file: str  # the publisher's file name
    url: str
    hash: Hash | None = None  # None: no hash was published
    size: int | None = None  # bytes; torchvision publishes MiB with three decimals, so +-525
    member: str = ""  # the file to extract, if the checkpoint is a .tar.gz
    hub: str = ""  # the repository on the Hugging Face Hub, if it is published there
    licence: str | None  # SPDX; None: no licence was stated
    classes: ClassSet | None = "imagenet-1000"  # None: the checkpoint has no logits
    preprocessing: Preprocessing
    tested: Preprocessing  # for top1 and top5; differs from preprocessing for timm and Keras V2
    top1: float | None  # percent of ImageNet's 50,000 validation or CIFAR-10's 10,000 test images
    top5: float | None  # percent
    source: str  # of top1 and top5
    default: bool  # the library's own choice, used if no tag is given

    @property
    def family(self) -> str:
        """The family of the network: alexnet, resnet, resnet-v2, resnext or wide-resnet."""
        name = self.network.partition("/")[2].lower()
        for word, family in (("alexnet", "alexnet"), ("next", "resnext"), ("wide", "wide-resnet")):
            if word in name:
                return family
        return "resnet-v2" if NETWORKS[self.network].dialect.order == "pre" else "resnet"


def digest_of(path: Path, algorithm: str) -> str:
    """Returns the hash of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _slim() -> Iterator[Published]:
    for name, date, top1, top5 in SLIM_FILES:
        dialect = NETWORKS[f"slim/{name}"].dialect
        file = f"{name}_{date}.tar.gz"
        yield Published(
            network=f"slim/{name}",
            tag=date,
            file=file,
            url=f"https://download.tensorflow.org/models/{file}",
            member=f"{name}.ckpt",
            licence="Apache-2.0",
            classes="imagenet-1001" if dialect.background else "imagenet-1000",
            preprocessing=dialect.preprocessing,
            tested=dialect.preprocessing,
            top1=top1,
            top5=top5,
            source="tensorflow/models, research/slim/README.md",
            default=True,
        )


def _keras() -> Iterator[Published]:
    google = "https://storage.googleapis.com/tensorflow/keras-applications/resnet"
    releases = "https://github.com/keras-team/keras-applications/releases/download/resnet"
    old = "https://github.com/fchollet/deep-learning-models/releases/download/v0.2"
    for name, md5, top1, top5, bare in KERAS_FILES:
        view = NETWORKS[f"keras/{name}"].dialect.preprocessing
        tested = replace(view, size=299, side=299) if name.endswith("V2") else view
        folder = old if name.endswith("_old") else releases if "NeXt" in name else google
        stem = f"{name.lower().removesuffix('_old')}_weights_tf_dim_ordering_tf_kernels"
        with_logits = Published(
            network=f"keras/{name}",
            tag="imagenet",
            file=f"{stem}.h5",
            url=f"{folder}/{stem}.h5",
            hash=Hash("md5", md5),
            licence="MIT",
            preprocessing=view,
            tested=tested,
            top1=top1,
            top5=top5,
            source="keras-applications 1.0.8, README.md",
            default=True,
        )
        yield with_logits
        yield replace(
            with_logits,
            tag="imagenet-notop",
            file=f"{stem}_notop.h5",
            url=f"{folder}/{stem}_notop.h5",
            hash=Hash("md5", bare),
            classes=None,
            top1=None,
            top5=None,
            default=False,
        )


def _torchvision() -> Iterator[Published]:
    newest = {name: version for name, version, *_ in TORCHVISION_FILES}
    for name, version, file, side, top1, top5, mebibytes in TORCHVISION_FILES:
        view = replace(preprocessing.TORCHVISION, side=side)
        yield Published(
            network=f"torchvision/{name}",
            tag=f"IMAGENET1K_{version}",
            file=file,
            url=f"{TORCHVISION_FOLDER}{file}",
            hash=_hash_in(file),
            size=round(mebibytes * 2**20),
            licence=TORCHVISION_LICENCE,
            preprocessing=view,
            tested=view,
            top1=top1,
            top5=top5,
            source="torchvision 0.29.2, weights enums",
            default=version == newest[name],
        )


def _timm() -> Iterator[Published]:
    for name, short, rest, top1, top5 in TIMM_FILES:
        kind = TIMM_KINDS[short]
        hub = "" if kind.prefix else f"timm/{name}.{kind.tag}"
        url = f"{kind.prefix}{rest}"
        file = "model.safetensors" if hub else url.rsplit("/", 1)[1]
        network = f"timm/{name}"
        yield Published(
            # If the registry has no such timm network, torchvision's has the same function and
            # names.
            network=network if network in NETWORKS else f"torchvision/{name}",
            tag=kind.tag,
            file=file,
            url=f"https://huggingface.co/{hub}/resolve/main/{file}" if hub else url,
            hash=None if hub else _hash_in(file),
            hub=hub,
            licence=kind.licence,
            classes=None if short == "bamboo" else "imagenet-1000",
            preprocessing=_seen(kind.base, *kind.view),
            tested=_seen(kind.base, *kind.test),
            top1=top1,
            top5=top5,
            source="timm, results/results-imagenet.csv",
            default=TIMM_DEFAULTS.get(name) == short,
        )


def _cifar() -> Iterator[Published]:
    folder = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models"
    for depth, sha256, error in CIFAR_FILES:
        file = f"resnet{depth}-{sha256[:8]}.th"
        yield Published(
            network=f"paper/resnet{depth}",
            tag="akamaster",
            file=file,
            url=f"{folder}/{file}",
            hash=Hash("sha256", sha256),
            size=1_099_231 if depth == 20 else None,
            licence="BSD-2-Clause",
            classes="cifar10",
            preprocessing=preprocessing.CIFAR,
            tested=preprocessing.CIFAR,
            top1=round(100 - error, 2),
            top5=None,
            source="akamaster/pytorch_resnet_cifar10, README.md",
            default=True,
        )


def _hash_in(file: str) -> Hash:
    """Returns the first eight digits of the SHA-256, which torch.hub appends to file names."""
    return Hash("sha256", file.rpartition("-")[2].partition(".")[0])


def _seen(base: Preprocessing, size: int, share: float) -> Preprocessing:
    """Returns the preprocessing of timm's create_transform.

    It resizes the shorter side to floor(size / share) pixels, and takes a centre crop of `size`.
    """
    return replace(base, size=size, side=int(size / share))


_PLACES = {network: place for place, network in enumerate(NETWORKS)}
PUBLISHED: tuple[Published, ...] = tuple(
    sorted(  # in the order of NETWORKS; for one network, timm's rows follow torchvision's
        (*_slim(), *_keras(), *_torchvision(), *_timm(), *_cifar()),
        key=lambda row: _PLACES[row.network],
    )
)
