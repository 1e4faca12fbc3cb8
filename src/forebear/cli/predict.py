"""forebear predict: prints class names and probabilities of images, or writes them to a file."""

from __future__ import annotations

import argparse
import glob
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from forebear.cli import engine_flags, load_model, output
from forebear.data.choices import Bad
from forebear.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from forebear.engines.classifier import Classifier
    from forebear.network.network import Network
    from forebear.tasks.result_file import Answer

SUMMARY = "Classifies images with a trained network, from a run or any checkpoint."
EXAMPLE = "forebear predict runs/first photographs --out classes.csv"
_BATCH = 16  # images at a time, if there are as many


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "words",
        nargs="+",
        metavar="RUN IMAGE",
        help="a run folder, a weights file or an exported .onnx or .xml file; then images, folders "
        "with images, patterns such as 'photos/*.jpg', or - for paths from stdin, one per line; "
        "with --weights only the latter",
    )
    load_model.add_arguments(parser)
    parser.add_argument(
        "--top", type=int, default=5, metavar="K", help="classes per image (default: %(default)s)"
    )
    parser.add_argument(
        "--recursive",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether a folder stands for the images in its folders too (default: yes)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write the answers to this .csv, .jsonl or .parquet file; a job that was stopped "
        "continues where it was",
    )
    parser.add_argument("--replace", action="store_true", help="overwrite an existing --out")
    parser.add_argument(
        "--shard", metavar="I/N", help="answer only the I-th of N parts of the images"
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", help=f"images at a time (default: up to {_BATCH})"
    )
    engine_flags.add_arguments(parser)
    parser.add_argument(
        "--bad",
        choices=get_args(Bad),
        help="images that cannot be read: stop at the first, or leave them out with exit code 0 "
        "(default: leave them out, and exit with code 2 at the end)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per image")


def run(args: argparse.Namespace) -> int:
    """Prints one line per image with its most probable classes, or writes them to --out.

    Returns:
        0, or 2 if an image could not be read.
    """
    from forebear.tasks.predict_job import shard_of

    _check(args)
    run, words = (None, args.words) if args.weights is not None else (args.words[0], args.words[1:])
    if not words:
        raise ValueError("no IMAGE: expected at least one image after RUN. Pass its path.")
    images: Iterable[Path] = _images(words, recursive=args.recursive)
    if words != ["-"] or args.out is not None or args.shard is not None:
        images = list(images)
        if args.shard is not None:
            images = shard_of(images, args.shard)
    count = len(images) if isinstance(images, list) else _BATCH
    batch = args.batch or max(1, min(_BATCH, count))
    if words == ["-"] and args.batch is None and args.out is None:
        batch = 1  # each line is answered at once
    classifier = _classifier(None if run is None else Path(run), args, batch)
    if args.out is not None:
        assert isinstance(images, list)
        return _write(classifier, images, args, batch)
    return _print_all(classifier, images, args, batch)


def _check(args: argparse.Namespace) -> None:
    if args.top < 1:
        raise ValueError(f"top={args.top}: expected 1 or more. Pass the number of classes to show.")
    if args.batch is not None and args.batch < 1:
        raise ValueError(f"batch={args.batch}: expected 1 or more. Pass a number of images.")
    if args.out is not None and args.json:
        raise ValueError(
            "--json and --out: expected one of them. Pass --out FILE.jsonl for JSON in a file."
        )


def _classifier(run: Path | None, args: argparse.Namespace, batch: int) -> Classifier:
    from forebear.engines.open import open_classifier

    if (run is None) == (args.weights is None):
        raise AssertionError("run() passes one of them")
    if run is not None and args.network:
        load_model.load_model(run, args)  # raises the error that says what to pass

    def load() -> Network:
        return load_model.load_model(run, args)

    source = Path(args.weights) if run is None else run
    request = engine_flags.request(args, batch)
    found = open_classifier(
        source, request, network=args.network, which=args.which, load=load, say=output.note
    )
    if found.note:
        output.note(f"{printable(source)}: {found.note}")
    return found


def _print_all(
    classifier: Classifier, images: Iterable[Path], args: argparse.Namespace, batch: int
) -> int:
    from forebear.errors import DataError
    from forebear.tasks.predict_job import answers

    failed = count = 0
    for some in answers(classifier, images, top=args.top, batch=batch):
        for answer in some:
            count += 1
            if not answer.error:
                _print(answer, as_json=args.json)
                continue
            if args.bad == "fail":
                raise DataError(answer.error)
            failed += 1
            output.note(answer.error)
        sys.stdout.flush()
    return _ended(failed, count, args)


