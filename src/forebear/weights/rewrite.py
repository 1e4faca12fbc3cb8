"""Rewrites of a network that compute the same function in evaluation mode.

They reduce the computation, remove norms, or simplify the preprocessing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from forebear.network.network import Network
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Plan
from forebear.tables.dialects import Dialect, Shortcut


def _again(old: Plan, *, dialect: Dialect | None = None, folded: bool | None = None) -> Network:
    """Returns the same network without weights, in another dialect or with folded norms."""
    plan = expand(
        old.table,
        dialect or old.dialect,
        num_classes=old.num_classes,
        in_channels=old.in_channels,
        output_stride=old.output_stride,
        global_pool=old.global_pool,
        include_root=old.include_root,
        folded=old.folded if folded is None else folded,
    )
    with torch.device("meta"):
        return Network(plan)


def _filled(network: Network, state: dict[str, Tensor], like: Network) -> Network:
    network.load_state_dict(state, assign=True)
    network.card = like.card
    return network.train(like.training)


def move_strides(network: Network) -> Network:
    """Moves the strides of an original version 1 network to TF-Slim's position.

    In Caffe and Keras, the first 1x1 convolution of a block has the stride. In TF-Slim, the 3x3
    convolution of the unit before has it. The last 1x1 convolution of that unit then runs on the
    coarser map. This saves 9.7 % of the multiply-adds of a ResNet-50. The function in evaluation
    mode is the same: tf_slim/nets/resnet_utils.py.

    Raises:
        ValueError: The strides of the network are in other layers.
    """
    dialect = network.dialect
    place = (dialect.order, dialect.strided_unit, dialect.strided_conv, network.table.form)
    if place != ("post", "first", "conv1", "bottleneck") or dialect.conv_padding != "explicit":
        raise ValueError(
            f"rewrite=strides: {network.table.name} in dialect {dialect.name} does not have its "
            "strides in the first 1x1 convolution of each block. Expected an original version 1 "
            "network with bottlenecks, such as keras/ResNet50. Omit this rewrite."
        )
    name = f"{dialect.name} with TF-Slim's strides"
    dialect = replace(dialect, name=name, strided_unit="last", strided_conv="conv2")
    # A projection stays where it is, also of a dialect that has one wherever a unit has a stride.
    shortcuts: tuple[Shortcut, ...] = (dialect.shortcut, "widen", "first")
    for shortcut in shortcuts:
        moved = _again(network.plan, dialect=replace(dialect, shortcut=shortcut))
        if moved.state_dict().keys() == network.state_dict().keys():
            return _filled(moved, network.state_dict(), network)
    raise ValueError(
        f"rewrite=strides: no dialect with TF-Slim's strides has the projections of "
        f"{network.table.name} in dialect {network.dialect.name}. Expected a projection in the "
        "first unit of each block, or where the channels change. Omit this rewrite."
    )


def fold_norms(network: Network) -> Network:
    """Folds each norm that follows a convolution into it. Norms of pre-activations remain.

    Raises:
        ValueError: No norm follows a convolution, or the norms are already folded.
    """
    old = network.plan
    normed = [layer for layer in old.layers() if layer.kind == "conv" and layer.norm]
    if not normed:
        raise ValueError(
            f"rewrite=norms: no norm of {old.table.name} follows a convolution. Expected a network "
            "with norms after convolutions that are not folded yet. Omit this rewrite."
        )
    state = dict(network.state_dict())
    for layer in normed:
        norm = f"{layer.path}.norm"
        gamma, beta, mean, variance = (
            state.pop(f"{norm}.{name}").double()
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        state.pop(f"{norm}.num_batches_tracked")
        weight = state[f"{layer.path}.conv.weight"]
        scale = gamma / (variance + old.dialect.norm_eps).sqrt()
        bias = beta - mean * scale
        if layer.bias:
            bias = bias + state[f"{layer.path}.conv.bias"].double() * scale
        scaled = weight.double() * scale[:, None, None, None]
        state[f"{layer.path}.conv.weight"] = scaled.to(weight.dtype)
        state[f"{layer.path}.conv.bias"] = bias.to(weight.dtype)
    return _filled(_again(old, folded=True), state, network)


def fold_input(network: Network) -> Network:
    """Folds the channel order, scale and standard deviation into the first convolution.

    The remaining preprocessing subtracts the mean colour from pixel values 0..255 in RGB order. The
    mean is folded too if the first convolution has a bias and no padding, as in TF-Slim's AlexNet
    v2. Others pad with zeros after the subtraction, which a bias cannot express.

    Raises:
        ValueError: The network has no root, or there is nothing to fold.
    """
    rule, path = network.preprocessing, "root.conv1.conv.weight"
    state = dict(network.state_dict())
    bias, first = "root.conv1.conv.bias", next(iter(network.plan.root), None)
    takes_mean = first is not None and first.padding == 0 and bias in state and any(rule.mean)
    plain = rule.order != "BGR" and rule.scale == 1 and set(rule.std) == {1.0} and not takes_mean
    if path not in state or plain or network.plan.in_channels != rule.channels:
        raise ValueError(
            f"rewrite=input: {network.table.name} has no preprocessing that can be folded into its "
            "first convolution. Expected a network with a root, and preprocessing with a scale, a "
            "standard deviation or BGR order. Omit this rewrite."
        )
    weight = state[path]
    spread = torch.tensor(rule.std, dtype=torch.float64, device=weight.device)
    folded = weight.double() * (rule.scale / spread)[:, None, None]
    mean = tuple(value / rule.scale for value in rule.mean)
    if rule.order == "BGR":
        folded, mean = folded.flip(1), mean[::-1]
    if takes_mean:
        shift = torch.tensor(mean, dtype=torch.float64, device=weight.device)[:, None, None]
        moved = state[bias].double() - (folded * shift).sum((1, 2, 3))
        state[bias], mean = moved.to(weight.dtype), (0.0,) * rule.channels
    state[path] = folded.to(weight.dtype)
    found = _filled(_again(network.plan), state, network)
    ones = (1.0,) * rule.channels
    plain_rule = replace(rule, scale=1.0, mean=mean, std=ones)
    rule = replace(plain_rule, order="RGB") if rule.order == "BGR" else plain_rule
    found.card = replace(network.card, preprocessing=rule)
    return found


REWRITES: dict[str, Callable[[Network], Network]] = {
    "strides": move_strides,
    "norms": fold_norms,
    "input": fold_input,
}
