"""Imagenette at 128 pixels: epochs against the public leaderboard, minutes against torchvision.

python benchmarks/imagenette.py --epochs 5 --seeds 3
python benchmarks/imagenette.py --epochs 20
python benchmarks/imagenette.py --epochs 5 --runs FOLDER ...
python benchmarks/imagenette.py --budget 10m [--recipe imagenette-20] [--only forebear|torchvision]
                                             [--beside]

Writes results/imagenette-5.md and so on. With --epochs, the recipe of that name is trained from
random weights; no test-time tricks; --runs tabulates runs of it that are done, each on one
processor, as two at once take no longer than one after the other. With --budget, torchvision's
resnet18 is trained by forebear for so long, and by torchvision's reference recipe as people run it
(fp32, NCHW, eager), whose images lie decoded in memory and whose loading is not counted: its
minutes are those of its steps and of one evaluation, and its schedule is fitted to them by timing
its first steps. With --beside both train at once, each on a processor of its own, in half the time.
"""

from __future__ import annotations

import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from itertools import chain, count, pairwise
from pathlib import Path
from typing import Any

import contest
import numpy as np
import torch
from PIL import Image
from step_speed import CASES, torchvision_network
from torch import Tensor, nn

LEADERBOARD = {5: 0.8743, 20: 0.9157}  # fastai/imagenette, README of November 2026
SIDE, RESIZED, BATCH = 128, 146, 64  # pixels; 146 is to 128 as 256 to 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RATE = 0.1 * BATCH / 256  # its command: 8 processes of 32 images at 0.1
TIMED = 8  # steps


def decoded(folder: Path) -> tuple[list[Image.Image], Tensor]:
    """All images of a part in memory, and their classes."""
    files = sorted(folder.glob("*/*"))
    classes = sorted({file.parent.name for file in files})
    labels = torch.tensor([classes.index(file.parent.name) for file in files])
    return [Image.open(file).convert("RGB") for file in files], labels


def tensor(images: list[Image.Image]) -> Tensor:
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    scaled = (pixels / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return scaled.permute(0, 3, 1, 2).contiguous()


def random_part(image: Image.Image) -> Image.Image:
    """RandomResizedCrop at its defaults, and a mirror image by chance."""
    width, height = image.size
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            break
    else:  # the middle, as far as the ratio allows
        w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    x, y = random.randint(0, width - w), random.randint(0, height - h)
    part = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (x, y, x + w, y + h))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else part


def middle(image: Image.Image) -> Image.Image:
    scale = RESIZED / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    x, y = (width - SIDE) // 2, (height - SIDE) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((x, y, x + SIDE, y + SIDE))


class Reference:
    """torchvision's reference loop for one process; seconds add up outside the loading alone."""

    def __init__(self, network: nn.Module, data: Path) -> None:
        self.network = network
        self.images, self.labels = decoded(data / "train")
        self.held_out, self.held_out_labels = decoded(data / "val")
        self.optimizer = torch.optim.SGD(network.parameters(), RATE, 0.9, weight_decay=1e-4)
        self.criterion = nn.CrossEntropyLoss()
        self.seconds: list[float] = []  # of each step

    def epoch_steps(self) -> int:
        return math.ceil(len(self.images) / BATCH)

    def train(self, budget: float) -> int:
        """Steps done until the budget, less what an evaluation needs, is used up."""
        self.network.train()
        evaluation = self.seconds_of_evaluation()
        total = 0  # not known before the first steps have been timed
        orders = (torch.randperm(len(self.images)).split(BATCH) for _ in count())
        for number, taken in enumerate(chain.from_iterable(orders)):
            if number == TIMED:
                step = statistics.median(self.seconds[2:])
                total = number + max(1, int((budget - evaluation - sum(self.seconds)) / step))
                print(f"{total} steps of {step:.3f} s fit", file=sys.stderr)
            if number >= TIMED and number == total:
                return total
            falls = 3 * number // total if total else 0  # as at 30 and 60 of 90 epochs
            self.optimizer.param_groups[0]["lr"] = RATE * 0.1**falls
            loss = self.step(taken)
            if number % 50 == 0:
                print(f"step {number}: loss {loss:.3f}", file=sys.stderr)
        raise AssertionError

    def step(self, taken: Tensor) -> float:
        batch = tensor([random_part(self.images[at]) for at in taken.tolist()])
        begun = time.perf_counter()
        loss = self.criterion(self.network(batch), self.labels[taken])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        found = float(loss.detach())
        self.seconds.append(time.perf_counter() - begun)
        return found

    def seconds_of_evaluation(self, batches: int = 3) -> float:
        some = torch.zeros(BATCH, 3, SIDE, SIDE)
        stamps = [time.perf_counter()]
        with torch.inference_mode():
            for _ in range(batches):
                self.network.eval()(some)
                stamps.append(time.perf_counter())
        self.network.train()
        one = statistics.median(after - before for before, after in pairwise(stamps))
        return one * math.ceil(len(self.held_out) / BATCH)

    def evaluate(self) -> tuple[float, float]:
        """The fraction of validation images classified correctly, and the seconds that it took."""
        self.network.eval()
        hits, seconds = 0, 0.0
        for places in torch.arange(len(self.held_out)).split(BATCH):
            batch = tensor([middle(self.held_out[at]) for at in places.tolist()])
            begun = time.perf_counter()
            with torch.inference_mode():
                hits += int((self.network(batch).argmax(1) == self.held_out_labels[places]).sum())
            seconds += time.perf_counter() - begun
        return hits / len(self.held_out), seconds


