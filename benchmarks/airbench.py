"""The published airbench recipe for CIFAR-10, as a peer: its own small network and its own tricks.

python benchmarks/airbench.py [--epochs 8] [--batch 1024] [--images N] [--seed 0]

Written from its published figures (KellerJordan/cifar10-airbench, airbench94), with autocast to
bfloat16 where the processor multiplies it, in channels_last. Prints one line of JSON: the seconds
of training (whitening and augmentation in them, reading and evaluation not), and the accuracy in
one view and with its six test-time views.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from collections.abc import Iterator

import contest
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forebear.hardware import processor

RATE, DECAY, MOMENTUM = 11.5, 0.0153, 0.85  # rate and decay for 1024 images
BIAS = 64.0  # times the rate, for the norms' biases
SMOOTHING = 0.2
WHITENING_EPOCHS = 3  # in which the first layer's bias moves
SHIFT = 2  # pixels
HALF = processor().bf16  # whether the half precision is the faster one
EVERY, KEPT = 5, 0.95  # steps between two averages, and the share kept a step at the end
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def norm(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    layer.weight.requires_grad = False
    return layer


def conv(before: int, channels: int) -> nn.Conv2d:
    """The first filters hand on their inputs as they are."""
    layer = nn.Conv2d(before, channels, 3, padding="same", bias=False)
    nn.init.dirac_(layer.weight.data[:before])
    return layer


class Speednet(nn.Module):
    """Whitening, three groups of two convolutions, logits divided by 9."""

    def __init__(self) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        layers: list[nn.Module] = []
        for before, channels in ((24, 64), (64, 256), (256, 256)):
            layers += [conv(before, channels), nn.MaxPool2d(2), norm(channels), nn.GELU()]
            layers += [conv(channels, channels), norm(channels), nn.GELU()]
        self.groups = nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten())
        self.head = nn.Linear(256, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.groups(F.gelu(self.whiten(x)))) / 9

    def fit_whitening(self, images: Tensor, eps: float = 5e-4) -> None:
        """The first layer's filters become the patches' principal directions, and their negatives.

        Args:
            images: [N, 3, 32, 32].
            eps: added to the variances.
        """
        patches = F.unfold(images, 2).transpose(1, 2).reshape(-1, 12)
        variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (directions / (variances + eps).sqrt()).T.flip(0).reshape(12, 3, 2, 2)
        self.whiten.weight.data = torch.cat([filters, -filters])
        self.whiten.weight.requires_grad = False
        nn.init.zeros_(self.whiten.bias)


def normalised(pixels: np.ndarray) -> Tensor:
    """[N, 32, 32, 3] bytes to [N, 3, 32, 32], channels last."""
    images = torch.from_numpy(pixels).float() / 255
    return ((images - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each moved by up to SHIFT pixels in both directions, edges reflected."""
    wide, side = F.pad(images, (SHIFT,) * 4, "reflect"), 2 * SHIFT + 1
    moves = torch.randint(0, side * side, (len(images),), generator=generator)
    out = torch.empty_like(images)
    for move in range(side * side):
        dy, dx = divmod(move, side)
        out[moves == move] = wide[moves == move, :, dy : dy + 32, dx : dx + 32]
    return out


def epochs(
    images: Tensor, labels: Tensor, batch: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches for ever: mirrored by chance at first, then all the other way round each epoch."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    while True:
        turned = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        turned = shifted(turned, generator)
        order = torch.randperm(len(images), generator=generator)
        for at in range(0, len(order) - batch + 1, batch):
            taken = order[at : at + batch]
            yield turned[taken].contiguous(memory_format=torch.channels_last), labels[taken]
        mirrored = ~mirrored


def optimizer(net: Speednet, batch: int) -> torch.optim.SGD:
    """SGD for the summed loss; the decay is apart from the rate, as torch's is not."""
    unit = 1024 * (1 + 1 / (1 - MOMENTUM))
    rate, decay = RATE / unit, DECAY * batch / unit
    learned = [(name, value) for name, value in net.named_parameters() if value.requires_grad]
    biases = [value for name, value in learned if "groups" in name and name.endswith("bias")]
    others = [net.head.weight, *(value for _, value in learned if value.ndim == 4)]
    groups = [
        {"params": some, "lr": own, "peak": own, "weight_decay": decay / own}
        for some, own in ((biases, BIAS * rate), (others, rate), ([net.whiten.bias], rate))
    ]
    return torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM, nesterov=True)


def train(net: Speednet, images: Tensor, labels: Tensor, length: float, batch: int) -> None:
    generator = torch.Generator().manual_seed(torch.initial_seed())
    net.fit_whitening(images[:5000])
    net = net.to(memory_format=torch.channels_last).train()
    optimiser = optimizer(net, batch)
    an_epoch = len(images) // batch
    total = math.ceil(an_epoch * length)
    average = copy.deepcopy(net.state_dict())
    for step, (views, targets) in enumerate(epochs(images, labels, batch, generator)):
        if step == total:
            break
        share = float(np.interp(step / total, (0, 0.23, 1), (0.2, 1, 0.07)))
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * share
        net.whiten.bias.requires_grad = step < WHITENING_EPOCHS * an_epoch
        with torch.autocast("cpu", torch.bfloat16, HALF):
            logits = net(views)
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=SMOOTHING, reduction="sum")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) % EVERY == 0:
            blend(net, average, KEPT**EVERY * (step / total) ** 3)
        if step % max(an_epoch // 4, 1) == 0:
            print(f"step {step} of {total}: loss {loss.item() / batch:.3f}", file=sys.stderr)
    blend(net, average, 1.0)


def blend(net: nn.Module, average: dict[str, Tensor], kept: float) -> None:
    """Moves the average towards the network, buffers too, and the network onto the average."""
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value.copy_(average[name].lerp_(value, 1 - kept))


def accuracy(net: nn.Module, images: Tensor, labels: Tensor, *, views: bool) -> float:
    net.eval()
    hits = 0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, HALF):
        for some, right in zip(images.split(1000), labels.split(1000), strict=True):
            logits = both_ways(net, some) if views else net(some)
            if views:  # half for the image, half for two diagonal moves by a pixel
                wide = F.pad(some, (1,) * 4, "reflect")
                moved = (wide[:, :, :32, :32], wide[:, :, 2:, 2:])
                logits = logits / 2 + sum(both_ways(net, one) for one in moved) / 4
            hits += int((logits.argmax(1) == right).sum())
    return hits / len(labels)


def both_ways(net: nn.Module, images: Tensor) -> Tensor:
    return (net(images).float() + net(images.flip(-1)).float()) / 2


def main() -> None:
    parser = contest.options(__doc__)
    parser.add_argument("--epochs", type=float, default=8.0)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--images", type=int, metavar="N", help="images per set, for a quick test")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    arrays = contest.cifar(args.data, args.images)
    images, test = normalised(arrays["x_train"]), normalised(arrays["x_test"])
    labels, right = (torch.from_numpy(arrays[name]) for name in ("y_train", "y_test"))
    torch.manual_seed(args.seed)
    net = Speednet()
    begun = time.perf_counter()
    train(net, images, labels, args.epochs, args.batch)
    seconds = time.perf_counter() - begun
    plain, seen = (accuracy(net, test, right, views=views) for views in (False, True))
    print(json.dumps({"seconds": seconds, "accuracy": plain, "with_views": seen, "bf16": HALF}))


if __name__ == "__main__":
    main()
