"""PyTorch as an engine, eager or compiled."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forebear.engines.engine import EngineName, EnginePrecision, Pixels
from forebear.engines.lower import lower
from forebear.network.compiled import compiled as compile_module
from forebear.network.kernels.cudnn import use_cudnn
from forebear.network.network import Network
from forebear.tables.preprocessing import Preprocessing


class PixelNetwork(nn.Module):
    """A network with the arithmetic of its preprocessing.

    Shape: [N, H, W, C] pixels in 0..255, uint8 or float32 -> [N, classes].
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        rule = network.preprocessing
        mean, scale = mean_and_scale(rule)
        self.bgr = rule.order == "BGR"
        self.plain = set(scale) == {1.0}
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("scale", torch.tensor(scale)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns the logits of pixels."""
        x = pixels.permute(0, 3, 1, 2).float()
        if self.bgr:
            x = x.flip(1)
        x = x - self.mean
        if not self.plain:
            x = x * self.scale
        dtype = next(self.network.parameters()).dtype
        logits: Tensor = self.network(x.to(dtype))
        return logits


def mean_and_scale(rule: Preprocessing) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the values of (pixel - mean) * scale, which equals the rule's arithmetic."""
    mean = tuple(value / rule.scale for value in rule.mean)
    return mean, tuple(rule.scale / value for value in rule.std)


class TorchEngine:
    """PyTorch on a device, with norms folded and in channels_last.

    On an NVIDIA GPU, eager PyTorch uses cuDNN's convolutions with bias, addition and ReLU.
    """

    def __init__(
        self,
        network: Network,
        *,
        precision: EnginePrecision = "fp32",
        compiled: bool = False,
        device: str | torch.device = "cpu",
        threads: int | None = None,
    ) -> None:
        """Makes the engine.

        Args:
            network: It is not modified.
            precision: fp32 or bf16.
            compiled: Whether torch.compile compiles it, at the first batch of each size.
            device: Where it runs.
            threads: Compute threads of PyTorch in this process; None leaves their number as it is.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self.name: EngineName = "compile" if compiled else "torch"
        self.precision: EnginePrecision = precision
        self._device = torch.device(device)
        low = lower(network).to(self._device)
        if low is network:
            low = _copy(network).to(self._device)
        low = low.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if precision == "bf16":
            low = low.to(torch.bfloat16)
        if self._device.type == "cuda" and not compiled:
            use_cudnn(low)
        model: nn.Module = PixelNetwork(low).to(self._device).eval()
        self._model = compile_module(model) if compiled else model

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """Returns the logits, [N, classes]."""
        given = torch.from_numpy(np.require(pixels, requirements=("C", "W"))).to(self._device)
        return self.logits(given).float().cpu().numpy()

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Returns the logits on the device, [N, classes], in the precision of the engine.

        Args:
            pixels: As of an engine, on its device.
        """
        logits: Tensor = self._model(pixels)
        return logits


def _copy(network: Network) -> Network:
    import copy

    return copy.deepcopy(network)
