"""A network as a torch module: what `forebear.create` returns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from forebear.network.check_images import check_images
from forebear.network.dense import at_stride, dense_error
from forebear.network.hooks import collect, find_paths
from forebear.network.layers import make
from forebear.network.model_card import ModelCard
from forebear.network.plan import end_points
from forebear.network.plan.cost import smallest_side
from forebear.network.plan.plan import Plan
from forebear.network.units import make_unit
from forebear.tables.dialects import Dialect
from forebear.tables.preprocessing import Preprocessing
from forebear.tables.rows import Table

if TYPE_CHECKING:
    from forebear.engines.classifier import Classifier


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
        trunk: dict[str, nn.Module] = {row.path: make(row, dialect) for row in plan.body}
        for block, units in plan.blocks:
            modules = ((unit.path.rpartition(".")[2], make_unit(unit, dialect)) for unit in units)
            trunk[block] = nn.Sequential(OrderedDict(modules))
        trunk |= {row.path: make(row, dialect) for row in plan.head()}
        for name, module in trunk.items():
            self.add_module(name, module)
        self.trunk = list(trunk)  # names of the modules after the root, in order

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

    @property
    def multi_label(self) -> bool:
        """Whether an image can have several labels, or none.

        Then the probability of a label is the sigmoid of its logit, and `card.multi_label` has the
        threshold of each label. Otherwise the probabilities are the softmax of the logits.
        """
        return self.card.multi_label is not None

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits of a batch of images.

        Raises:
            TypeError: The images are not a tensor of floats.
            ValueError: The rank or the number of channels is wrong, or the images are too small.
        """
        check_images(images, self.plan, self.smallest_side)
        x: Tensor = self.root(images)
        for name in self.trunk:
            x = self.get_submodule(name)(x)
        return x

    def preprocess(self, images: Any) -> Tensor:
        """Applies the preprocessing of the weights to images. The images are not modified.

        Args:
            images: One image, or a list of images. An image is a path, the bytes of a file, a PIL
                image, or a uint8 array or tensor [H, W, C] or [H, W]. Any size, mode and
                orientation is supported. Arrays are in RGB order.

        Returns:
            [N, in_channels, H, W] on the network's device, in its dtype.

        Raises:
            DataError: An image cannot be read. The message names it.
            TypeError: An object is not an image.
            ValueError: The list is empty.
        """
        from forebear.data.images.preprocess import preprocess, to_image

        many = images if isinstance(images, list | tuple) else [images]
        if not many:
            raise ValueError(
                f"images={images!r}: expected at least one image. Pass a path or a list of paths."
            )
        rule, weight = self.preprocessing, next(self.parameters())
        squares = [preprocess(to_image(one, rule.channels, rule.levels), rule) for one in many]
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
                classes, or the sigmoid of each if the network is multi-label.
            style: "original" uses the names of the dialect's original library, such as
                "resnet_v1_50/block3/unit_2/bottleneck_v1/conv2".

        Raises:
            ValueError: An end point is unknown. The message suggests similar names.
        """
        return collect(self, images, find_paths(self, names, style))

    def compile_for(
        self,
        batch: int = 1,
        *,
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        engine: Literal["auto", "torch", "compile", "onnxruntime", "openvino"] = "auto",
        threads: int | None = None,
        device: str = "cpu",
    ) -> Classifier:
        """Returns a classifier that answers images with the fastest engine of this machine.

        Later changes of the network do not change the classifier. A call of it with a list of
        images returns the most probable classes of each.

        Args:
            batch: The number of images at a time that speed is measured for. Others work too.
            precision: "auto" is fp32.
            engine: "auto" measures the installed engines and takes the fastest whose logits equal
                the network's.
            threads: The number of compute threads. None takes all cores.
            device: "cpu", "cuda" or "cuda:N". On a GPU, "auto" is PyTorch with fused convolutions.

        Raises:
            ValueError: The engine is not installed, the machine lacks the precision, or the network
                has no classifier.
            WeightsError: No engine gives the network's results.
        """
        from forebear.engines.engine import EngineRequest
        from forebear.engines.open import opened_network

        request = EngineRequest(
            engine=engine, precision=precision, batch=batch, threads=threads, device=device
        )
        return opened_network(self, request)

    def pyramid(self, images: Tensor) -> dict[int, Tensor]:
        """Returns the last feature map at each stride: {4: ..., 8: ..., 16: ..., 32: ...}.

        The keys are input pixels between neighbouring values. ImageNet networks have the keys
        above. In every dialect, a map is the last one before the resolution is reduced. In
        TF-Slim's dialects, the last unit of block1 already has a stride, so the map at stride 4 is
        block1.unit_2.
        """
        places = end_points.pyramid(self.plan)
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
        nominal, dense = at_stride(self, None), at_stride(self, output_stride)
        return dense_error(nominal, dense, size=size, seed=seed)
