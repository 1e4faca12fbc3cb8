"""On a GPU: ResNet-50's training steps beside torchvision's and timm's, and CIFAR-10 by recipe.

    python benchmarks/gpu.py [--only steps cifar] [--batch 256] [--rounds 5] [--seconds 3]
    python benchmarks/gpu.py --device cpu --batch 2 --side 64 --rounds 1 --eager --only steps

The second line tries the script where there is no GPU. Steps are taken in one process, turn about,
round after round, on one batch that lies on the device, in bf16 autocast and channels_last, each
as it is, compiled by torch.compile, and forebear's in CUDA graphs too. Nothing waits for the
device within a round. Images of CIFAR-10 are those of the JPEG edition.

Writes results/gpu_steps.md after every round, and results/gpu_cifar.md after every recipe. On an
H100 compiling the four networks takes more than two minutes, and cifar-modern 210 s.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import contest
import torch
from step_speed import CASES, Case, timm_network, torchvision_network
from torch import Tensor, nn

import forebear
from forebear.tasks.machine.device import device_name
from forebear.tasks.machine.distributed import ALONE
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.step import Mode, Stepper

CASE = CASES["resnet50"]
# He et al. 2015, section 3.4.
RECIPE = Recipe(lr=0.1, weight_decay=1e-4, schedule="constant", epochs=1, precision="bf16")
WAYS = {"off": "as it is", "on": "torch.compile", "graphs": "torch.compile, CUDA graphs"}
WARM = 5  # steps that are not counted: compiling, and recording graphs
RECIPES = ("cifar-fast", "cifar-modern")
Step = Callable[[], object]


def main() -> None:
    parser = contest.options(__doc__)
    parser.add_argument("--only", nargs="+", choices=("steps", "cifar"), default=["steps", "cifar"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=256, help="images of a step")
    parser.add_argument("--side", type=int, default=CASE.side, help="of an image, in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a round, at least")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    args = parser.parse_args()
    if args.device != "cpu" and not torch.cuda.is_available():
        parser.error("there is no GPU that torch can use: --device cpu tries the script alone")
    if "steps" in args.only:
        steps(args)
    if "cifar" in args.only:
        cifar(args)


def steps(args: argparse.Namespace) -> None:
    """The contest of steps, as a page."""
    device = torch.device(args.device)
    case = replace(CASE, batch=args.batch, side=args.side)
    ways: list[Mode] = ["off"] if args.eager else ["off", "on"]
    contestants: dict[str, Step] = {}
    for way in ways:
        for name, network in (
            ("torchvision", torchvision_network(case)),
            ("timm", timm_network(case)),
        ):
            assert isinstance(network, nn.Module)
            contestants[f"{name}, {WAYS[way]}"] = peer(network, case, device, way)
    for way in ways if args.eager or device.type == "cpu" else [*ways, "graphs"]:
        contestants[f"forebear, {WAYS[way]}"] = ours(case, device, way)
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for name, step in contestants.items():
        started = synchronised(device)
        for _ in range(WARM):
            step()
        print(f"{name}: ready after {synchronised(device) - started:.0f} s", flush=True)
    for number in range(1, args.rounds + 1):
        for name, step in contestants.items():
            found[name].append(images_per_second(step, case.batch, device, args.seconds))
        publish_steps(args, case, number, found)


def publish_steps(
    args: argparse.Namespace, case: Case, rounds: int, found: dict[str, list[float]]
) -> None:
    """Writes the page of the steps."""
    device = torch.device(args.device)
    contest.publish(
        args.out / "gpu_steps.md",
        "Training steps on a GPU" if device.type == "cuda" else "Training steps",
        f"ResNet-50 on {case.batch} random images of {case.side} x {case.side} pixels on "
        f"{device_name(device)}: medians of {rounds} interleaved rounds of at least "
        f"{args.seconds:g} s after {WARM} steps that are not counted; bf16 autocast, "
        "channels_last, SGD with momentum and decay. NVIDIA's own figure for one A100 is 2,470 "
        "images/s.",
        table(found),
    )


def peer(network: nn.Module, case: Case, device: torch.device, way: Mode) -> Step:
    """A step of a peer's network: forward, loss, backward, torch's SGD as it chooses itself."""
    network = network.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    model = network if way == "off" else torch.compile(network)
    optimizer = torch.optim.SGD(
        network.parameters(), RECIPE.lr, RECIPE.momentum, weight_decay=RECIPE.weight_decay
    )
    criterion = nn.CrossEntropyLoss()
    images, labels = batch(case, device)

    def step() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def ours(case: Case, device: torch.device, way: Mode) -> Step:
    """A step of forebear train."""
    network = forebear.create(case.forebear, num_classes=case.classes).train().to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    recipe = replace(RECIPE, batch=case.batch, size=case.side)
    stepper = Stepper(network, network, recipe, device, ALONE, mode=way)
    images, labels = batch(case, device)
    return lambda: stepper(images, labels, labels, total=case.batch, share=1.0)


def batch(case: Case, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images [n, 3, side, side] and labels [n], random, there."""
    images = torch.randn(case.batch, 3, case.side, case.side, device=device)
    labels = torch.randint(case.classes, (case.batch,), device=device)
    return images.to(memory_format=torch.channels_last), labels


