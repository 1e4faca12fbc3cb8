"""Contests of inference on a GPU: forebear's torch and compile engines against torchvision.

    python benchmarks/inference_gpu.py [--seconds 3] [--device cuda]

The contenders take turns in one process, CUDA events time each step, and the images are on the GPU
already. forebear's engines take uint8 pixels; torchvision's networks take normalised inputs, eager
and compiled by torch.compile. In fp32, none of them uses TF32, whose logits differ by
4e-4 of the largest one.

Writes results/inference_gpu.md.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import torch

import forebear
from forebear.tasks.compare_speed import rounds, warm_up
from forebear.tasks.machine.device import Precision, device_name
from forebear.tasks.speed_contenders import Conditions, Step, engine_step

RESULTS = Path(__file__).parent / "results" / "inference_gpu.md"
CONTENDERS = ("torch engine", "compile engine", "torchvision", "torchvision, compiled")
ROWS: tuple[tuple[str, int, Precision], ...] = (
    ("torchvision/resnet50", 128, "bf16"),
    ("torchvision/resnet50", 1, "bf16"),
    ("torchvision/resnext50_32x4d", 128, "bf16"),
    ("torchvision/resnet50", 128, "fp32"),
    ("torchvision/resnet18", 128, "bf16"),
    ("torchvision/resnet18", 1, "bf16"),
)


def contest(name: str, conditions: Conditions, seconds: float) -> list[float]:
    """Returns the ms per image of each contender, medians of the rounds."""
    torch.compiler.reset()
    network = forebear.create(name).eval()
    steps = {
        CONTENDERS[0]: engine_step(network, "torch", conditions),
        CONTENDERS[1]: engine_step(network, "compile", conditions),
        CONTENDERS[2]: peer(name, conditions, compiled=False),
        CONTENDERS[3]: peer(name, conditions, compiled=True),
    }
    for step in steps.values():
        warm_up(step, device=conditions.device)
    times = rounds(steps, seconds=seconds, device=conditions.device)
    return [statistics.median(times[one]) / conditions.batch * 1e3 for one in CONTENDERS]


def peer(name: str, conditions: Conditions, *, compiled: bool) -> Step:
    """Returns the forward pass of torchvision's network, in channels_last."""
    import torchvision

    lasts = torch.channels_last
    model = getattr(torchvision.models, name.partition("/")[2])(weights=None).eval()
    model = model.to(conditions.device, conditions.dtype).to(memory_format=lasts)
    run = torch.compile(model, dynamic=False) if compiled else model
    shape = (conditions.batch, 3, *conditions.shape)
    images = torch.randn(shape, device=conditions.device, dtype=conditions.dtype)
    images = images.contiguous(memory_format=lasts)

    @torch.inference_mode()
    def step() -> None:
        run(images)

    return step


def lines(seconds: float, device: torch.device) -> Iterator[str]:
    """Yields the page."""
    import torchvision

    yield "# Inference on a GPU\n"
    yield (
        f"`python benchmarks/inference_gpu.py` on {date.today()}: {device_name(device)}, torch "
        f"{torch.__version__}, torchvision {torchvision.__version__}. Milliseconds per image, "
        "medians of interleaved steps. The images are on the GPU. forebear's engines take uint8 "
        "pixels and compute their normalisation; torchvision's networks take normalised inputs. "
        "The torch engine is eager PyTorch with cuDNN's fused convolutions, and compiles nothing. "
        "The ratios are those of the faster peer.\n"
    )
    yield f"| network | batch | precision | {' | '.join(CONTENDERS)} | torch engine / peer |"
    yield f"|{' --- |' * (len(CONTENDERS) + 4)}"
    for name, batch, precision in ROWS:
        conditions = Conditions(
            batch=batch, side=224, backward=False, device=device, precision=precision
        )
        found = contest(name, conditions, seconds)
        best = min(found)
        cells = [f"**{one:.4g}**" if one == best else f"{one:.4g}" for one in found]
        ratio = found[0] / min(found[2:])
        yield f"| {name} | {batch} | {precision} | {' | '.join(cells)} | {ratio:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each row")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False
    text = []
    for line in lines(args.seconds, torch.device(args.device)):
        print(line, flush=True)
        text.append(line)  # a run that is stopped leaves the rows before
        args.out.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
