"""End points: the names of a network's intermediate tensors."""

from __future__ import annotations

from forebear.network.plan.plan import Plan


def end_points(plan: Plan) -> list[str]:
    """Returns the paths of all end points in execution order. `predictions` comes last."""
    paths = [layer.path for layer in (*plan.root, *plan.body) if layer.kind != "dropout"]
    for block, units in plan.blocks:
        for unit in units:
            paths += [layer.path for layer in unit.layers() if layer.kind != "identity"]
            paths.append(unit.path)
        paths.append(block)
    paths += [layer.path for layer in plan.head()]
    if plan.logits is not None:
        paths.append("predictions")
    return paths


def pyramid(plan: Plan) -> dict[int, str]:
    """Returns {stride: path of the last feature map at that stride}, from the root's stride on."""
    stride = 1
    for layer in plan.root:
        stride *= layer.stride
    maps = {stride: plan.root[-1].path} if plan.root else {}
    for layer in plan.body:
        stride *= layer.stride
        if layer.kind in ("conv", "pool"):
            maps[stride] = layer.path
    for unit in plan.units():
        stride *= unit.stride
        maps[stride] = unit.path
    if plan.postnorm is not None:
        maps[stride] = plan.postnorm.path
    return maps