def images_per_second(step: Step, count: int, device: torch.device, seconds: float) -> float:
    """Of steps of `count` images; the device is waited for at both ends alone."""
    begun = synchronised(device)
    images = 0
    while True:
        for _ in range(10 if device.type == "cuda" else 1):
            step()
            images += count
        now = synchronised(device)
        if now - begun >= seconds:
            return images / (now - begun)


def synchronised(device: torch.device) -> float:
    """time.perf_counter() once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def table(found: dict[str, list[float]]) -> list[str]:
    medians = {name: statistics.median(values) for name, values in found.items()}
    best = max(value for name, value in medians.items() if not name.startswith("forebear"))
    lines = ["| | images/s | range | to the best peer |", "|---|---|---|---|"]
    for name in sorted(medians, key=lambda name: medians[name]):
        low, high = min(found[name]), max(found[name])
        lines.append(
            f"| {name} | {medians[name]:,.0f} | {low:,.0f} to {high:,.0f} "
            f"| {medians[name] / best:.2f} |"
        )
    return lines


def cifar(args: argparse.Namespace) -> None:
    """CIFAR-10 by its recipes at their own lengths, as a page."""
    rows = [
        "| recipe | epochs | seconds of training | of the whole process | accuracy, one view |",
        "|---|---|---|---|---|",
    ]
    data = f"parquet:{args.data / 'cifar10-jpeg'}"
    for name in RECIPES:
        words = ("--data", data, "--recipe", name, "--device", args.device)
        done = contest.train(f"gpu/{name}", *words)
        rows.append(
            f"| {name} | {done.epochs:g} | {done.metrics[-1]['seconds']:.1f} | {done.seconds:.1f} "
            f"| {done.accuracy:.2%} |"
        )
        publish_cifar(args, rows)


def publish_cifar(args: argparse.Namespace, rows: list[str]) -> None:
    """Writes the page of CIFAR-10."""
    contest.publish(
        args.out / "gpu_cifar.md",
        "CIFAR-10 on a GPU",
        f"On {device_name(torch.device(args.device))}. Seconds of training begin with the first "
        "step and have every evaluation in them, no warm-up run before; the whole process reads "
        "and writes too. The JPEG edition costs accuracy. Published on the original images, "
        "warm-up left out, with test-time views, on one A100: 94 % in 2.6 s (airbench94_muon) and "
        "95.9 % in 167 s (cifar-modern's network and figures).",
        rows,
    )


if __name__ == "__main__":
    main()
