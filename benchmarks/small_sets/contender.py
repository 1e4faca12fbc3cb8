"""One cell of the contest: a contender trains on a split, then labels the test images.

PYTHON -m small_sets.contender NAME --split DIR --test DIR --base FILE --size PIXELS --seconds S \
    --seed N [--no-flips] --out FILE.json

Runs in a process of its own, with the contender's interpreter. The seconds count from the start of
the process to the end of the training; the test images are labelled after that. Contenders whose
length is a number of epochs time a short run first, and train as many epochs as then fit, but no
more than `most_epochs`.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import suppress  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from PIL import Image  # noqa: E402
from torch import Tensor, nn  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SPARE = 0.9  # of the time that is left, which the epochs are to fill
KEPT: list[Any] = []  # the library of operators, which must live on


@dataclass(frozen=True, slots=True)
class Cell:
    """What a contender gets."""

    split: Path  # train/CLASS and val/CLASS
    test: Path  # CLASS
    base: Path  # weights of torchvision's resnet18, for five other classes
    size: int
    seconds: float
    seed: int
    flips: bool

    @property
    def classes(self) -> list[str]:
        return sorted(path.name for path in (self.split / "train").iterdir())

    @property
    def count(self) -> int:
        return sum(1 for _ in self.split.glob("train/*/*"))

    @property
    def batch(self) -> int:
        """An eighth of the images, at most 64: for all contenders the same."""
        return max(4, min(64, self.count // 8))

    @property
    def left(self) -> float:
        return self.seconds - (time.perf_counter() - STARTED)

    @property
    def most_epochs(self) -> int:
        """40, or as many as give 300 steps: for all contenders the same."""
        return max(40, -(-300 * self.batch // self.count))

    def fitting(self, epoch: float) -> int:
        """Returns the epochs of `epoch` seconds each that fit, 1 to `most_epochs`."""
        return max(1, min(self.most_epochs, int(SPARE * self.left / epoch)))


def add_torchvision_operators() -> None:
    """Declares what `import torchvision` expects, where its C++ part is missing."""
    KEPT.append(torch.library.Library("torchvision", "FRAGMENT"))
    for name in ("nms", "qnms"):
        with suppress(RuntimeError):  # it is there
            KEPT[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def base_network(cell: Cell) -> nn.Module:
    """Returns torchvision's ResNet-18 with the base weights, their five logits included."""
    from torchvision.models import resnet18

    network = resnet18(num_classes=5)
    network.load_state_dict(torch.load(cell.base, weights_only=True))
    return network


def files(folder: Path, classes: list[str]) -> Iterator[tuple[Path, int]]:
    for label, name in enumerate(classes):
        for path in sorted((folder / name).iterdir()):
            yield path, label


def centre(path: Path, size: int) -> Tensor:
    """Returns the centre crop, normalised: [3, size, size]; a margin of an eighth is cut off."""
    image = Image.open(path).convert("RGB")
    side = size * 8 // 7 if min(image.size) > size else size
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    pixels = np.asarray(image.crop((left, top, left + size, top + size)), np.float32) / 255
    return torch.from_numpy((pixels - MEAN) / np.array(STD)).permute(2, 0, 1).float()


@torch.no_grad()
def outputs(network: nn.Module, folder: Path, cell: Cell) -> tuple[Tensor, NDArray[np.int64]]:
    """Returns what a network gives for all images of a folder, and their labels."""
    network.eval()
    found = list(files(folder, cell.classes))
    parts = [
        network(torch.stack([centre(path, cell.size) for path, _ in found[start : start + 100]]))
        for start in range(0, len(found), 100)
    ]
    return torch.cat(parts), np.array([label for _, label in found])


def accuracy(network: nn.Module, cell: Cell) -> float:
    logits, labels = outputs(network, cell.test, cell)
    return float((logits.argmax(1).numpy() == labels).mean())


Scored = Callable[[], float]  # labels the test images, after the clock has stopped


