"""The parsers as targets of a fuzzer: each one reads bytes that a stranger made.

`fault` runs one of them and says what is wrong, if anything. Every input gives a result, or an
error of forebear in one line, within seconds and without much memory. benchmarks/fuzz.py searches
for inputs that break this; tests/fuzz_finds keeps what it found.

Checksums hide most of a parser from a fuzzer, so that they are taken as right in here.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import save_file

import forebear
from forebear.cli.main import main
from forebear.data.images.decode import look_at, open_part
from forebear.data.images.sniff import START, what_is
from forebear.data.sources.registry import read_data
from forebear.errors import ForebearError, WeightsError
from forebear.network.plan.cost import parameters
from forebear.network.plan.expand import expand
from forebear.safe_unpickle import unpickle_arrays
from forebear.tables.files import resolve
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.runs.read import metric_lines, read_run
from forebear.tasks.train.recipe_files import read_recipe, recipes
from forebear.tasks.train.resume.checkpoint import load_checkpoint, seconds_of
from forebear.untrusted import parse_json, parse_toml
from forebear.weights.keras_config import config_facts
from forebear.weights.load import find_network
from forebear.weights.native_format import load_file
from forebear.weights.readers.detect import open_arrays
from forebear.weights.readers.tensorflow.corruption import blame
from forebear.weights.readers.tensorflow.snappy import decompress
from tests import fuzz_seeds as seeds
from tests.weights.readers.object_making import graph_of, objects_of

SECONDS = 5.0  # of the processor
GROWTH = 500  # MiB of memory
CHARACTERS = 3_000  # of a message
Target = Callable[[bytes, Path], object]
_SOURCE = str(Path(forebear.__file__).parent)
_PATCHES = {  # every checksum that a reader compares: {where: what it is replaced by}
    "forebear.weights.readers.tensorflow.sstable.masked": lambda _: _Right(),
    "forebear.weights.readers.tensorflow.checkpoint_v2.masked": lambda _: _Right(),
    "forebear.weights.readers.tensorflow.string_tensor.masked": lambda _: _Right(),
    "forebear.weights.native_format.digest": lambda *_: _Right(),
    "forebear.tasks.train.resume.checkpoint._digest": lambda *_: _Right(),
    "zipfile.ZipExtFile._update_crc": lambda *_: None,
}


class _Right(str):
    """A checksum that equals every other one."""

    def __ne__(self, other: object) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


@contextlib.contextmanager
def without_checksums() -> Iterator[None]:
    """Takes every checksum of a file as right."""
    with ExitStack() as stack:
        for name, change in _PATCHES.items():
            stack.enter_context(patch(name, change))
        yield


def fault(name: str, data: bytes, folder: Path) -> str | None:
    """Returns what is wrong with how a target reads some bytes, in one line, or None.

    Args:
        name: Of the target.
        data: The bytes.
        folder: A folder to write files into. It is emptied.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    memory, start = _peak(), time.process_time()
    with patch.dict(os.environ, FOREBEAR_HOME=str(folder / "home")):
        found = _raised(name, data, folder)
    seconds, growth = time.process_time() - start, _peak() - memory
    if found is None and seconds > SECONDS:
        found = f"slow: {seconds:.1f} s"
    if found is None and growth > GROWTH:
        found = f"memory: {growth:.0f} MiB"
    return found


