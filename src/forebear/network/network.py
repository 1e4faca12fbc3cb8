"""A network as a torch module: what `forebear.create` returns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from forebear.errors import near_misses
from forebear.network.layers import make
from forebear.network.model_card import ModelCard
from forebear.network.plan import end_points as ends
from forebear.network.plan.cost import check_size, smallest_side
from forebear.network.plan.expand import expand
from forebear.network.plan.layer_names import original_end_points
from forebear.network.plan.plan import Plan
from forebear.network.units import make_unit
from forebear.tables.dialects import Dialect
from forebear.tables.preprocessing import Preprocessing
from forebear.tables.rows import Table


class Network(nn.Module):
    """A network: root, then layers or blocks, then postnorm, pool and logits.

    Shape: [N, in_channels, H, W] floats -> [N, classes], or [N, classes, h, w] without the global
    pool. If num_classes is None, it returns features in the same shapes, with channels in place of
    classes.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.card = ModelCard(preprocessing=plan.dialect.preprocessing)
        self.smallest_side = smallest_side(plan)  # pixels; smaller images raise a ValueError
        dialect = plan.dialect
        self.root = nn.Sequential(OrderedDict((r.name, make(r, dialect)) for r in plan.root))
        self.trunk: list[str] = []  # names of the modules after the root, in order
        for row in plan.body:
            self._append(row.path, make(row, dialect))
        for block, units in plan.blocks:
            modules = ((unit.path.rpartition(".")[2], make_unit(unit, dialect)) for unit in units)
            self._append(block, nn.Sequential(OrderedDict(modules)))
        for row in plan.head():
            self._append(row.path, make(row, dialect))

    def _append(self, name: str, module: nn.Module) -> None:
        self.add_module(name, module)
        self.trunk.append(name)

    @property
    def table(self) -> Table:
        """The table that the network was built from."""
        return self.plan.table

    @property
    def dialect(self) -> Dialect:
        """The dialect that the network follows."""
        return self.plan.dialect

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing that the weights expect. A new network has its dialect's."""
        return self.card.preprocessing

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the logits, or an empty tuple if they are unknown."""
        return self.card.classes

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits of a batch of images.

        Raises:
            TypeError: The images are not a tensor of floats.
            ValueError: The rank or the number of channels is wrong, or the images are too small.
        """
        self._check(images)
        x: Tensor = self.root(images)
        for name in self.trunk:
            x = self.get_submodule(name)(x)
        return x

    def _check(self, images: Tensor) -> None:
        plan = self.plan
        if not isinstance(images, Tensor):
            raise TypeError(
                f"images of type {type(images).__name__}: expected a tensor [N, "
                f"{plan.in_channels}, H, W] of floats. Convert it with torch.as_tensor(images)."
            )
        if images.ndim != 4 or images.shape[1] != plan.in_channels:
            hint = "Add a batch dimension: images[None]." if images.ndim == 3 else ""
            if images.ndim == 4 and images.shape[3] == plan.in_channels:
                hint = "Move the channels to dimension 1: images.permute(0, 3, 1, 2)."
            raise ValueError(
                f"images of shape {list(images.shape)}: {plan.table.name} expects "
                f"[N, {plan.in_channels}, H, W]. "
                + (hint or "For images with other channels, pass in_channels to forebear.create.")
            )
        if not images.is_floating_point():
            raise TypeError(
                f"images of dtype {images.dtype}: expected floats, preprocessed as described by "
                "net.preprocessing. Use net.preprocess, or scale the images and pass floats."
            )
        if images.shape[2] < self.smallest_side or images.shape[3] < self.smallest_side:
            check_size(plan, images.shape[2], images.shape[3])

    def preprocess(self, pictures: Any) -> Tensor:
        """Applies the preprocessing of the weights to images. The images are not modified.

        Args:
            pictures: One image, or a list of images. An image is a path, the bytes of a file, a PIL
                image, or a uint8 array or tensor [H, W, C] or [H, W]. Any size, mode and
                orientation is supported. Arrays are in RGB order.

        Returns:
            [N, in_channels, size, size] on the network's device, in its dtype.

        Raises:
            DataError: An image cannot be read. The message names it.
            TypeError: An object is not an image.
            ValueError: The list is empty.
        """
        from forebear.data.images.preprocess import preprocess, to_image

        many = pictures if isinstance(pictures, list | tuple) else [pictures]
        if not many:
            raise ValueError(
                f"pictures={pictures!r}: expected at least one image. Pass a path or a list of "
                "paths."
            )
        rule, weight = self.preprocessing, next(self.parameters())
        squares = [preprocess(to_image(one, rule.channels), rule) for one in many]
        batch = torch.stack([torch.from_numpy(square) for square in squares])
        return batch.to(weight.device, weight.dtype)

    def end_points(
        self,
        images: Tensor,
        names: Iterable[str] | None = None,
        *,
        style: Literal["forebear", "original"] = "forebear",
    ) -> dict[str, Tensor]:
        """Runs the network and returns the requested tensors by name, in execution order.

        Args:
            images: The input, as for a call of the network.
            names: The end points to keep. None keeps all of them. Only the requested tensors take
                memory. The path of every module is an end point, such as
                "block3.unit_2.conv2.norm". "predictions" is the softmax of "logits" over the
                classes.
            style: "original" uses the names of the dialect's original library, such as
                "resnet_v1_50/block3/unit_2/bottleneck_v1/conv2".

        Raises:
            ValueError: An end point is unknown. The message suggests similar names.
        """
        paths = self._paths(names, style)
        wanted = {key: "logits" if path == "predictions" else path for key, path in paths.items()}
        with ends.kept(self, wanted) as found:
            self(images)
        for key, path in paths.items():
            if path == "predictions":
                found[key] = found[key].softmax(dim=1)
        return {key: found[key] for key in paths}

    def _paths(self, names: Iterable[str] | None, style: str) -> dict[str, str]:
        if style not in ("forebear", "original"):
            raise ValueError(
                f'style={style!r}: expected "forebear" or "original". Pass one of these.'
            )
        known = {path: path for path in ends.end_points(self.plan)}
        if style == "original":
            known = original_end_points(self.plan)
        if names is None:
            return known
        paths = {}
        modules = dict(self.named_modules()) if style == "forebear" else {}
        for name in [names] if isinstance(names, str) else names:
            if name not in known and (name not in modules or not name):
                raise ValueError(
                    f"end point {name!r}: {self.table.name} has no end point of that name. "
                    f"Expected a name such as {next(iter(known))}. Call end_points without names "
                    f"to see all of them.{near_misses(name, known)}"
                )
            paths[name] = known.get(name, name)
        order = list(dict.fromkeys([*known.values(), *modules]))
        return dict(sorted(paths.items(), key=lambda item: order.index(item[1])))

    def pyramid(self, images: Tensor) -> dict[int, Tensor]:
        """Returns the last feature map at each stride: {4: ..., 8: ..., 16: ..., 32: ...}.

        The keys are input pixels between neighbouring values. ImageNet networks have the keys
        above. In every dialect, a map is the last one before the resolution is reduced. In
        TF-Slim's dialects, the last unit of block1 already has a stride, so the map at stride 4 is
        block1.unit_2.
        """
        places = ends.pyramid(self.plan)
        found = self.end_points(images, places.values())
        return {stride: found[path] for stride, path in places.items()}

    @torch.no_grad()
    def verify_dense(
        self, output_stride: int, *, size: tuple[int, int] | None = None, seed: int = 0
    ) -> float:
        """Checks that the dilated network, subsampled, computes the features of the nominal one.

        Both networks run in evaluation mode on one random image. The features of the dilated
        network are subsampled by k = nominal stride / output_stride.

        Args:
            output_stride: The output stride of the dilated network.
            size: The height and width of the image in pixels. None uses two different odd sides
                near the published size.
            seed: The seed of the random image.

        Returns:
            The largest `|dense[::k] - nominal|`, divided by the largest `|nominal|`.

        Raises:
            ValueError: The network cannot have this output_stride.
        """
        side = max(self.table.image_size, self.smallest_side)
        height, width = size or (side + 1, side - side // 4 + 1 if side > 128 else side + 5)
        height, width = max(height, self.smallest_side), max(width, self.smallest_side)
        weight = next(self.parameters())
        generator = torch.Generator().manual_seed(seed)
        image = torch.randn(1, self.plan.in_channels, height, width, generator=generator)
        image = image.to(weight.device, weight.dtype)
        coarse, fine = self._at(None), self._at(output_stride)
        nominal, dense = coarse(image), fine(image)
        k = coarse.plan.stride // fine.plan.stride
        picked = dense[:, :, ::k, ::k]
        if picked.shape != nominal.shape:
            return float("inf")
        scale = nominal.abs().max().clamp_min(torch.finfo(nominal.dtype).tiny)
        return float((picked - nominal).abs().max() / scale)

    def _at(self, output_stride: int | None) -> Network:
        """Returns the network at another output stride, without the pool, in evaluation mode."""
        old = self.plan
        plan = expand(
            old.table,
            old.dialect,
            num_classes=old.num_classes,
            in_channels=old.in_channels,
            output_stride=output_stride,
            global_pool=False,
            include_root=old.include_root,
            folded=old.folded,
        )
        with torch.device("meta"):
            twin = Network(plan)
        twin.load_state_dict(self.state_dict(), assign=True)
        return twin.eval()
