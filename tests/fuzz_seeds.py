"""Small valid files to start a fuzzer from, made with the writers where there is one."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as safetensors_bytes

import forebear
from forebear.data.sources.cifar10 import CLASSES
from forebear.tables.dialects import TORCHVISION_V1, Dialect
from forebear.tables.files import table_to_dict
from forebear.tasks.train.recipe_files import recipes, show
from forebear.tasks.train.resume.checkpoint import save_checkpoint
from forebear.tasks.train.state import TrainState
from forebear.weights.flax_resnet import FLAX
from forebear.weights.kerashub_resnet import KERASHUB_V1
from forebear.weights.writers.tensorflow.protobuf import message, number
from tests.data.making import encoded, noise
from tests.network.making import make
from tests.weights import caffe_making, flax_making, mxnet_making, torch7_making
from tests.weights.readers import tensorflow_making as making
from tests.weights.readers.object_making import Tree, Variable, graph_of, layers_of

_GOLDENS = Path(__file__).parent / "weights" / "readers" / "goldens"
_FAMILIES = Path(__file__).parent / "weights" / "goldens" / "families"


def _made(write: Callable[[Path], object], name: str = "x") -> bytes:
    """The content of a file that a function writes."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def _one_unit(dialect: Dialect, padding: int | Literal["same"] = "same") -> forebear.Network:
    """A network with one unit, and with some padding of its root."""
    root = (forebear.Conv("conv1", 4, 7, stride=2, padding=padding), forebear.Pool("pool1"))
    table = forebear.Table("net", root, "bottleneck", (forebear.Block("block1", 1, 2, 8),))
    return make(table, dialect, num_classes=3)


