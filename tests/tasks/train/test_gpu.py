"""What a GPU would do, on tensors that hold no numbers: waiting for it or mixing devices shows.

Torch's fake tensors claim any device and compute shapes alone, so that a step of training can be
taken where there is no GPU. Reading a number off one raises, and so does an operation on tensors
of two devices. What they cannot show is whether the numbers are right: tests marked `gpu` do.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensorDeviceMismatchError,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils.cpp_extension import include_paths, library_paths

import forebear
from forebear import Block, Conv, Table
from forebear.data.augment.config import Augment
from forebear.data.augment.counter_rng import CounterRNG
from forebear.data.augment.mixup import mix
from forebear.data.augment.pipeline import augment
from forebear.data.dataset import ArrayImages
from forebear.data.feature_loader import FeatureLoader
from forebear.data.loader import Loader, Order
from forebear.data.pixel_store import PixelStore
from forebear.network.network import Network
from forebear.tables.preprocessing import TORCHVISION
from forebear.tasks.evaluate import evaluate
from forebear.tasks.machine.distributed import ALONE
from forebear.tasks.train.input_pipeline import order_of
from forebear.tasks.train.loss import soft
from forebear.tasks.train.recipe import Optimizer, Recipe
from forebear.tasks.train.recipe_files import read_recipe, recipes
from forebear.tasks.train.step import Stepper
from tests.data.augment.test_pipeline import RULES
from tests.data.making import decided

COUNT, SIDE, CLASSES = 24, 40, 4
TABLE = Table("tiny", (Conv("conv1", 8, 3),), "basic", (Block("block1", 2, 8, 8, 2),))
pytestmark = pytest.mark.filterwarnings("ignore:CUDA is not available")  # autocast's


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What lets a torch without CUDA index a tensor that claims to be there."""
    compiler = shutil.which("c++")
    if torch.version.cuda is not None:
        pytest.skip("torch with CUDA has a guard of its own: the tests marked gpu do more")
    if compiler is None:
        pytest.skip("no C++ compiler")
    library = tmp_path_factory.mktemp("guard") / "guard.so"
    here = [f"-I{path}" for path in include_paths()] + [f"-L{path}" for path in library_paths()]
    words = [compiler, "-std=c++20", "-shared", "-fPIC", *here]
    source = str(Path(__file__).with_name("guard.cpp"))
    subprocess.run([*words, source, "-lc10", "-o", str(library)], check=True)
    torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]


