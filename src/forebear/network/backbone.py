"""A network without its head, which returns feature maps: `forebear.create(features_only=True)`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from torch import Tensor, nn

from forebear.network.check_images import check_images
from forebear.network.network import Network
from forebear.network.plan.feature_levels import FeatureInfo, choose_levels, levels
from forebear.tables.preprocessing import Preprocessing
from forebear.text import truncated


class Backbone(nn.Module):
    """The layers of a network up to the last of the chosen feature maps, as in timm.

    The modules have the network's names, so its weights fit, and torchvision's
    IntermediateLayerGetter accepts it. The maps equal the network's end points.

    Shape: [N, in_channels, H, W] floats -> a list with [N, channels, h, w] for each of out_indices,
    in their order. `feature_info` has the channels and the reductions.

    Args:
        network: The network whose modules to take. The backbone shares their parameters.
        out_indices: The feature maps, as for `forebear.create`.

    Raises:
        ValueError: The network has no such feature map, or no root.
    """

    def __init__(self, network: Network, out_indices: int | Iterable[int] | None = None) -> None:
        super().__init__()
        plan = network.plan
        if not plan.include_root:
            raise ValueError(
                f"features_only=True, include_root=False: feature map 0 of {plan.table.name} is in "
                "the root. Expected include_root=True. Remove one of the two arguments."
            )
        found = levels(plan)
        chosen = choose_levels(plan.table.name, len(found), out_indices)
        self.plan = plan
        self.preprocessing: Preprocessing = network.preprocessing
        self.smallest_side = network.smallest_side  # pixels; smaller images raise a ValueError
        self.feature_info = FeatureInfo(found, chosen)
        self.wanted = tuple(found[index].path for index in chosen)
        self.steps = self._take(network, found[max(chosen)].path)
        self.train(network.training)

    @property
    def out_indices(self) -> tuple[int, ...]:
        """The positions of the maps that a call returns, counted from the finest."""
        return self.feature_info.out_indices

    def forward(self, images: Tensor) -> list[Tensor]:
        """Returns the feature maps of a batch of images.

        Raises:
            TypeError: The images are not a tensor of floats.
            ValueError: The rank or the number of channels is wrong, or the images are too small.
        """
        check_images(images, self.plan, self.smallest_side)
        x, maps = images, {}
        for path in self.steps:
            x = self.get_submodule(path)(x)
            if path in self.wanted:
                maps[path] = x
        return [maps[path] for path in self.wanted]

    def _take(self, network: Network, last: str) -> tuple[str, ...]:
        """Adds the modules up to `last`, and returns the paths of those to call, in order."""
        opened = {path.partition(".")[0] for path in self.wanted if "." in path}
        steps = []
        for name, module in network.named_children():
            if name not in opened:
                self.add_module(name, module)
                steps.append(name)
            else:
                parts: OrderedDict[str, nn.Module] = OrderedDict()
                for part, inner in module.named_children():
                    parts[part] = inner
                    steps.append(f"{name}.{part}")
                    if steps[-1] == last:
                        break
                self.add_module(name, nn.Sequential(parts))
            if steps[-1] == last:
                break
        return tuple(steps)


def refuse_indices(features_only: bool, out_indices: object) -> None:
    """Refuses out_indices for a network that is no backbone.

    Raises:
        ValueError: out_indices are given without features_only.
    """
    if out_indices is not None and not features_only:
        raise ValueError(
            f"out_indices={truncated(repr(out_indices))}: a network with a head has no feature "
            "indices. Expected features_only=True with it. Pass it, or remove out_indices."
        )