def resnet18() -> tuple[Any, str]:
    """torchvision's network, or forebear's of the same function, and whose it is."""
    try:
        return torchvision_network(CASES["resnet18"]), "torchvision's network"
    except ModuleNotFoundError:
        import forebear

        return forebear.create("torchvision/resnet18", num_classes=10), "forebear's network, plain"


def reference(data: Path, budget: float) -> str:
    """A row."""
    torch.manual_seed(0)
    random.seed(0)
    network, whose = resnet18()
    loop = Reference(network, data)
    steps = loop.train(budget)
    share, evaluating = loop.evaluate()
    minutes = (sum(loop.seconds) + evaluating) / 60
    epochs = steps / loop.epoch_steps()
    return (
        f"| torchvision's reference recipe ({whose}) | {epochs:.1f} | {minutes:.1f} | {share:.2%} |"
    )


def against_torchvision(args: Any) -> list[str]:
    from forebear.tasks.train.budget.progress import seconds

    data = args.data / "imagenette"
    if args.row:
        print(json.dumps(reference(data, seconds(args.budget))))
        sys.exit()
    table = ["| | epochs | minutes | accuracy |", "|---|---|---|---|"]
    peer = beside(args) if args.beside else None
    if args.only != "forebear" and peer is None:
        table.append(reference(data, seconds(args.budget)))
    if args.only != "torchvision":
        done = contest.train(
            f"imagenette-{args.budget}",
            *("--data", f"folder:{data}", "--network", "torchvision/resnet18"),
            *("--recipe", args.recipe, "--budget", args.budget),
        )
        what = f"forebear, {args.recipe}, {done.precision}"
        table.append(
            f"| {what} | {done.epochs:.1f} | {done.seconds / 60:.1f} | {done.accuracy:.2%} |"
        )
    if peer is not None:
        table.insert(2, json.loads(peer.communicate()[0].splitlines()[-1]))
    return table


def beside(args: Any) -> subprocess.Popen[str]:
    """The reference recipe at work on the first processor; this process keeps to the second."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    os.environ["OMP_NUM_THREADS"] = "1"
    words = [sys.executable, __file__, "--row", "--budget", args.budget, "--data", str(args.data)]
    os.sched_setaffinity(0, {first})
    peer = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(0, {second})
    torch.set_num_threads(1)
    return peer


def against_leaderboard(args: Any) -> list[str]:
    name = f"imagenette-{args.epochs}"
    table = ["| | seed | minutes | accuracy |", "|---|---|---|---|"]
    if args.epochs in LEADERBOARD:
        table.append(f"| leaderboard | | | {LEADERBOARD[args.epochs]:.2%} |")
    if args.runs:
        runs = [contest.finished(folder) for folder in args.runs]
    else:
        words = ("--data", f"folder:{args.data / 'imagenette'}", "--recipe", args.recipe or name)
        seeds = range(args.seeds)
        runs = [contest.train(f"{name}/seed-{one}", *words, "--seed", one) for one in seeds]
    for done in runs:
        settings = json.loads((done.folder / "settings.json").read_text())
        what = f"forebear, {settings['table']['name']}, {done.epochs:g} epochs, {done.precision}"
        if args.runs:
            what += ", one processor"
        seed = settings["recipe"]["seed"]
        table.append(f"| {what} | {seed} | {done.seconds / 60:.1f} | {done.accuracy:.2%} |")
    if len(runs) > 1:
        shares = [done.accuracy for done in runs]
        mean, spread = statistics.mean(shares), statistics.stdev(shares)
        table.append(f"| mean of {len(runs)} | | | {mean:.2%} ± {100 * spread:.2f} |")
    return table


def main() -> None:
    parser = contest.options(__doc__)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--epochs", type=int, metavar="N")
    length.add_argument("--budget", metavar="TIME", help="10m, 30m, ...")
    parser.add_argument("--seeds", type=int, default=1, metavar="N")
    parser.add_argument("--runs", nargs="+", type=Path, metavar="FOLDER", help="that are done")
    parser.add_argument("--recipe", help="(default: imagenette-N, or imagenette-20 for a budget)")
    parser.add_argument("--only", choices=("forebear", "torchvision"), help="of a budget's two")
    parser.add_argument("--beside", action="store_true", help="both at once, a processor each")
    parser.add_argument("--row", action="store_true", help="(for its own second process)")
    args = parser.parse_args()
    text = (
        "Images of 128 x 128 pixels, random first weights, one view of the 3,925 held-out "
        "images after the last step. forebear's minutes are those of its whole process, decoding "
        "and evaluation in them."
    )
    if args.budget:
        args.recipe = args.recipe or "imagenette-20"
        text += (
            " The reference recipe's are those of its steps and its evaluation alone: SGD 0.9 at "
            f"{RATE:g} for batches of {BATCH} (0.1 for 256), a tenth after each third, weight "
            "decay 1e-4, random parts of 8 to 100 % and mirroring; fp32, NCHW, eager."
        )
        if args.beside:
            text += " Both trained at once, each on one of the processors."
    name = args.budget or str(args.epochs)
    title = f"Imagenette, {args.budget}" if args.budget else f"Imagenette, {name} epochs"
    table = against_torchvision(args) if args.budget else against_leaderboard(args)
    contest.publish(args.out / f"imagenette-{name}.md", title, text, table)


if __name__ == "__main__":
    main()