@pytest.fixture
def gpu(guard: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A GPU without numbers, for as long as the test lasts; a backward pass is left to the test."""
    mode, from_numpy = FakeTensorMode(), torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", lambda one: mode.from_tensor(from_numpy(one.copy())))
    monkeypatch.setattr(torch, "_fused_sgd_", _fused)  # torch 2.13 has no fake of its own
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**34, 2**34))
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    with mode, torch.no_grad():
        yield torch.device("cuda", 0)


def _fused(params: list[Tensor], gradients: list[Tensor], *_: Any, **options: Any) -> None:
    """Looks at the devices, as torch's fused SGD would on a GPU."""
    devices = {one.device.type for one in (*params, *gradients, options["found_inf"])}
    assert devices == {"cuda"}


def moved(network: Network, device: torch.device) -> Network:
    """The network with every array in the same layout there."""
    for module in network.modules():
        for arrays in (module._parameters, module._buffers):
            for name, one in arrays.items():
                if one is not None:
                    there = torch.empty_strided(
                        one.shape, one.stride(), dtype=one.dtype, device=device
                    )
                    learns = isinstance(one, nn.Parameter)
                    arrays[name] = nn.Parameter(there) if learns else there  # type: ignore[assignment]
    return network


def test_a_gpu_without_numbers_tells_who_waits_and_who_mixes(gpu: torch.device) -> None:
    there = torch.zeros(3, device=gpu)
    with pytest.raises(DataDependentOutputException):
        bool(there.sum() > 0)
    with pytest.raises(FakeTensorDeviceMismatchError):
        there + torch.zeros(3)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_gpu_changes_images_without_being_waited_for(rule: Augment, gpu: torch.device) -> None:
    pixels = torch.zeros(COUNT, SIDE, SIDE, 3, dtype=torch.uint8, device=gpu)
    views = augment(pixels, 32, rule, CounterRNG(0, 1, np.arange(COUNT)), window=36)
    assert views.device == gpu
    assert views.shape == (COUNT, 32, 32, 3)


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
@pytest.mark.long(after=1)
def test_a_gpu_takes_steps_of_every_optimizer_without_being_waited_for(
    optimizer: Optimizer, gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(
        optimizer=optimizer,
        lr=0.1,
        weight_decay=1e-4,
        clip=1.0,
        ema=0.9,
        schedule="constant",
        accumulate=2,
        stochastic_depth=0.5,
    )
    take_steps(recipe, gpu, monkeypatch)


@pytest.mark.parametrize("name", recipes())
@pytest.mark.long(after=1)
def test_a_gpu_takes_steps_of_every_recipe_without_being_waited_for(
    name: str, gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_steps(read_recipe(name), gpu, monkeypatch)


def take_steps(recipe: Recipe, gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch on images that lie on the GPU from the beginning, and one on those that do not."""
    recipe = replace(
        recipe, batch=COUNT // 2, size=32, size_from=0, shift=4, mirror="random", precision="bf16"
    )
    with unset_fake_temporarily():
        network = forebear.create(TABLE, dialect="torchvision", num_classes=CLASSES).train()
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def backward(loss: Tensor) -> None:
        assert loss.device == gpu
        for one in network.parameters():
            one.grad = torch.empty_like(one)

    monkeypatch.setattr(Tensor, "backward", backward)
    stepper = Stepper(moved(network, gpu), network, recipe, gpu, ALONE)
    order = order_of(recipe)
    for kept in (True, False):
        taken = pictures(gpu, recipe.batch, kept=kept)
        for draft in taken.drafts(order, 1):
            assert draft.pixels.device == gpu
            images, labels = taken.view(draft, order, 1, recipe.size)
            targets = soft(labels, CLASSES)
            images, targets = mix(images, targets, recipe.mixup, recipe.cutmix, (0, 1, draft.step))
            seen = stepper(images, targets, labels, total=draft.total, share=0.5)
            assert seen.device == gpu
    assert stepper.guard.skipped.device == gpu


def test_a_gpu_keeps_the_features_that_a_head_learns_from(gpu: torch.device) -> None:
    values = torch.zeros(2, COUNT, 8, 1, 1, device=gpu)
    labels = np.arange(COUNT) % CLASSES
    features = FeatureLoader(values=values, labels=labels, batch=COUNT // 2, device=gpu)
    order = Order(augment=decided(), seed=0)
    batches = [features.view(draft, order, 1, 32) for draft in features.drafts(order, 1)]
    for taken, theirs in [*batches, *features.in_order()]:
        assert taken.device == theirs.device == gpu
        assert taken.shape == (COUNT // 2, 8, 1, 1)


@pytest.mark.parametrize("kept", [True, False])
def test_a_gpu_is_waited_for_once_in_an_evaluation(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    waits = []

    def numpy(one: Tensor) -> NDArray[np.float32]:
        waits.append(one)
        return np.zeros(one.shape, np.float32)

    monkeypatch.setattr(Tensor, "numpy", numpy)  # of the columns of the table, at the end
    with unset_fake_temporarily():
        network = forebear.create(TABLE, dialect="torchvision", num_classes=CLASSES)
    classes = tuple(map(str, range(CLASSES)))
    batches = pictures(gpu, COUNT // 3, kept=kept)
    found = evaluate(moved(network, gpu), batches, classes, precision="bf16")
    assert found.images == COUNT
    assert [one.shape for one in waits] == [(COUNT,)] * 5


def test_a_copy_of_a_loader_uploads_nothing_that_is_there(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded: list[tuple[int, ...]] = []
    from_numpy = torch.from_numpy

    def counted(array: NDArray[Any]) -> Tensor:
        uploaded.append(array.shape)
        return from_numpy(array)

    monkeypatch.setattr(torch, "from_numpy", counted)
    loader, other = (pictures(gpu, 8, kept=True) for _ in range(2))
    assert uploaded == 2 * [(COUNT, SIDE, SIDE, 3)]
    copy = replace(loader, batch=4, rank=1, ranks=2, shown=np.arange(COUNT))
    assert len(uploaded) == 2
    assert copy.resident is loader.resident
    assert replace(loader, store=other.store).resident is not loader.resident
    assert len(uploaded) == 3
    streamed = pictures(gpu, 8, kept=False)
    assert replace(loader, store=streamed.store).resident is None
    images, labels = next(copy.in_order())
    assert images.device == labels.device == gpu


def pictures(device: torch.device, batch: int, *, kept: bool) -> Loader:
    """Black images, decoded at the beginning or as they come."""
    pixels = np.zeros((COUNT, 2 * SIDE, 2 * SIDE, 3), np.uint8)  # of SIDE they were kept as given
    source = ArrayImages(pixels, np.arange(COUNT) % CLASSES, "black")
    rule = replace(TORCHVISION, size=32, side=SIDE, resize="shorter", interpolation="bilinear")
    store = PixelStore(source, replace(rule, size=SIDE), memory=2**30 * kept, workers=0, disk=0)
    if kept:
        store.fill()
    loader = Loader(store=store, labels=source.labels, rule=rule, batch=batch, device=device)
    assert (loader.resident is not None) == kept
    return loader