def _zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def _tarred(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


# ---- weights


@cache
def v2_data() -> bytes:
    return (_GOLDENS / "tensorflow" / making.V2_DATA).read_bytes()


def _tensorflow_v1() -> list[bytes]:
    arrays = {"a": np.ones((2, 2), np.float32), "b/c": np.zeros(3, np.float32)}
    return [making.v1(arrays), making.V1.read_bytes()]


def _tensorflow_v2() -> list[bytes]:
    whole = making.entry((2, 2), 16, making.SUM)
    small = making.table({b"": number(1, 1), b"a": whole, b"b/c": whole})
    return [small, Path(f"{making.V2}.index").read_bytes()]


@cache
def tree() -> Tree:
    """Objects as those of a Keras model with an optimizer."""
    layers = layers_of({"a/kernel": np.ones((2, 2)), "a/bias": np.zeros(2)})
    return {**layers, "optimizer": {"_iterations": Variable("iteration", np.ones(()))}}


@cache
def variables() -> dict[str, Any]:
    return graph_of(tree())[1]


def _layers() -> list[bytes]:
    """The description that Keras 2 wrote, and one of a single layer."""
    with zipfile.ZipFile(_GOLDENS / "tensorflow" / "objects_keras2.zip") as archive:
        whole = archive.read("saved/keras_metadata.pb")
    text = b'{"class_name": "Functional", "config": {"layers": []}}'
    return [message(1, message(3, b"root"), message(5, text)), whole]


def _hdf5(layout: dict[str, Any], attributes: dict[str, dict[str, Any]]) -> bytes:
    import h5py

    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name, array in layout.items():
                file[name] = array
            for name, values in attributes.items():
                for key, value in values.items():
                    file[name].attrs[key] = value

    return _made(write)


@cache
def _keras() -> list[bytes]:
    """A file of Keras 2, and one of Keras 3."""
    ones = np.ones((1, 2), np.float32)
    names = np.array([b"a/kernel:0", b"a/bias:0"])
    old = {"a/a/kernel:0": ones, "a/a/bias:0": np.zeros(2, ">f8")}
    listed: dict[str, dict[str, Any]] = {
        "/": {"layer_names": [b"a"], "model_config": "{}"},
        "a": {"weight_names": names},
    }
    new = {"layers/dense/vars/0": ones, "layers/dense/vars/1": ones[0].astype(np.float16)}
    return [_hdf5(old, listed), _hdf5(new, {"layers/dense": {"name": "dense"}})]


def _keras_archive() -> bytes:
    layers = [{"class_name": "Dense", "config": {"name": "dense"}}]
    config = json.dumps({"config": {"layers": layers}}).encode()
    return _zipped({"metadata.json": b"{}", "config.json": config, "model.weights.h5": _keras()[1]})


@cache
def kerashub() -> dict[str, bytes]:
    """The files of a preset of KerasHub."""
    from tests.weights import test_kerashub_resnet as making

    network = making.initial("bottleneck", making.BOTTLENECK, KERASHUB_V1)
    with tempfile.TemporaryDirectory() as folder:
        path = making.preset(Path(folder) / "x", network)
        return {file.name: file.read_bytes() for file in path.iterdir()}


@cache
def mxnet() -> dict[str, bytes]:
    """An MXNet file and its symbol."""
    names = ("v1_bottleneck-0000.params", "v1_bottleneck-symbol.json", "gluon_v2_basic.params")
    read = {name: (mxnet_making.GOLDENS / name).read_bytes() for name in names}
    return dict(
        zip(("net-0000.params", "net-symbol.json", "gluon.params"), read.values(), strict=True)
    )


@cache
def keras_model() -> Any:
    """A Keras model with automatic layer names: its graph and its weights."""
    from tests.weights import test_keras_graph as making

    return making.Model(making.initial())


def keras_dialect() -> Dialect:
    """The dialect of `keras_model`."""
    from tests.weights import test_keras_graph as making

    return making.DIALECT


@cache
def torch_members() -> dict[str, bytes]:
    """The members of a state dict in torch's zip format."""
    with zipfile.ZipFile(io.BytesIO(_torch(zipped=True))) as archive:
        return {f"net/{n.partition('/')[2]}": archive.read(n) for n in archive.namelist()}


def _torch(*, zipped: bool) -> bytes:
    state = {"conv1.weight": torch.ones(2, 3), "bn1.bias": torch.zeros(2).bfloat16()}
    wrapped = {"state_dict": torch.nn.Linear(1, 2).state_dict() | state, "epoch": 3}
    stream = io.BytesIO()
    torch.save(wrapped, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def npy(array: Any = None) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones((2, 3), np.float32) if array is None else array)
    return stream.getvalue()


@cache
def safetensors() -> bytes:
    return safetensors_bytes({"a": torch.ones(2, 2), "b.c": torch.zeros(3).bfloat16()}, {"x": "y"})


def _network() -> forebear.Network:
    blocks = (forebear.Block("block1", 1, 1, 2),)
    table = forebear.Table("net", (forebear.Conv("conv1", 2, 3, 2),), blocks=blocks, classes=2)
    return forebear.create(table, dialect="slim-v1")


@cache
def _native() -> bytes:
    return _made(lambda path: forebear.save(_network(), path, classes=["a", "b"]))


@cache
def native_tensors() -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in _network().state_dict().items()}


def _native_card() -> list[bytes]:
    def metadata(path: Path) -> bytes:
        path.write_bytes(_native())
        with safe_open(path, "pt") as file:
            found = file.metadata()
        plain = ("format", "table_source", "sha256")
        return json.dumps(
            {k: v if k in plain else json.loads(v) for k, v in found.items()}
        ).encode()

    with tempfile.TemporaryDirectory() as folder:
        return [metadata(Path(folder) / "x")]


def _checkpoint() -> bytes:
    state = {"network": {"a": torch.ones(2)}, "optimizer": {0: {"b": torch.ones(1), "n": 2.0}}}
    record = TrainState(step=1)
    with tempfile.TemporaryDirectory() as folder:
        return save_checkpoint(Path(folder) / "x", state, record).read_bytes()


def _checkpoint_state() -> bytes:
    content = _checkpoint()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return str(header["__metadata__"]["state"]).encode()


# ---- texts


def _table() -> dict[str, Any]:
    return table_to_dict(_network().plan.table)


_TABLE_TOML = b"""name = "tiny"
form = "basic"
image_size = 16
[[root]]
kind = "conv"
name = "conv1"
channels = 8
kernel = 3
[[blocks]]
name = "block1"
units = 2
width = 8
channels = 8
stride = 2
convs = [[8, 3], [8, 3]]
"""