def _raised(name: str, data: bytes, folder: Path) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            TARGETS[name](data, folder)
    except (ForebearError, ValueError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        if not last.filename.startswith(_SOURCE) and name not in ("json", "toml"):
            return f"raised elsewhere: {_place(error)}"
        if len(str(error)) > CHARACTERS:
            return f"long: {_place(error)}"
        return None if str(error).isprintable() else f"not one line: {_place(error)}"
    except Exception as error:  # whatever a parser raises is a find
        return _place(error)
    return None


def _place(error: BaseException) -> str:
    """The type of an error, and the last line of forebear that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(_SOURCE)] or frames
    return f"{type(error).__name__} in {Path(own[-1].filename).name}:{own[-1].lineno}"


def _peak() -> float:
    """The peak of this process's memory in MiB; 0 where the system does not say."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+)", status.read_text() if status.exists() else "")
    return int(found[1]) / 1024 if found else 0.0


def _put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _arrays(path: Path) -> None:
    """Reads every array, also those after a damaged one."""
    with open_arrays(path) as arrays:
        failed: WeightsError | None = None
        for name in list(arrays):
            try:
                array, shape, dtype = arrays[name], arrays.shape(name), arrays.dtype(name)
                assert (array.shape, array.dtype) == (shape, dtype), name
            except WeightsError as error:
                failed = error if failed is None or str(failed).isprintable() else failed
        if failed is not None:
            raise failed


def _file(name: str) -> Target:
    """Reads the bytes as a file of weights."""
    return lambda data, folder: _arrays(_put(folder, name, data))


def _graph(name: str) -> Target:
    """Reads the arrays of a graph, and recognises its network."""

    def read(data: bytes, folder: Path) -> None:
        path = _put(folder, name, data)
        _arrays(path)
        find_network(path)

    return read


def _tensorflow_v2(data: bytes, folder: Path) -> None:
    _put(folder, "net.data-00000-of-00001", seeds.v2_data())
    _arrays(_put(folder, "net.index", data).with_suffix(""))


def _object_graph(data: bytes, folder: Path) -> None:
    """Reads the bytes as the graph of a checkpoint of two variables."""
    path = objects_of(folder / "net", data, seeds.variables())
    _arrays(path)
    find_network(path)


def _saved_model(data: bytes, folder: Path) -> None:
    """Reads the bytes as the description of the layers in a SavedModel."""
    _put(folder, "saved_model.pb", b"")
    _put(folder, "keras_metadata.pb", data)
    (folder / "variables").mkdir()
    objects_of(folder / "variables" / "variables", *graph_of(seeds.tree()))
    _arrays(folder)
    find_network(folder)


def _snappy(data: bytes, folder: Path) -> None:
    with blame(folder):
        decompress(memoryview(data))


def _member(members: dict[str, bytes], name: str, file: str) -> Target:
    """Reads the bytes as a member of a zip archive, in which the others are whole."""

    def read(data: bytes, folder: Path) -> None:
        with zipfile.ZipFile(folder / file, "w") as archive:
            for member, content in (members | {name: data}).items():
                archive.writestr(member, content)
        if file == "data.npz":
            _images(f"npz:{folder / file}")
        else:
            _arrays(folder / file)

    return read


def _beside_weights(file: str, opened: str) -> Target:
    """Reads the bytes as a text beside model.safetensors."""

    def read(data: bytes, folder: Path) -> None:
        _put(folder, "model.safetensors", seeds.safetensors())
        _put(folder, file, data)
        _arrays(folder / opened)

    return read


def _kerashub(data: bytes, folder: Path) -> None:
    """Reads the bytes in place of one file of a KerasHub preset; the first byte says which."""
    files = seeds.kerashub()
    changed = sorted(files)[(data[0] if data else 0) % len(files)]
    for name, content in files.items():
        _put(folder, name, data[1:] if name == changed else content)
    _arrays(folder)
    forebear.load(folder)


def _mxnet(data: bytes, folder: Path) -> None:
    """Reads the bytes in place of one of MXNet's files; the first byte says which."""
    files = seeds.mxnet()
    changed = sorted(files)[(data[0] if data else 0) % len(files)]
    for name, content in files.items():
        _put(folder, name, data[1:] if name == changed else content)
    gluon = changed == "gluon.params"  # which has no symbol
    path = folder / (changed if gluon else "net-0000.params")
    _arrays(path)
    find_network(path)


def _keras_config(data: bytes, folder: Path) -> None:
    """Reads the bytes as the model_config of a Keras file with automatic layer names."""
    config = data.decode("utf-8", "replace").replace("\0", "")
    path = seeds.keras_model().write(folder / "net.h5", config)
    with open_arrays(path) as arrays:  # as if its names were known
        config_facts(arrays, {name: name for name in arrays}, seeds.keras_dialect())
    find_network(path)


def _native(data: bytes, folder: Path) -> None:
    load_file(_put(folder, "model.safetensors", data))


def _native_card(data: bytes, folder: Path) -> None:
    """Reads a JSON object as the metadata of forebear's own file."""
    try:
        said = parse_json(data)
    except ValueError:
        return
    if not isinstance(said, dict):
        return
    metadata = {k: v if isinstance(v, str) else json.dumps(v) for k, v in said.items()}
    save_file(seeds.native_tensors(), folder / "model.safetensors", metadata)
    load_file(folder / "model.safetensors")


def _checkpoint(data: bytes, folder: Path) -> None:
    _put(folder, "step-00000001.safetensors", data)
    seconds_of(folder)
    load_checkpoint(folder)


def _checkpoint_state(data: bytes, folder: Path) -> None:
    metadata = {"format": "forebear checkpoint 3", "state": data.decode("utf-8", "replace")}
    tensors = {"network/a": torch.ones(2), "optimizer/0/b": torch.ones(1)}
    save_file(tensors, folder / "step-00000001.safetensors", metadata | {"sha256": ""})
    seconds_of(folder)
    load_checkpoint(folder)


def _run(data: bytes, folder: Path) -> None:
    settings, _, metrics = data.partition(b"\0")
    _put(folder, "settings.json", settings)
    _put(folder, "metrics.jsonl", metrics)
    run = read_run(folder)
    _ = (run.network, run.data, run.best, run.planned, run.tested, run.parameters, run.last("loss"))
    for line in metric_lines(folder):
        with contextlib.suppress(ValueError):
            Epoch.read(line)


def _table(suffix: str) -> Target:
    def read(data: bytes, folder: Path) -> None:
        table, dialect = resolve(_put(folder, f"net{suffix}", data), "torchvision")
        parameters(expand(table, dialect, num_classes=2))

    return read


def _recipe(data: bytes, folder: Path) -> None:
    read_recipe(str(_put(folder, "recipe.toml", data)))


def _set(data: bytes, folder: Path) -> None:
    read_recipe(recipes()[0], data.decode("utf-8", "surrogateescape").split("\0"))


def _image(data: bytes, folder: Path) -> None:
    what_is(data[:START])
    _, why = look_at(data, "x")
    assert why is None or why.isprintable(), why
    open_part(data, lambda across, down: (0, 0, across / 2, down), (16, 16))


def _images(spec: str) -> None:
    """Reads a data set, and decodes its first images."""
    data = read_data(spec)
    for part in (data.train, data.val):
        assert len(part.labels) == len(part)
        for index in range(min(2, len(part))):
            part.image(index)


def _data(kind: str, file: str) -> Target:
    return lambda data, folder: _images(f"{kind}:{_put(folder, file, data)}")


def _one_of(kind: str, whole: Callable[[], dict[str, bytes]]) -> Target:
    """Reads the bytes in place of one file of a data set; the first byte says which."""

    def read(data: bytes, folder: Path) -> None:
        files = whole()
        names = sorted(files)
        name = names[data[0] % len(names)] if data else names[0]
        zipped = kind == "idx" and data[:1] >= b"\x80"  # as NAME.gz
        for other in names:
            content = data[1:] if other == name else files[other]
            _put(folder, f"{other}.gz" if zipped and other == name else other, content)
        _images(f"{kind}:{folder}")

    return read


def _csv(data: bytes, folder: Path) -> None:
    for name in ("a.png", "b.png", "c.png", "d.png"):
        _put(folder, name, seeds.png())
    _images(f"csv:{_put(folder, 'labels.csv', data)}")


def _unpickle(data: bytes, folder: Path) -> None:
    unpickle_arrays(data, "x")


def _command(data: bytes, folder: Path) -> None:
    """Reads the bytes as arguments of a verb that writes nothing."""
    words = [word.decode("utf-8", "surrogateescape") for word in data.split(b"\0")[:8]]
    verb, *rest = (word.replace("/", "_") for word in words)
    if verb not in ("list", "describe", "recipes", "compare", "check"):
        return
    said = io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        try:
            code = main([verb, *rest])
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
    assert code in (0, 1, 2), f"exit code {code}"


TARGETS: dict[str, Target] = {
    "tensorflow_v1": _file("net.ckpt"),
    "tensorflow_v2": _tensorflow_v2,
    "object_graph": _object_graph,
    "saved_model": _saved_model,
    "snappy": _snappy,
    "hdf5": _file("net.h5"),
    "keras": _file("net.keras"),
    "kerashub": _kerashub,
    "keras_config": _keras_config,
    "torch_zip": _file("net.pth"),
    "torch_legacy": _file("net.th"),
    "torch_pickle": _member(seeds.torch_members(), "net/data.pkl", "net.pth"),
    "npz": _file("net.npz"),
    "npy": _member({"b.npy": seeds.npy()}, "a.npy", "net.npz"),
    "safetensors": _file("net.safetensors"),
    "onnx": _graph("net.onnx"),
    "caffe": _graph("net.caffemodel"),
    "torch7": _graph("net.t7"),
    "flax": _graph("net.msgpack"),
    "mxnet": _mxnet,
    "safetensors_index": _beside_weights(
        "model.safetensors.index.json", "model.safetensors.index.json"
    ),
    "hub_config": _beside_weights("config.json", "."),
    "native": _native,
    "native_card": _native_card,
    "checkpoint": _checkpoint,
    "checkpoint_state": _checkpoint_state,
    "run": _run,
    "table_toml": _table(".toml"),
    "table_json": _table(".json"),
    "recipe": _recipe,
    "set": _set,
    "image": _image,
    "data_npz": _data("npz", "data.npz"),
    "data_npy": _member(seeds.npz_members(), "x_train.npy", "data.npz"),
    "data_classes": _member(seeds.npz_members(), "classes.npy", "data.npz"),
    "idx": _one_of("idx", seeds.idx_files),
    "parquet": _data("parquet", "train.parquet"),
    "csv": _csv,
    "shards": _data("shards", "train.tar"),
    "cifar_python": _one_of("cifar10", seeds.cifar_python),
    "cifar_binary": _one_of("cifar10", seeds.cifar_binary),
    "cifar_tar": _data("cifar10", "cifar.tar"),
    "unpickle": _unpickle,
    "json": lambda data, _: parse_json(data),
    "toml": lambda data, _: parse_toml(data.decode("utf-8", "replace")),
    "command": _command,
}
