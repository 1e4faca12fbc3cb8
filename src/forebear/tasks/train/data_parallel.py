"""Data parallelism: the mean of the gradients of several processes, and synchronised norms."""

from __future__ import annotations

import gc
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn.parallel import DistributedDataParallel

from forebear.network.layers import BiasedNorm
from forebear.tasks.machine.distributed import World


class DataParallel:
    """A model whose backward pass leaves the mean gradient over all processes in each of them.

    Gradients are summed in buckets during the backward pass (Li et al. 2020, PyTorch Distributed).
    A process without images takes part with gradients of zero.
    """

    def __init__(self, model: nn.Module, world: World) -> None:
        """Wraps a model with the same weights in every process.

        Args:
            model: Takes images or features, and returns logits [n, classes].
            world: The processes; with one process this is a no-op wrapper.
        """
        self.world = world
        self._model = _Part(model)
        self._wrapped: DistributedDataParallel | None = None
        self._learning: list[nn.Parameter] = []  # parameters that the wrapper knows

    def __call__(self, images: Tensor) -> Tensor:
        """Returns the logits of this process's part of the batch; call it within `part`."""
        if self.world.size == 1:
            return self._model(images)  # type: ignore[no-any-return]
        return self._wrapped(images)  # type: ignore[no-any-return, misc]

    def part(self, *, last: bool) -> AbstractContextManager[None]:
        """Context of a forward and backward pass; the last one of a step sums the gradients."""
        if self.world.size == 1:
            return nullcontext()
        wrapped = self._wrapper()
        return nullcontext() if last else wrapped.no_sync()

    def _wrapper(self) -> DistributedDataParallel:
        """Returns the wrapper of the parameters that learn now; made again when these change."""
        learning = [p for p in self._model.parameters() if p.requires_grad]
        same = len(learning) == len(self._learning) and all(map(_is, learning, self._learning))
        if self._wrapped is None or not same:
            self._wrapped = None
            gc.collect()  # the old one's hooks on the gradients go with it
            device = learning[0].device
            self._wrapped = DistributedDataParallel(
                self._model,
                device_ids=[device] if device.type == "cuda" else None,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
            )
            self._learning = learning
        return self._wrapped


def _is(one: nn.Parameter, other: nn.Parameter) -> bool:
    return one is other


class _Part(nn.Module):
    """The model; without images, it returns zeros that depend on all parameters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        # All processes must execute every synchronised norm.
        self.passes = any(isinstance(m, SyncNorm | nn.SyncBatchNorm) for m in model.modules())

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits [n, classes]; n may be 0."""
        if len(images) or self.passes:
            return self.model(images)  # type: ignore[no-any-return]
        learning = [p.sum() for p in self.model.parameters() if p.requires_grad]
        width = list(self.model.parameters())[-1].shape[0]  # of the last layer, the logits
        return (torch.stack(learning).sum() * 0).expand(0, width)


def synchronise_norms(network: nn.Module) -> None:
    """Makes every batch norm take its mean and variance over the images of all processes.

    Parameters, buffers and names do not change. On a GPU torch's own module is used, except for
    norms that keep a biased variance.
    """
    for name, module in list(network.named_modules()):
        if type(module) is nn.BatchNorm2d and module.weight.is_cuda:
            made = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
            network.set_submodule(name, made)
        elif isinstance(module, nn.BatchNorm2d):
            network.set_submodule(name, SyncNorm.of(module))


class SyncNorm(nn.BatchNorm2d):
    """Batch norm over the images of all processes, however many each has, on any device.

    torch.nn.SyncBatchNorm (2.13) needs a GPU. In evaluation mode it is a plain batch norm.
    """

    biased = False  # whether the running variance averages the biased variance, as in Keras 3

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> SyncNorm:
        """Returns a norm that shares the parameters and the buffers of another."""
        made = cls(norm.num_features, eps=norm.eps, momentum=norm.momentum, device="meta")
        made._parameters, made._buffers = norm._parameters, norm._buffers
        made.biased = isinstance(norm, BiasedNorm)
        return made.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        """Normalises `input` [n, C, H, W], where n may be 0, and updates the running values."""
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        out, mean, var, count = _Normalise.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.bias, self.eps
        )
        with torch.no_grad():
            taken = var if self.biased else var * (count / (count - 1))
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(taken, self.momentum)
            self.num_batches_tracked += 1
        result: Tensor = out
        return result


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, with mean and variance over all processes.

    Ioffe and Szegedy 2015: the sums of section 3 run over all processes, in the forward and in the
    backward pass. They are float64, so that the difference of the mean square and the squared mean
    keeps the precision of float32.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values = x.float()
        own = values.numel() // values.shape[1]
        var, mean = torch.zeros(2, values.shape[1], dtype=torch.float64, device=x.device)
        if own:
            var, mean = (one.double() for one in torch.var_mean(values, (0, 2, 3), correction=0))
        count = torch.full((1,), float(own), dtype=torch.float64, device=x.device)
        sums = torch.cat((count, own * mean, own * (var + mean.square())))
        distributed.all_reduce(sums)
        count, (total, squares) = sums[0], sums[1:].view(2, -1)
        mean = total / count
        var = (squares / count - mean.square()).clamp_min(0)
        scale = (var + eps).rsqrt().float()
        seen = (values - _wide(mean.float())) * _wide(scale)
        ctx.save_for_backward(seen, weight, scale, count)
        out = (seen * _wide(weight) + _wide(bias)).to(x.dtype)
        moments = mean.float(), var.float(), count.float()
        ctx.mark_non_differentiable(*moments)
        return out, *moments

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, out: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        seen, weight, scale, count = ctx.saved_tensors
        gradient = out.float()
        bias_part, weight_part = gradient.sum((0, 2, 3)), (gradient * seen).sum((0, 2, 3))
        sums = torch.stack((bias_part, weight_part)).double()
        distributed.all_reduce(sums)
        of_mean, of_scale = (sums / count).float()
        inner = gradient - _wide(of_mean) - seen * _wide(of_scale)
        return (inner * _wide(scale * weight)).to(out.dtype), weight_part, bias_part, None


def _wide(values: Tensor) -> Tensor:
    """[C] -> [C, 1, 1]."""
    return values[:, None, None]
