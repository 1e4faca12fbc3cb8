"""CIFAR-10 (JPEG edition) against the clock: forebear and the published airbench recipe in turn.

python benchmarks/cifar_clock.py [--budget 416s] [--only forebear|airbench]
python benchmarks/cifar_clock.py --curves 4m 8m ...

forebear's budget is the time of its whole process, from the start to the finished folder: decoding
and evaluation are in it. airbench's seconds are those of its training alone, as published. With
--curves, ResNet-20 and ResNet-18 are trained instead, once for each of the budgets given.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import contest

CURVES = ("paper/resnet20", "paper/resnet18_cifar")


def main() -> None:
    parser = contest.options(__doc__)
    parser.add_argument("--budget", default="416s", metavar="TIME")
    parser.add_argument("--recipe", default="cifar-fast")
    parser.add_argument("--only", choices=("forebear", "airbench"))
    parser.add_argument("--curves", nargs="+", default=[], metavar="TIME")
    args = parser.parse_args()
    data = ("--data", f"parquet:{args.data / 'cifar10-jpeg'}")
    if args.curves:
        curves(data, args.curves, args.out)
        return
    table = [
        "| | seconds of training | of the whole process | one view | with test-time views |",
        "|---|---|---|---|---|",
    ]
    if args.only != "forebear":
        table.append(airbench(args.data))
    if args.only != "airbench":
        words = (*data, "--recipe", args.recipe, "--budget", args.budget)
        done = contest.train("cifar-clock", *words)
        table.append(
            f"| forebear, {args.recipe}, {done.epochs:.1f} epochs, {done.precision} "
            f"| {done.metrics[-1]['seconds']:.0f} (evaluation in it) | {done.seconds:.0f} "
            f"| {done.accuracy:.2%} | |"
        )
    text = (
        f"A budget of {args.budget} for forebear's whole process, reading and evaluation in it; "
        "airbench's seconds of training have neither in them, and no warm-up run went before. "
        "The JPEG edition costs accuracy: these figures compare only with one another."
    )
    contest.publish(args.out / "cifar_clock.md", "CIFAR-10 against the clock", text, table)


def airbench(data: Path) -> str:
    """A row."""
    script = str(Path(__file__).with_name("airbench.py"))
    seconds, found = contest.run([sys.executable, script, "--data", str(data)])
    precision = "bf16" if found["bf16"] else "fp32"
    return (
        f"| airbench, 8 epochs, {precision} | {found['seconds']:.0f} | {seconds:.0f} "
        f"| {found['accuracy']:.2%} | {found['with_views']:.2%} |"
    )


def curves(data: tuple[str, ...], budgets: list[str], out: Path) -> None:
    """Writes a table, a row a run, and an image of the runs' curves."""
    table = ["| network | budget | epochs | minutes: accuracy |", "|---|---|---|---|"]
    folders = []
    for network in CURVES:
        for budget in budgets:
            name = f"cifar-curves/{network.rpartition('/')[2]}-{budget}"
            done = contest.train(name, *data, "--network", network, "--budget", budget)
            folders.append(str(done.folder.relative_to(contest.RUNS)))
            points = ", ".join(
                f"{one['seconds'] / 60:.1f}: {one['val_accuracy']:.1%}" for one in done.metrics
            )
            table.append(f"| {network} | {budget} | {done.epochs:.1f} | {points} |")
    image = out / "cifar_curves.png"
    out.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "forebear", "compare", *folders]
    words += ["--out", str(image.resolve())]
    subprocess.run(words, check=True, stdout=sys.stderr, cwd=contest.RUNS)
    text = (
        "Minutes since the first step, by the recipe that forebear takes where none is named. The "
        "rate falls to its end with each run's own budget, so that the last point of each is what "
        "that time buys."
    )
    table += ["", f"![accuracy over minutes and epochs]({image.name})"]
    contest.publish(out / "cifar_curves.md", "CIFAR-10 over minutes", text, table)


if __name__ == "__main__":
    main()