def _write(classifier: Classifier, images: list[Path], args: argparse.Namespace, batch: int) -> int:
    from forebear.errors import DataError
    from forebear.tasks.predict_job import answers
    from forebear.tasks.result_file import Job, opened_result

    if classifier.chosen and not classifier.measured_now:
        output.note(classifier.chosen)
    paths = [str(image) for image in images]
    top = min(args.top, len(classifier.classes) or args.top)
    job = Job.of(classifier.identity, classifier.engine.precision, top, paths)
    with opened_result(args.out, job, replace=args.replace) as result:
        if result.done:
            output.note(
                f"{printable(args.out)}: {result.done:,} of {len(images):,} images answered"
            )
        with _Bar(len(images), result.done) as bar:
            rest = images[result.done :]
            for some in answers(classifier, rest, top=top, batch=batch):
                if args.bad == "fail":
                    for answer in some:
                        if answer.error:
                            raise DataError(answer.error)
                result.add(some)
                bar.advance(len(some))
        failed, done = result.failed, result.done
    output.note(f"{printable(args.out)}: {done:,} images{bar.speed()}")
    return _ended(failed, len(images), args)


def _ended(failed: int, count: int, args: argparse.Namespace) -> int:
    if failed:
        output.note(f"{failed:,} of {count:,} images could not be read")
    return 2 if failed and args.bad is None else 0


def _images(words: list[str], *, recursive: bool) -> Iterator[Path]:
    """Yields the images that the words stand for, in their order."""
    for word in words:
        if word == "-":
            yield from (Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip())
        elif Path(word).is_dir():
            yield from _images_in(Path(word), recursive=recursive)
        elif glob.has_magic(word) and not Path(word).exists():
            yield from _matching(word)
        else:
            yield Path(word)


def _images_in(folder: Path, *, recursive: bool) -> list[Path]:
    from forebear.data.sources.folders import images_below
    from forebear.errors import DataError

    found = [Path(image) for image in images_below(folder)]
    if not recursive:
        found = [image for image in found if image.parent == folder]
    if not found:
        raise DataError(
            f"{printable(folder)}: no images inside. Expected a folder with images. Check the path."
        )
    return found


def _matching(pattern: str) -> list[Path]:
    from forebear.errors import DataError

    matches = glob.glob(pattern, recursive=True)  # noqa: PTH207 (Path.glob wants a folder first)
    found = sorted(path for path in map(Path, matches) if path.is_file())
    if not found:
        raise DataError(
            f"{printable(pattern)}: no file matches. Expected a pattern of image files. Check it."
        )
    return found


def _print(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        rows = [{"class": name, "probability": value} for name, value in answer.guesses]
        output.result_json({"image": answer.path, "classes": rows})
    else:
        classes = ", ".join(
            f"{printable(_class_with_word(name))} {value:.2%}" for name, value in answer.guesses
        )
        output.result(f"{printable(answer.path)}: {classes}")


def _class_with_word(name: str) -> str:
    """Returns the class name, followed by its English word if it is an ImageNet synset."""
    from forebear.tables.imagenet_classes import synset_name

    word = synset_name(name)
    return name if word is None else f"{name} ({word})"


class _Bar:
    """A progress bar on stderr with images per second and the time left, if it is a terminal."""

    def __init__(self, total: int, done: int) -> None:
        self._total, self._done, self._answered = total, done, 0
        self._progress: Progress | None = None

    def __enter__(self) -> _Bar:
        import time

        self._clock = time.perf_counter
        self._begun = self._clock()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._progress = Progress(
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task(
                "", total=self._total, completed=self._done, speed=""
            )
        return self

    def advance(self, count: int) -> None:
        """Counts answered images."""
        self._answered += count
        if self._progress is not None:
            rate = self._answered / max(self._clock() - self._begun, 1e-9)
            self._progress.update(self._task, advance=count, speed=f"{rate:,.0f} images/s")

    def speed(self) -> str:
        """Returns the images per second, for the last line; "" if there was nothing to do."""
        if not self._answered:
            return ""
        return f", {self._answered / max(self._ended - self._begun, 1e-9):,.0f} images/s"

    def __exit__(self, *_: object) -> None:
        self._ended = self._clock()
        if self._progress is not None:
            self._progress.stop()
