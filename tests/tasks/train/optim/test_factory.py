from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

import forebear
from forebear import Block, Conv, Table
from forebear.network.network import Network
from forebear.tasks.machine import device
from forebear.tasks.train.optim.factory import make_optimizer
from forebear.tasks.train.optim.muon import orthogonal
from forebear.tasks.train.recipe import Optimizer, Recipe

Array = npt.NDArray[np.float64]
TINY = Table(
    "tiny", (Conv("conv1", 4, 3),), "basic", (Block("block1", 1, 8, 8, stride=2),), classes=3
)
OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "caffe", "adam", "adamw", "lamb", "muon")


def network() -> Network:
    draws = torch.Generator().manual_seed(0)
    return forebear.create(TINY, dialect="torchvision", generator=draws)


def recipe(optimizer: Optimizer = "sgd", **options: Any) -> Recipe:
    defaults: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "schedule": "constant"}
    return Recipe(optimizer=optimizer, **{**defaults, **options})


def gradients(parameters: list[Tensor], step: int) -> None:
    """Gives every parameter a gradient that depends on the step alone."""
    draws = torch.Generator().manual_seed(step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=draws)


def walked(optimizer: torch.optim.Optimizer, rates: list[float], first: int = 0) -> list[Tensor]:
    """The parameters after a step at each share of the peak."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for step, share in enumerate(rates, start=first):
        gradients(parameters, step)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share
        optimizer.step()
    return [parameter.detach().clone() for parameter in parameters]


def single(values: Tensor, **options: Any) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    """An optimizer of one convolution's filter alone, all else without gradients."""
    net = network()
    optimizer = make_optimizer(net, recipe(**options))
    parameter = net.get_parameter("root.conv1.conv.weight")
    assert parameter.shape == values.shape
    with torch.no_grad():
        parameter.copy_(values)
    return parameter, optimizer


def follow(options: dict[str, Any], formula: Callable[[Array, Array, float], Array]) -> None:
    """Holds five steps of an optimizer to a formula w, g, lr -> w in float64."""
    draws = torch.Generator().manual_seed(7)
    w = torch.randn(4, 3, 3, 3, generator=draws)
    parameter, optimizer = single(w, **options)
    expected = w.double().numpy()
    for share in (0.5, 1.0, 1.0, 0.1, 0.01):
        parameter.grad = torch.randn(w.shape, generator=draws)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share
        expected = formula(expected, parameter.grad.double().numpy(), options["lr"] * share)
        optimizer.step()
        assert parameter.detach().numpy() == pytest.approx(expected, rel=1e-4, abs=5e-6)


def test_caffe_s_momentum_after_a_drop_by_hand() -> None:
    # lr 1, 1, then 0.1; g = 1 throughout; m = 0.9:
    # v = 1, 1.9, 0.9 * 1.9 + 0.1 = 1.81, and torch's form would move by 0.1 * 2.71 = 0.271.
    parameter, optimizer = single(torch.zeros(4, 3, 3, 3), optimizer="caffe", lr=1.0)
    seen = []
    for lr in (1.0, 1.0, 0.1, 0.1):
        parameter.grad = torch.ones_like(parameter)
        for group in optimizer.param_groups:
            group["lr"] = lr
        before = float(parameter.detach().flatten()[0])
        optimizer.step()
        seen.append(before - float(parameter.detach().flatten()[0]))
    assert seen == pytest.approx([1.0, 1.9, 1.81, 0.9 * 1.81 + 0.1], rel=1e-5)


def test_caffe_with_decay_is_v_of_the_decayed_gradient() -> None:
    v = np.zeros((4, 3, 3, 3))

    def formula(w: Array, g: Array, lr: float) -> Array:
        nonlocal v
        v = 0.9 * v + lr * (g + 0.01 * w)
        return w - v

    follow({"optimizer": "caffe", "lr": 0.1, "weight_decay": 0.01}, formula)


