"""Times one training step of forebear and of its peers, on the same data, on this machine's CPU.

    python benchmarks/step_speed.py [--rounds 5] [--only NAME ...] [--keras PYTHON]
                                    [--not-compiled] [--seconds 2]

Needs torchvision and timm beside forebear, and for Keras an interpreter with keras and tensorflow
(--keras; left out, Keras is not timed). Contestants take turns, round after round: the torch peers
in one process; forebear in a second one, because memory once kept cannot be given up again; Keras
in a third, because TensorFlow's threads and torch's would fight. The others wait meanwhile. Then
each is built in a process of its own, which takes three steps and reports its memory.

Writes benchmarks/results/step_speed.md: medians over the rounds, each at least --seconds long after
one step that is not counted. The page has a section for each kind of processor. A later run on the
same kind replaces the networks that it measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "step_speed.md"
RATE, MOMENTUM, DECAY = 0.01, 0.9, 1e-4
# Together they make a processor with AVX-512 compute as one with AVX2 alone.
LOWER = ("FOREBEAR_CPU", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")


@dataclass(frozen=True, slots=True)
class Case:
    title: str
    forebear: str  # names of the same network at each contestant's; "" where it has none
    torchvision: str
    timm: str
    keras: str
    side: int
    batch: int
    classes: int


# fmt: off
CASES = {
    "resnet18": Case("resnet18, 7x7 root", "torchvision/resnet18", "resnet18", "resnet18", "resnet18", 32, 128, 10),  # noqa: E501
    "resnet18_cifar": Case("resnet18, CIFAR root", "paper/resnet18_cifar", "resnet18*", "resnet18*", "resnet18*", 32, 128, 10),  # noqa: E501
    "resnet50": Case("resnet50", "torchvision/resnet50", "resnet50", "resnet50", "resnet50", 224, 16, 1000),  # noqa: E501
    "resnext50": Case("resnext50_32x4d", "torchvision/resnext50_32x4d", "resnext50_32x4d", "resnext50_32x4d", "", 224, 16, 1000),  # noqa: E501
    "alexnet_v2": Case("alexnet_v2", "slim/alexnet_v2", "alexnet", "", "alexnet", 224, 64, 1000),
}
# fmt: on
TORCH_PEERS = {
    "torchvision": "torchvision, its reference loop: fp32, NCHW",
    "torchvision_bf16": "torchvision, channels_last, its fastest precision",
    "timm": "timm, its SGD, channels_last, its fastest precision",
    "plain": "forebear's network, not accelerated, channels_last",
}
COMPILED = {"compiled": "the same by torch.compile"}
TITLE = """# Training steps on a CPU