def _run() -> bytes:
    metadata = json.loads(_native_card()[0])
    settings = {
        "network": "net",
        "data": {"spec": "folder:x", "classes": ["a", "b"]},
        "recipe": {"epochs": 2, "lr": 0.1},
        **{key: metadata[key] for key in ("table", "dialect", "preprocessing")},
    }
    names = "step lr loss accuracy val_loss val_accuracy images_per_second seconds skipped memory"
    epoch = {"epoch": 1.0, **dict.fromkeys(names.split(), 1), "losses": [1.0], "lrs": [0.1]}
    return json.dumps(settings).encode() + b"\0" + 2 * (json.dumps(epoch).encode() + b"\n")


_INDEX = b'{"metadata": {}, "weight_map": {"a": "model.safetensors", "b.c": "model.safetensors"}}'
_CONFIG = (
    b'{"architecture": "resnet50", "num_classes": 2, "pretrained_cfg": {"mean": [0.5], "size": 3}}',
    b'{"architectures": ["ResNetForImageClassification"], "id2label": {"0": "a", "1": "b"}}',
)
_SETS = (b"lr=0.2\0milestones=[30,60]", b"optimizer=lamb\0epochs=1e2", b"schedule='cosine'")
_COMMANDS = (b"list\0--weights", b"describe\0slim/resnet_v1_50\0--size\x0032", b"compare\0a\0b",
             b"recipes\0show\0default", b"check\0folder:x\0--json")  # fmt: skip

# ---- data


@cache
def png(seed: int = 0) -> bytes:
    return encoded(noise(seed, 4, 4), "PNG")


def _images() -> list[bytes]:
    image = noise(0, 8, 6)
    kinds = ("JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "AVIF", "JPEG2000", "PNG")
    plain = [encoded(image, kind) for kind in kinds]
    modes = [encoded(image.convert(mode), "PNG") for mode in ("P", "LA", "RGBA", "1", "I;16")]
    more = [encoded(image.convert(m), "TIFF") for m in ("CMYK", "F", "I;16", "YCbCr")]
    frames = encoded(image, "GIF", save_all=True, append_images=[noise(1, 8, 6)])
    exif = image.getexif()
    exif[0x112] = 6
    return [*plain, *modes, *more, frames, encoded(image, "JPEG", exif=exif, progressive=True)]


@cache
def npz_members() -> dict[str, bytes]:
    pixels, labels = np.zeros((2, 2, 2, 3), np.uint8), np.array([0, 1])
    arrays = {"x_train": pixels, "y_train": labels, "x_test": pixels, "y_test": labels}
    members = {f"{name}.npy": npy(array) for name, array in arrays.items()}
    return members | {"classes.npy": npy(np.array(["a", "b"]))}


@cache
def idx_files() -> dict[str, bytes]:
    images = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2, 3, 3) + bytes(18)
    labels = bytes((0, 0, 8, 1)) + struct.pack(">I", 2) + bytes((0, 1))
    files: dict[str, bytes] = {}
    for part in ("train", "t10k"):
        files |= {f"{part}-images-idx3-ubyte": images, f"{part}-labels-idx1-ubyte": labels}
    return files


def _in_place(files: dict[str, bytes]) -> list[bytes]:
    """Each file after its number."""
    return [bytes([number]) + files[name] for number, name in enumerate(sorted(files))]


_BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


@cache
def cifar_python() -> dict[str, bytes]:
    entries = {b"data": np.zeros((1, 3072), np.uint8), b"labels": [1]}
    meta = pickle.dumps({b"label_names": [name.encode() for name in CLASSES]}, protocol=2)
    batch = pickle.dumps(entries, protocol=2)
    return dict.fromkeys(_BATCHES, batch) | {"batches.meta": meta}


@cache
def cifar_binary() -> dict[str, bytes]:
    files = {f"{name}.bin": bytes((1,)) + bytes(3072) for name in _BATCHES}
    return files | {"batches.meta.txt": "\n".join(CLASSES).encode()}