def forebear_auto(cell: Cell) -> Scored:
    """`forebear train --recipe auto --budget S --weights BASE --partial`."""
    import forebear

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        forebear.train(
            forebear.TrainConfig(
                data=f"folder:{cell.split}", recipe="auto", weights=cell.base, partial=True,
                budget=cell.seconds, size=cell.size, seed=cell.seed, out=out, started=STARTED,
                network="torchvision/resnet18", mirror=None if cell.flips else False,
                threads=torch.get_num_threads(),
            )
        )  # fmt: skip
        network = forebear.load(out / "model.safetensors")
    assert sorted(network.card.classes) == list(network.card.classes) == cell.classes
    return lambda: accuracy(network, cell)


def probe(cell: Cell) -> Scored:
    """scikit-learn's LogisticRegression, with its defaults, on the features of the base."""
    from sklearn.linear_model import LogisticRegression

    network = base_network(cell)
    network.fc = nn.Identity()
    features, labels = outputs(network, cell.split / "train", cell)
    found = LogisticRegression(max_iter=1000).fit(features.numpy(), labels)

    def score() -> float:
        values, right = outputs(network, cell.test, cell)
        return float((found.predict(values.numpy()) == right).mean())

    return score


def fastai(cell: Cell) -> Scored:
    """`vision_learner(dls, resnet18).fine_tune(epochs)` with its defaults and `aug_transforms`."""
    from fastai.vision import all as vision
    from fastai.vision.learner import model_meta
    from torchvision.models import resnet18

    def network(weights: object = None) -> nn.Module:
        return base_network(cell)

    model_meta[network] = model_meta[resnet18]
    vision.set_seed(cell.seed)
    larger = max(cell.size * 8 // 7, cell.size + 8)
    loaders = vision.ImageDataLoaders.from_folder(
        cell.split, train="train", valid="val", bs=cell.batch, num_workers=0,
        item_tfms=vision.Resize(larger),
        batch_tfms=vision.aug_transforms(size=cell.size, do_flip=cell.flips),
    )  # fmt: skip

    def learner() -> Any:
        return vision.vision_learner(loaders, network)

    timed, learn = learner(), learner()
    timed.unfreeze()
    with timed.no_bar(), timed.no_logging():
        timed.fit(1)  # warms up
        started = time.perf_counter()
        timed.fit(1)
        epoch = time.perf_counter() - started
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(max(1, cell.fitting(epoch) - 1))  # and one of the head alone

    def score() -> float:
        found = list(files(cell.test, cell.classes))
        test = loaders.test_dl([path for path, _ in found])
        with learn.no_bar(), learn.no_logging():
            scores, _ = learn.get_preds(dl=test)
        assert list(loaders.vocab) == cell.classes
        return float((scores.argmax(1).numpy() == [label for _, label in found]).mean())

    return score


def ultralytics(cell: Cell) -> Scored:
    """Its classification trainer with its defaults, and its own ResNet-18 with the base weights."""
    import ultralytics as package
    from ultralytics.models.yolo.classify import ClassificationTrainer
    from ultralytics.nn.tasks import ClassificationModel

    folder = Path(package.__file__).parent / "cfg" / "models" / "11" / "yolo11-cls-resnet18.yaml"
    epochs: list[float] = []

    class Trainer(ClassificationTrainer):  # type: ignore[misc]
        def setup_model(self) -> None:
            from ultralytics.nn.tasks import yaml_model_load

            table = yaml_model_load(folder)
            table["backbone"][0][3][2] = None  # no download of ImageNet's weights
            self.model = ClassificationModel(table, nc=self.data["nc"], verbose=False)
            body = list(base_network(cell).children())[:-2]
            self.model.model[0].m.load_state_dict(nn.Sequential(*body).state_dict())
            for weight in self.model.parameters():
                weight.requires_grad = True

        def final_eval(self) -> None:
            """Leaves out the evaluation of best.pt, which `val` would have chosen."""

    with tempfile.TemporaryDirectory() as out:

        def trainer(length: int) -> Any:
            given = {
                "data": str(cell.split), "epochs": length, "imgsz": cell.size, "device": "cpu",
                "batch": cell.batch, "workers": 0, "seed": cell.seed, "project": out,
                "plots": False, "verbose": False, "exist_ok": True, "save": False,
                "fliplr": 0.5 if cell.flips else 0.0, "amp": False, "model": "resnet18.yaml",
            }  # fmt: skip
            return Trainer(overrides=given)

        first = trainer(2)
        first.add_callback("on_train_epoch_end", lambda _: epochs.append(time.perf_counter()))
        first.train()
        last = trainer(cell.fitting(epochs[1] - epochs[0]))
        last.train()
    network = last.ema.ema.float().eval()

    def score() -> float:
        from ultralytics.data.augment import classify_transforms

        change = classify_transforms(size=cell.size)
        found = list(files(cell.test, cell.classes))
        hits = 0
        with torch.no_grad():
            for start in range(0, len(found), 100):
                part = found[start : start + 100]
                images = torch.stack([change(Image.open(p).convert("RGB")) for p, _ in part])
                scores = network(images)
                scores = scores[0] if isinstance(scores, tuple) else scores
                hits += int((scores.argmax(1).numpy() == [label for _, label in part]).sum())
        assert [last.data["names"][n] for n in range(len(cell.classes))] == cell.classes
        return hits / len(found)

    return score


def timm(cell: Cell) -> Scored:
    """`train.py DIR --model resnet18 --pretrained --num-classes N`, through timm's API.

    The script is not in the wheel. These are its defaults in 1.0: SGD with momentum 0.9 and weight
    decay 2e-5, a learning rate of 0.1 for 256 images, five epochs of warm-up from 1e-5, a cosine,
    label smoothing 0.1, crops of 8 to 100 % of the area, flips, colour jitter 0.4.
    """
    import timm as package
    from timm.data import create_transform
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2

    torch.manual_seed(cell.seed)
    network = package.create_model("resnet18", num_classes=len(cell.classes))
    weights = torch.load(cell.base, weights_only=True)
    network.load_state_dict({k: v for k, v in weights.items() if "fc" not in k}, strict=False)
    change = create_transform(
        cell.size, is_training=True, hflip=0.5 if cell.flips else 0.0, mean=MEAN, std=STD
    )
    found = list(files(cell.split / "train", cell.classes))
    pictures = [(Image.open(path).convert("RGB"), label) for path, label in found]
    criterion = LabelSmoothingCrossEntropy(0.1)
    lr = 0.1 * cell.batch / 256

    def optimiser(model: nn.Module) -> Any:
        return create_optimizer_v2(model, opt="sgd", lr=lr, momentum=0.9, weight_decay=2e-5)

    def epoch(model: nn.Module, optimizer: Any) -> None:
        model.train()
        order = torch.randperm(len(pictures)).tolist()
        for start in range(0, len(order) - cell.batch + 1, cell.batch):  # drop_last, as there
            part = [pictures[n] for n in order[start : start + cell.batch]]
            images = torch.stack([change(image) for image, _ in part])
            labels = torch.tensor([label for _, label in part])
            optimizer.zero_grad()
            criterion(model(images), labels).backward()
            optimizer.step()

    timed = package.create_model("resnet18", num_classes=len(cell.classes))
    epoch(timed, optimiser(timed))
    started = time.perf_counter()
    epoch(timed, optimiser(timed))
    epochs = cell.fitting(time.perf_counter() - started)
    optimizer = optimiser(network)
    schedule, _ = create_scheduler_v2(
        optimizer, sched="cosine", num_epochs=epochs, warmup_epochs=min(5, epochs // 4),
        warmup_lr=1e-5, min_lr=0.0,
    )  # fmt: skip
    for number in range(epochs):
        epoch(network, optimizer)
        schedule.step(number + 1)
    return lambda: accuracy(network, cell)


CONTENDERS: dict[str, Callable[[Cell], Scored]] = {
    "forebear": forebear_auto,
    "probe": probe,
    "fastai": fastai,
    "ultralytics": ultralytics,
    "timm": timm,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(CONTENDERS))
    for flag in ("split", "test", "base", "out"):
        parser.add_argument(f"--{flag}", type=Path, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-flips", action="store_true")
    args = parser.parse_args()
    os.environ["YOLO_OFFLINE"] = "true"
    torch.set_num_threads(args.threads)
    if args.name != "forebear":
        add_torchvision_operators()
    cell = Cell(
        args.split, args.test, args.base, args.size, args.seconds, args.seed, not args.no_flips
    )
    score = CONTENDERS[args.name](cell)
    taken = time.perf_counter() - STARTED
    args.out.write_text(json.dumps({"accuracy": score(), "seconds": round(taken, 1)}))


if __name__ == "__main__":
    main()