One section for each kind of processor, as `forebear doctor` names its level. Medians of interleaved
rounds, each after a step that is not counted. forebear (channels_last, accelerate, keep_memory,
torch's fused SGD) runs in a process of its own, turn about with the peers', since memory once kept
cannot be given up again. A step has 6 FLOP for each multiply-add of the forward pass. Keras has a
random batch of its own. torchvision and timm have no alexnet_v2: torchvision's smaller alexnet
stands for it. Memory is what a process of its own takes for three steps, above what it has after
its imports.
"""
NAMES = {
    **TORCH_PEERS,
    **COMPILED,
    "keras": "Keras fit on TensorFlow, fp32",
    "forebear": "forebear",
}
Step = Callable[[], float]


def torchvision_network(case: Case) -> object:
    import torch

    if torch.version.cuda is None:  # torchvision's C++ part needs torch's CUDA build
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

    network = getattr(torchvision.models, case.torchvision.rstrip("*"))(num_classes=case.classes)
    return with_cifar_root(network) if case.torchvision.endswith("*") else network


def timm_network(case: Case) -> object:
    torchvision_network(case)  # timm imports torchvision
    import timm

    network = timm.create_model(case.timm.rstrip("*"), num_classes=case.classes)
    return with_cifar_root(network) if case.timm.endswith("*") else network


def with_cifar_root(network: object) -> object:
    from torch import nn

    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)  # type: ignore[attr-defined]
    network.maxpool = nn.Identity()  # type: ignore[attr-defined]
    return network


def torch_step(contestant: str, case: Case) -> Step | None:
    """One step: forward, loss, backward, SGD with momentum; as each one's own loop has it."""
    import torch
    from torch import nn

    from forebear.tasks.machine.device import has_bf16

    if contestant.startswith("torchvision"):
        network, images, labels = torchvision_network(case), *torch_data(case)
    elif contestant == "timm":
        if not case.timm:
            return None
        network, images, labels = timm_network(case), *torch_data(case)
    else:
        network = forebear_network(case, fast=contestant == "forebear")
        images, labels = torch_data(case)
    assert isinstance(network, nn.Module)
    network.train()
    lasts = contestant != "torchvision"
    half = lasts and has_bf16(torch.device("cpu"))
    if lasts:
        network = network.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    model = torch.compile(network) if contestant == "compiled" else network
    fused = True if contestant == "forebear" else None  # the others leave it to torch
    nesterov = contestant == "timm"  # its --opt sgd
    optimizer = torch.optim.SGD(
        network.parameters(), RATE, MOMENTUM, weight_decay=DECAY, nesterov=nesterov, fused=fused
    )
    criterion = nn.CrossEntropyLoss()

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def torch_data(case: Case) -> tuple[object, object]:
    import torch

    generator = torch.Generator().manual_seed(0)
    images = torch.randn(case.batch, 3, case.side, case.side, generator=generator)
    return images, torch.randint(0, case.classes, (case.batch,), generator=generator)


def forebear_network(case: Case, *, fast: bool) -> object:
    import forebear
    from forebear.network.accelerate import accelerate
    from forebear.tasks.machine.allocator import keep_memory

    network = forebear.create(case.forebear, num_classes=case.classes)
    if fast:
        keep_memory()
        print(f"forebear: {accelerate(network)}", file=sys.stderr)
    return network


def keras_step(case: Case) -> Step | None:
    if not case.keras:
        return None
    import keras
    import numpy as np

    generator = np.random.default_rng(0)
    steps = 8 if case.side == 32 else 2
    images = generator.standard_normal((steps * case.batch, case.side, case.side, 3), "float32")
    labels = generator.integers(0, case.classes, steps * case.batch)
    network = keras_network(case)
    network.compile(
        keras.optimizers.SGD(RATE, momentum=MOMENTUM, weight_decay=DECAY),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )

    def step() -> float:  # an epoch of so many steps: fit has costs of its own
        done = network.fit(images, labels, case.batch, 1, verbose=0, shuffle=False)
        return float(done.history["loss"][0])

    step.steps = steps  # type: ignore[attr-defined]
    return step


def keras_network(case: Case):  # type: ignore[no-untyped-def]
    """Keras Applications' ResNet50, and written in its manner what it lacks."""
    import keras
    from keras import layers

    if case.keras == "resnet50":
        return keras.applications.ResNet50(
            weights=None, classes=case.classes, classifier_activation=None
        )
    entry = x = layers.Input((case.side, case.side, 3))
    if case.keras == "alexnet":
        for filters, kernel, stride, padding, pools in (
            *((64, 11, 4, "valid", True), (192, 5, 1, "same", True)),
            *((384, 3, 1, "same", False), (384, 3, 1, "same", False), (256, 3, 1, "same", True)),
        ):
            x = layers.Conv2D(filters, kernel, stride, padding, activation="relu")(x)
            x = layers.MaxPooling2D(3, 2)(x) if pools else x
        for kernel in (5, 1):
            x = layers.Dropout(0.5)(layers.Conv2D(4096, kernel, activation="relu")(x))
        return keras.Model(entry, layers.Flatten()(layers.Conv2D(case.classes, 1)(x)))

    def conv(x, filters, kernel, stride):  # type: ignore[no-untyped-def]
        x = layers.Conv2D(filters, kernel, stride, "same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    if case.keras.endswith("*"):
        x = layers.ReLU()(conv(x, 64, 3, 1))
    else:
        x = layers.MaxPooling2D(3, 2, "same")(layers.ReLU()(conv(x, 64, 7, 2)))
    for filters, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first, 1):
            y = conv(layers.ReLU()(conv(x, filters, 3, stride)), filters, 3, 1)
            x = x if stride == 1 else conv(x, filters, 1, stride)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(entry, layers.Dense(case.classes)(x))


def memory(name: str, case: Case) -> None:
    """A process of one contestant: its memory in MiB, and the seconds of its first step."""
    if name == "keras":
        import keras  # noqa: F401
    else:
        import torch._dynamo  # noqa: F401

        import forebear.tasks.train.api  # noqa: F401

        if case.torchvision:
            torchvision_network(case)  # imports torchvision
    before = _status("VmRSS")
    step = keras_step(case) if name == "keras" else torch_step(name, case)
    assert step is not None
    started = time.perf_counter()
    step()
    first = time.perf_counter() - started
    step()
    step()
    print(json.dumps([(_status("VmHWM") - before) / 1024, first]), flush=True)


def _status(name: str) -> int:
    """KiB of this process, by a name of Linux's /proc/self/status."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def serve(contestants: list[str], case: Case, seconds: float) -> None:
    """A contestants' process: for each name that comes in, a line of ms per image goes out."""
    steps: dict[str, Step | None] = {}
    for name in contestants:
        steps[name] = keras_step(case) if name == "keras" else torch_step(name, case)
        ready = steps[name]
        for _ in range(3 if ready else 0):
            ready()
    print(json.dumps([name for name, step in steps.items() if step]), flush=True)
    for line in sys.stdin:
        step = steps[line.strip()]
        assert step is not None
        step()  # not counted: whoever has waited finds its caches and its processor cold
        images, started = 0, time.perf_counter()
        while images == 0 or time.perf_counter() - started < seconds:
            step()
            images += case.batch * getattr(step, "steps", 1)
        print(json.dumps(1e3 * (time.perf_counter() - started) / images), flush=True)


class Process:
    """Contestants that share a process, and wait until they are asked."""

    def __init__(self, python: str, contestants: list[str], key: str, seconds: float) -> None:
        words = [python, __file__, "--only", key]
        words += ["--seconds", str(seconds), "--serve", *contestants]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.contestants: list[str] = self._line()

    @classmethod
    def memory(cls, python: str, contestant: str, key: str) -> list[float]:
        """The memory of a contestant in MiB, and the seconds of its first step."""
        words = [python, __file__, "--only", key, "--memory", contestant]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        found: list[float] = json.loads(done.stdout.splitlines()[-1])
        return found

    def _line(self):  # type: ignore[no-untyped-def]
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("[") or line[:1].isdigit():
                return json.loads(line)
        raise SystemExit(f"{self.process.args} ended early")

    def time(self, contestant: str) -> float:
        assert self.process.stdin is not None
        print(contestant, file=self.process.stdin, flush=True)
        return float(self._line())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@dataclass
class Found:
    """What was measured of a contestant."""

    times: list[float]  # milliseconds per image, round by round
    memory: float = 0.0  # MiB
    first: float = 0.0  # seconds of the first step


def contest(key: str, options: argparse.Namespace) -> dict[str, Found]:
    peers = [*TORCH_PEERS, *(() if options.not_compiled else COMPILED)]
    groups = [(sys.executable, peers), (sys.executable, ["forebear"])]
    if options.keras:
        groups.append((options.keras, ["keras"]))
    processes = [Process(python, names, key, options.seconds) for python, names in groups]
    found: dict[str, Found] = {}
    for _ in range(options.rounds):
        for process in processes:
            for name in process.contestants:
                found.setdefault(name, Found([])).times.append(process.time(name))
    for process in processes:
        process.close()
    for name, one in found.items():
        python = options.keras if name == "keras" else sys.executable
        one.memory, one.first = Process.memory(python, name, key)
    return found


def peak(seconds: float = 2.0) -> float:
    """GFLOP/s of large products and convolutions, on all threads: the best seen.

    They are computed in the precision that this processor multiplies fastest.
    """
    import torch

    from forebear.tasks.machine.device import fastest_dtype

    dtype = fastest_dtype(torch.device("cpu"))

    best = 0.0
    for side in (1024, 2048, 4096):
        a, b = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)
        images = torch.randn(32, 256, 28, 28).to(dtype, memory_format=torch.channels_last)
        kernel = torch.randn(256, 256, 3, 3).to(dtype, memory_format=torch.channels_last)
        for work, flops in (
            (lambda a=a, b=b: a @ b, 2 * side**3),
            (lambda x=images, k=kernel: torch.conv2d(x, k), 2 * 32 * 26 * 26 * 256 * 256 * 9),
        ):
            work()
            started, until = time.perf_counter(), time.perf_counter() + seconds / 6
            while started < until:
                work()
                now = time.perf_counter()
                best, started = max(best, flops / (now - started) / 1e9), now
    return best