def _parquet() -> list[bytes]:
    import pyarrow
    from pyarrow import parquet

    def write(path: Path, image: list[Any], label: list[Any], **options: Any) -> None:
        table = pyarrow.table({"image": image, "label": label})
        info = json.dumps({"info": {"features": {"label": {"names": ["a", "b"]}}}})
        parquet.write_table(table.replace_schema_metadata({"huggingface": info}), path, **options)

    rows = [{"bytes": png(seed), "path": None} for seed in range(4)]
    return [
        _made(lambda path: write(path, rows, [0, 1, 0, 1])),
        _made(
            lambda path: write(path, [png(n) for n in range(4)], ["a", "b"] * 2, compression="none")
        ),
    ]


def _shard() -> list[bytes]:
    """A shard with .cls, and one with .json."""
    shards = []
    for end in ("cls", "json"):
        files: dict[str, bytes] = {}
        for place in range(4):
            label = b"%d" % (place % 2)
            files[f"{place}.png"] = png(place)
            files[f"{place}.{end}"] = label if end == "cls" else b'{"label": "%b"}' % label
        shards.append(_tarred(files))
    return shards


_CSV = b"image,label,split\na.png,x,train\nb.png,y,train\nc.png,x,val\nd.png,y,val\n"


def seeds() -> dict[str, list[bytes]]:
    """Returns the seeds of every target of tests/fuzzing.py."""
    table = json.dumps(_table()).encode()
    pickles = [pickle.dumps(value, protocol) for value in (np.ones(3), {b"a": [1, "b", (2.5,)]})
               for protocol in (0, 2, 4)]  # fmt: skip
    shipped = [show(name).encode() for name in recipes()]
    return {
        "tensorflow_v1": _tensorflow_v1(),
        "tensorflow_v2": _tensorflow_v2(),
        "object_graph": [graph_of(tree())[0]],
        "saved_model": _layers(),
        "snappy": [b"\x08\x1cabcdefgh", b"\x0c\x0cabcd\x01\x04\x0e\x08\x00"],
        "hdf5": _keras(),
        "keras": [_keras_archive()],
        "kerashub": _in_place(kerashub()),
        "keras_config": [keras_model().config.encode()],
        "torch_zip": [_torch(zipped=True)],
        "torch_legacy": [_torch(zipped=False)],
        "torch_pickle": [torch_members()["net/data.pkl"]],
        "npz": [_zipped({"a.npy": npy(), "b.npy": npy(np.arange(3))})],
        "npy": [npy(), npy(np.array(["a"])), npy(np.asfortranarray(np.ones((2, 2))))],
        "safetensors": [safetensors()],
        "caffe": [caffe_making.net(caffe_making.layers_of(_one_unit(caffe_making.CAFFE)))],
        "torch7": [torch7_making.written(torch7_making.model_of(_one_unit(TORCHVISION_V1)))],
        "flax": [flax_making.packed(flax_making.variables_of(_one_unit(FLAX, padding=3)))],
        "mxnet": _in_place(mxnet()),
        "onnx": [path.read_bytes() for path in sorted(_FAMILIES.glob("*.onnx"))],
        "safetensors_index": [_INDEX],
        "hub_config": list(_CONFIG),
        "native": [_native()],
        "native_card": _native_card(),
        "checkpoint": [_checkpoint()],
        "checkpoint_state": [_checkpoint_state()],
        "run": [_run()],
        "table_toml": [_TABLE_TOML],
        "table_json": [table],
        "recipe": shipped,
        "set": list(_SETS),
        "image": _images(),
        "data_npz": [_zipped(npz_members())],
        "data_npy": [npz_members()["x_train.npy"]],
        "data_classes": [npz_members()["classes.npy"]],
        "idx": [
            *_in_place(idx_files()),
            b"\x80" + gzip.compress(idx_files()["t10k-images-idx3-ubyte"]),
        ],
        "parquet": _parquet(),
        "csv": [_CSV, _CSV.replace(b",", b";")],
        "shards": _shard(),
        "cifar_python": _in_place(cifar_python())[::5],
        "cifar_binary": _in_place(cifar_binary())[::5],
        "cifar_tar": [_tarred(cifar_python())],
        "unpickle": pickles,
        "json": [table, _run()[:200], _CONFIG[0]],
        "toml": [_TABLE_TOML, *shipped[:2]],
        "command": list(_COMMANDS),
    }
