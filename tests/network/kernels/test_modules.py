"""An accelerated network computes what the plain one does, and stays the same to its user."""

from __future__ import annotations

import ast
import copy
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import forebear
from forebear.network import layers
from forebear.network.accelerate import accelerate
from forebear.network.kernels import fused_norm, max_pool, modules, native
from forebear.network.layers import Conv, Norm, Pool
from forebear.network.units import UnitV1, UnitV2
from tests.network.kernels.making import (
    NETWORKS,
    distance,
    draw,
    error,
    gradients,
    pair,
    plain_network,
)

compiles = pytest.mark.skipif(
    isinstance(native.library(), str), reason="the C functions were not built"
)


def same_state(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_plain_networks_import_no_kernels() -> None:
    folder = Path(layers.__file__).parent
    importers = []
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            source = getattr(node, "module", None) or ""
            if any("kernels" in name for name in [source, *names]):
                importers.append(path.stem)
    assert set(importers) == {"accelerate"}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.long
def test_an_accelerated_network_has_the_same_gradients(name: str) -> None:
    plain, fast = pair(name)
    images = draw(8, 3, 48, 48)
    ours, theirs = gradients(fast, images), gradients(copy.deepcopy(plain), images)
    exact = gradients(plain.double(), images.double())
    # A ReLU whose input is all but 0 may close in one sum's order and not in another's.
    assert error(ours, exact) < 3 * error(theirs, exact) + 1e-4


def test_frozen_norms_leave_the_same_gradients() -> None:
    plain, fast = pair("version 1")
    images = draw(8, 3, 48, 48)
    for net in (plain, fast):
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    ours, theirs = gradients(fast, images), gradients(plain, images)
    assert error(ours, {name: value.double() for name, value in theirs.items()}) < 1e-4


@pytest.mark.parametrize("name", ["version 1", "Keras's variance"])
def test_running_values_take_in_the_same_variance(name: str) -> None:
    plain, fast = pair(name)
    for net in (plain, fast):
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # keeps the last batch alone
        net(draw(2, 3, 24, 24))
    for path, value in plain.named_buffers():
        assert distance(fast.get_buffer(path), value) < 1e-3, path


@pytest.mark.long
def test_an_accelerated_network_trains_in_bf16_as_another_does() -> None:
    losses = []
    images, labels = draw(16, 3, 16, 16), torch.arange(16) % 10
    for net in pair("narrow resnet10"):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for _ in range(8):
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[1] == pytest.approx(losses[0], abs=0.05)
    assert losses[1] < 1.5


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", ["version 1", "version 2", "Keras's variance", "groups of 4"])
def test_evaluation_stays_bit_for_bit(name: str, half: bool) -> None:
    plain, fast = pair(name)
    images = draw(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        fast(images)  # moves the running values by the kernels
        plain.load_state_dict(fast.state_dict())
        assert torch.equal(plain.eval()(images), fast.eval()(images))
    assert list(plain.state_dict()) == list(fast.state_dict())


# Norms, additions fused with a norm, forks and pools in one step.
FUSED = {
    "torchvision/resnet18": (20, 8, 3, 1),
    "paper/resnet18_cifar": (20, 8, 3, 0),
    "timm/resnetv2_18": (17, 0, 3, 1),
}


@compiles
@pytest.mark.parametrize("name", FUSED)
def test_a_step_is_fused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()

    def count(module: ModuleType, function: str) -> None:
        called: Callable[..., Any] = getattr(module, function)

        def counted(*args: Any, **options: Any) -> Any:
            calls[function] += 1
            calls["added"] += function == "normed" and args[2] is not None
            return called(*args, **options)

        monkeypatch.setattr(module, function, counted)

    count(fused_norm, "normed")
    count(modules, "fork")
    count(max_pool, "max_pool")
    net = forebear.create(name, num_classes=3)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    accelerate(net)
    net.train()(draw(2, 3, 64, 64))
    assert tuple(calls[key] for key in ("normed", "added", "fork", "max_pool")) == FUSED[name]


def test_end_points_are_exact_while_the_rest_is_fused() -> None:
    plain, fast = pair("version 1")
    images = draw(2, 3, 32, 32)
    names = ["block1.unit_1.conv3", "block1.unit_1.conv3.norm", "block2.unit_1.conv1.conv"]
    wanted, found = plain.end_points(images, names), fast.end_points(images, names)
    for name in names:
        assert distance(found[name], wanted[name]) < 1e-4, name
        assert float(found[name].detach().min()) < 0, name  # before the ReLU


def _first(gradients: tuple[Tensor, ...] | Tensor) -> Tensor:
    return gradients[0]


Keep = Callable[[Tensor], None]
HOOKS: dict[str, Callable[[nn.Module, Keep], Any]] = {
    "forward": lambda m, keep: m.register_forward_hook(lambda _m, _x, y: keep(y)),
    "forward pre": lambda m, keep: m.register_forward_pre_hook(lambda _m, x: keep(x[0])),
    "backward": lambda m, keep: m.register_full_backward_hook(lambda _m, dx, _: keep(_first(dx))),
    "backward pre": lambda m, keep: m.register_full_backward_pre_hook(
        lambda _m, dy: keep(_first(dy))
    ),
}
WATCHED = {
    "version 1": ("root.conv1", "block4.unit_1"),
    "version 2": ("block3.unit_1", "postnorm"),
}


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("name", WATCHED)
@pytest.mark.long(after=1)
def test_a_hook_on_any_module_sees_what_it_sees_in_the_plain_network(name: str, kind: str) -> None:
    plain, fast = pair(name)
    images = draw(4, 3, 24, 24).requires_grad_()
    paths = [path for path, _ in plain.named_modules() if path.startswith(WATCHED[name])]
    assert len(paths) > 8

    def kept(net: forebear.Network, path: str) -> list[Tensor]:
        found: list[Tensor] = []
        handle = HOOKS[kind](net.get_submodule(path), found.append)
        net(images).square().mean().backward()
        handle.remove()
        return found

    for path in paths:
        (wanted,) = kept(plain, path)
        (found,) = kept(fast, path)
        assert distance(found, wanted) < 2e-3, path


def test_global_hooks_see_every_module() -> None:
    _, fast = pair("version 1")
    seen: list[nn.Module] = []
    handle = nn.modules.module.register_module_forward_hook(lambda m, _x, _y: seen.append(m))
    try:
        fast(draw(2, 3, 16, 16))
    finally:
        handle.remove()
    assert set(seen) == set(fast.modules())


def test_modules_stay_the_same_objects_with_the_same_hooks_and_parameters() -> None:
    net = plain_network("version 1")
    before, parameters = list(net.modules()), list(net.parameters())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    calls: list[nn.Module] = []
    net.get_submodule("block1.unit_1.conv3").register_forward_hook(lambda m, *_: calls.append(m))
    old = copy.deepcopy(net)
    accelerate(net)
    assert same_state(net, old)
    assert list(map(id, net.modules())) == list(map(id, before))
    assert list(map(id, net.parameters())) == list(map(id, parameters))
    net(draw(2, 3, 16, 16)).square().mean().backward()
    optimizer.step()
    assert len(calls) == 1
    assert not torch.equal(next(net.parameters()), next(old.parameters()))


def test_every_layer_and_unit_is_replaced_by_its_subclass_once() -> None:
    for name in ("version 1", "version 2", "groups of 4"):
        net = plain_network(name)
        plain = Counter(type(module) for module in net.modules())
        said = accelerate(net)
        fast = [type(module) for module in net.modules()]
        assert accelerate(net) == said
        assert [type(module) for module in net.modules()] == fast
        for base, subclass in modules.FAST.items():
            assert issubclass(subclass, base)
            assert fast.count(subclass) == plain[base]
            assert base not in fast
    assert set(modules.FAST) == {Conv, Norm, Pool, UnitV1, UnitV2}


class Halved(Conv):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


def test_a_subclass_of_a_plain_class_keeps_its_own_forward() -> None:
    nets = pair("version 1")
    for net in nets:
        net.get_submodule("block1.unit_1.conv3").__class__ = Halved
    plain, fast = nets
    accelerate(fast)
    assert type(fast.get_submodule("block1.unit_1.conv3")) is Halved
    images = draw(4, 3, 24, 24)
    assert distance(fast(images), plain(images)) < 1e-4


class Shifted(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1


def test_a_norm_of_another_class_is_called() -> None:  # as synchronised norms are
    nets = pair("version 1")
    for net in nets:
        for path in ("block1.unit_1.conv3.norm", "block2.unit_1.conv1.norm"):
            net.get_submodule(path).__class__ = Shifted
    images = draw(4, 3, 24, 24)
    assert distance(nets[1](images), nets[0](images)) < 1e-4


@pytest.mark.parametrize("how", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_trains_as_the_accelerated_network_does(how: Callable[[Any], Any]) -> None:
    _, fast = pair("version 1")
    copied = how(fast)
    assert [type(module) for module in copied.modules()] == [type(m) for m in fast.modules()]
    assert same_state(copied, fast)
    images = draw(4, 3, 24, 24)
    ours, theirs = gradients(copied, images), gradients(fast, images)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with torch.no_grad():
        next(copied.parameters()).add_(1)
    assert not same_state(copied, fast)


def test_weights_may_be_loaded_before_or_after() -> None:
    weights = plain_network("version 2").state_dict()
    for value in weights.values():
        value.add_(1)
    nets = [plain_network("version 2") for _ in range(2)]
    nets[0].load_state_dict(weights)
    for net in nets:
        accelerate(net)
    nets[1].load_state_dict(weights)
    assert same_state(*nets)
    images = draw(2, 3, 16, 16)
    assert torch.equal(nets[0](images), nets[1](images))


def test_a_compiled_unit_takes_the_plain_way() -> None:
    nets = pair("version 1")
    plain, fast = (net.get_submodule("block4.unit_1") for net in nets)
    x = draw(2, 64, 4, 4)
    wanted = plain(x)
    compiled = torch.compile(copy.deepcopy(fast), backend="eager")
    assert torch.equal(compiled(x), wanted)
    assert not torch.equal(fast(x), wanted)  # the kernels round otherwise