def operations(case: Case) -> float:
    """GFLOP of one image's step: forward, and two products as large on the way back."""
    import forebear
    from forebear.network.plan.cost import measure

    network = forebear.create(case.forebear, num_classes=case.classes)
    rows = measure(network.plan, case.side)
    return 6 * sum(row.multiply_adds for row in rows if row.kind != "unit") / 1e9


def table(case: Case, found: dict[str, Found], top: float) -> str:
    medians = {name: statistics.median(one.times) for name, one in found.items()}
    best = min(value for name, value in medians.items() if name != "forebear")
    lines = [
        f"### {case.title}, {case.side} x {case.side}, batch {case.batch}",
        "",
        "| | ms per image | range | GFLOP/s | of the peak | forebear is faster by | memory, MiB "
        "| first step, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    work = operations(case)
    for name in sorted(medians, key=lambda name: -medians[name]):
        ms, one = medians[name], found[name]
        rate = 1e3 * work / ms
        mark = " (best peer)" if ms == best else ""
        lines.append(
            f"| {NAMES[name]}{mark} | {ms:.3f} | {min(one.times):.3f} to {max(one.times):.3f} "
            f"| {rate:.0f} | {rate / top:.0%} | {ms / medians['forebear']:.2f} "
            f"| {one.memory:.0f} | {one.first:.1f} |"
        )
    return "\n".join(lines) + "\n"


def with_section(page: str, kind: str, preface: str, tables: dict[str, str]) -> str:
    """The page with the tables of a kind of processor; its other tables stay as they are.

    A section begins with "## KIND", a table in it with "### TITLE".
    """
    sections = {
        one.partition("\n")[0]: one for one in re.split(r"^(?=## )", page, flags=re.MULTILINE)[1:]
    }
    head = f"## {kind}"
    parts = re.split(r"^(?=### )", sections.get(head, ""), flags=re.MULTILINE)[1:]
    kept = {one.partition("\n")[0]: one.strip() + "\n" for one in parts}
    kept |= {one.partition("\n")[0]: f"{one.strip()}\n\n{preface}\n" for one in tables.values()}
    sections[head] = "\n".join([head + "\n", *kept.values()])
    return "\n".join([TITLE, *(sections[one].strip() + "\n" for one in sorted(sections))])


def machine() -> str:
    from forebear.hardware import processor

    found = processor()
    return f"{found}, {found.cores} cores, {platform.system()} {platform.release()}"


def versions(keras_python: str | None) -> str:
    import forebear

    found = [f"forebear {forebear.__version__}"]
    for name in ("torch", "torchvision", "timm"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} of unknown version")
    if keras_python:
        program = """
import importlib.metadata as metadata
for name in ("keras", "tensorflow", "tensorflow-cpu"):
    try:
        print(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        print(name, "missing")
"""
        done = subprocess.run(
            [keras_python, "-c", program], capture_output=True, text=True, check=True
        )
        found += done.stdout.splitlines()
    return ", ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a round, at least")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--not-compiled", action="store_true", help="leave torch.compile out")
    parser.add_argument("--keras", help="an interpreter with keras and tensorflow")
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    from forebear.hardware import processor

    if options.serve:
        serve(options.serve, CASES[options.only[0]], options.seconds)
        return
    if options.memory:
        memory(options.memory, CASES[options.only[0]])
        return
    top, precision = peak(), "bf16" if processor().bf16 else "fp32"
    lower = "".join(f"{name}={os.environ[name]} " for name in LOWER if name in os.environ)
    preface = (
        f"`{lower}python benchmarks/step_speed.py --rounds {options.rounds} --seconds "
        f"{options.seconds:g}{' --keras PYTHON' if options.keras else ''}` on "
        f"{time.strftime('%Y-%m-%d')}: {machine()}; Python {platform.python_version()}, "
        f"{versions(options.keras)}. The fastest precision here is {precision}; its measured peak "
        f"is {top:.0f} GFLOP/s."
    )
    for key in options.only:
        made = table(CASES[key], contest(key, options), top)
        print(made, flush=True)
        page = RESULTS.read_text(encoding="utf-8") if RESULTS.is_file() else ""
        page = with_section(page, processor().kind, preface, {key: made})
        RESULTS.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