def test_caffe_is_torch_s_sgd_while_the_rate_stays() -> None:
    steps = [1.0] * 4
    ours = walked(make_optimizer(network(), recipe("caffe", weight_decay=0.1)), steps)
    torch_s = walked(make_optimizer(network(), recipe("sgd", weight_decay=0.1)), steps)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, torch_s, strict=True))


def test_sgd_in_nesterov_s_form() -> None:
    b = np.zeros((4, 3, 3, 3))

    def formula(w: Array, g: Array, lr: float) -> Array:
        nonlocal b
        g = g + 0.01 * w
        b = 0.9 * b + g
        return w - lr * (g + 0.9 * b)

    follow({"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.01, "nesterov": True}, formula)


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_and_adamw(decoupled: bool) -> None:
    m, v, t = np.zeros((4, 3, 3, 3)), np.zeros((4, 3, 3, 3)), 0

    def formula(w: Array, g: Array, lr: float) -> Array:
        nonlocal m, v, t
        t += 1
        if decoupled:
            w = w - lr * 0.1 * w
        else:
            g = g + 0.1 * w
        m, v = 0.8 * m + 0.2 * g, 0.99 * v + 0.01 * g**2
        return w - lr * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)

    kind = "adamw" if decoupled else "adam"
    options = {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.8, "beta2": 0.99}
    follow({"optimizer": kind, **options}, formula)


@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_lamb_moves_each_array_by_its_own_length(decay: float) -> None:
    m, v, t = np.zeros((4, 3, 3, 3)), np.zeros((4, 3, 3, 3)), 0

    def formula(w: Array, g: Array, lr: float) -> Array:
        nonlocal m, v, t
        t += 1
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        u = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + decay * w
        ratio = np.linalg.norm(w) / np.linalg.norm(u) if decay else 1.0
        return w - lr * ratio * u

    options = {"lr": 0.1, "weight_decay": decay, "eps": 1e-6}
    follow({"optimizer": "lamb", **options}, formula)


def test_lamb_moves_an_array_of_zeros_by_adam_s_step() -> None:
    parameter, optimizer = single(
        torch.zeros(4, 3, 3, 3), optimizer="lamb", lr=0.1, weight_decay=0.1
    )
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert parameter.detach().numpy() == pytest.approx(np.full((4, 3, 3, 3), -0.1), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(2, 8, 30), (1, 30, 8), (3, 5, 5)])
def test_orthogonal_matrices_have_singular_values_near_1(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    draws = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 5
    found = orthogonal(draws, dtype=dtype)
    assert found.dtype == dtype
    values = torch.linalg.svdvals(found.float())
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_orthogonal_is_the_same_alone_and_among_others() -> None:
    matrices = torch.randn(3, 6, 20, generator=torch.Generator().manual_seed(0))
    together = orthogonal(matrices).float()
    alone = torch.cat([orthogonal(matrix[None]) for matrix in matrices]).float()
    assert torch.allclose(together, alone, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_muon_multiplies_in_the_fastest_precision_of_the_device(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "has_bf16", lambda _: dtype == torch.bfloat16)
    _, optimizer = single(torch.ones(4, 3, 3, 3), optimizer="muon")
    gradients([p for group in optimizer.param_groups for p in group["params"]], 0)
    products: list[torch.dtype] = []
    multiply = torch.baddbmm

    def noting(*given: Any, **options: Any) -> Tensor:
        products.append(given[0].dtype)
        return multiply(*given, **options)

    monkeypatch.setattr(torch, "baddbmm", noting)
    optimizer.step()
    assert set(products) == {dtype}


@pytest.mark.parametrize("nesterov", [False, True])
def test_muon_moves_filters_as_torch_moves_matrices(nesterov: bool) -> None:
    draws = torch.Generator().manual_seed(3)
    w = torch.randn(4, 3, 3, 3, generator=draws)
    matrix = w.flatten(1).clone().requires_grad_()
    torch_s = torch.optim.Muon(
        [matrix], lr=0.02, momentum=0.95, nesterov=nesterov, weight_decay=0.1
    )
    options = {"momentum": 0.95, "nesterov": nesterov, "weight_decay": 0.1}
    parameter, ours = single(w, optimizer="muon", lr=0.02, **options)
    for _ in range(4):
        parameter.grad = torch.randn(w.shape, generator=draws)
        matrix.grad = parameter.grad.flatten(1).clone()
        torch_s.step()  # type: ignore[no-untyped-call]
        ours.step()
    moved, torch_moved = parameter.detach() - w, matrix.detach().view_as(w) - w
    # bf16: torch rounds the mean of gradients where this rounds their sum
    assert (moved - torch_moved).norm() < 0.03 * torch_moved.norm()


def test_muon_scales_tall_filters_by_the_root_of_their_form() -> None:
    net = network()
    optimizer = make_optimizer(net, recipe("muon", lr=1.0, momentum=0.0))
    shortcut = net.get_parameter("block1.unit_1.shortcut.conv.weight")
    assert shortcut.shape == (8, 4, 1, 1)
    before = shortcut.detach().clone()
    shortcut.grad = torch.randn(8, 4, 1, 1, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    values = torch.linalg.svdvals((before - shortcut.detach()).flatten(1))
    assert values.mean() == pytest.approx(2**0.5, rel=0.25)


def test_muon_moves_the_logits_and_all_norms_by_sgd_at_their_own_rate() -> None:
    net = network()
    optimizer = make_optimizer(net, recipe("muon", lr=0.3, other_lr=0.05, momentum=0.0))
    others = {n: p for n, p in net.named_parameters() if p.ndim != 4 or n.startswith("logits")}
    before = {name: parameter.detach().clone() for name, parameter in others.items()}
    walked(optimizer, [1.0])
    for name, parameter in others.items():
        assert parameter.grad is not None
        moved = before[name] - 0.05 * parameter.grad
        assert torch.allclose(parameter.detach(), moved, atol=1e-7), name
    assert {group["peak"] for group in optimizer.param_groups if group["filters"]} == {0.3}


def test_the_backbone_has_a_share_of_the_rate_and_norms_no_decay() -> None:
    net = network()
    options: dict[str, Any] = {"backbone_lr_scale": 0.1, "weight_decay": 0.01, "lr": 1.0}
    groups = make_optimizer(net, recipe(**options)).param_groups
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    found = {
        names[id(parameter)]: (group["peak"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    assert found.keys() == set(names.values())
    assert found["logits.weight"] == (1.0, 0.01)
    assert found["logits.bias"] == (1.0, 0.0)
    assert found["root.conv1.conv.weight"] == (0.1, 0.01)
    assert found["root.conv1.norm.weight"] == (0.1, 0.0)
    all_decay = make_optimizer(net, recipe(**options, decay_on="all")).param_groups
    assert {group["weight_decay"] for group in all_decay} == {0.01}


def file_and_back(state: dict[str, Any]) -> dict[str, Any]:
    """What a file without code keeps of a state: tensors in plain order, numbers, lists."""
    plain = {
        key: {name: _flat(value) for name, value in values.items()}
        for key, values in state["state"].items()
    }
    file = io.BytesIO()
    torch.save({**state, "state": plain}, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def _flat(value: Any) -> Any:
    return value.contiguous() if isinstance(value, Tensor) else value


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_state_loaded_goes_on_bit_for_bit(
    optimizer: Optimizer, layout: torch.memory_format
) -> None:
    chosen = recipe(optimizer, weight_decay=0.01, backbone_lr_scale=0.5)
    first, second = (network().to(memory_format=layout) for _ in range(2))  # type: ignore[call-overload]
    before, after = make_optimizer(first, chosen), make_optimizer(second, chosen)
    walked(before, [0.5, 1.0, 0.3])
    state = file_and_back(before.state_dict())
    second.load_state_dict(first.state_dict())
    after.load_state_dict(state)
    whole = walked(before, [0.1, 0.2], first=3)
    rest = walked(after, [0.1, 0.2], first=3)
    assert all(torch.equal(a, b) for a, b in zip(whole, rest, strict=True))
    for parameter, kept in after.state.items():
        layouts = {value.stride() for value in kept.values() if value.shape == parameter.shape}
        assert layouts == {parameter.stride()}


@pytest.mark.parametrize("optimizer", ["caffe", "lamb", "muon"])
@pytest.mark.parametrize("first", [0, 2])
def test_a_step_with_found_inf_moves_nothing(optimizer: Optimizer, first: int) -> None:
    """Ours leave it out on every device; torch's own do with fused steps, on a GPU."""
    net = network()
    made = make_optimizer(net, recipe(optimizer, weight_decay=0.1))
    filters = [p for group in made.param_groups if group.get("filters", True)
               for p in group["params"]]  # fmt: skip
    others = [p for p in net.parameters() if not any(p is one for one in filters)]
    for step in range(first):
        gradients(filters, step)
        made.step()
    before = [parameter.detach().clone() for parameter in filters]
    state = {
        (at, name): value.clone()
        for at, values in made.state_dict()["state"].items()
        for name, value in values.items()
    }
    for parameter in filters:
        parameter.grad = torch.full_like(parameter, float("nan"))
    made.found_inf = torch.ones(())  # type: ignore[attr-defined]
    made.step()
    assert all(torch.equal(a, b) for a, b in zip(before, filters, strict=True))
    for at, values in made.state_dict()["state"].items():
        for name, value in values.items():
            assert torch.equal(value, state.get((at, name), torch.zeros_like(value)))
    gradients(filters, 9)
    made.found_inf = torch.zeros(())  # type: ignore[attr-defined]
    made.step()
    assert all(
        p.isfinite().all() and not torch.equal(p, b) for p, b in zip(filters, before, strict=True)
    )
    assert all(parameter.grad is None for parameter in others)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_is_frozen_stays(optimizer: Optimizer) -> None:
    net = network()
    made = make_optimizer(net, recipe(optimizer, weight_decay=0.1))
    frozen = net.get_parameter("root.conv1.conv.weight")
    before = frozen.detach().clone()
    for share in (1.0, 0.5):
        gradients(list(net.parameters()), 0)
        frozen.grad = None
        for group in made.param_groups:
            group["lr"] = group["peak"] * share
        made.step()
    assert torch.equal(frozen, before)


def test_muon_moves_all_but_filters_by_adam_where_asked() -> None:
    net, other = network(), network()
    how = {"lr": 0.02, "other_lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-7}
    optimizer = make_optimizer(net, recipe("muon", other_optimizer="adam", weight_decay=0.1, **how))
    rest = [p for p in other.parameters() if p.ndim != 4]
    adam = torch.optim.AdamW(
        [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in rest if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=(0.8, 0.95),
        eps=1e-7,
    )
    for step in range(3):
        gradients(list(net.parameters()), step)
        gradients(list(other.parameters()), step)
        optimizer.step()
        adam.step()
    for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
        if mine.ndim != 4:
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)


def test_muon_keeps_filters_at_the_root_of_their_number_where_asked() -> None:
    net = network()
    optimizer = make_optimizer(net, recipe("muon", rescale=True, lr=1e-6))
    gradients(list(net.parameters()), 0)
    optimizer.step()
    for parameter in net.parameters():
        if parameter.ndim == 4:
            assert float(parameter.detach().norm()) == pytest.approx(
                len(parameter) ** 0.5, rel=1e-4
            )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_order_in_which_a_gradient_lies_changes_nothing(name: Optimizer) -> None:
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        net = network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = make_optimizer(net, recipe(name, lr=0.01, nesterov=name == "sgd"))
        for step in range(3):
            gradients(list(net.parameters()), step)
            for parameter in net.parameters():
                if parameter.ndim == 4:
                    assert parameter.grad is not None
                    parameter.grad = parameter.grad.to(memory_format=layout)
            optimizer.step()
        found.append([parameter.detach().clone() for parameter in net.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
