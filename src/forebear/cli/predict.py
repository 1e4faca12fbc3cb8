"""forebear predict: prints class names and probabilities of images, or writes them to a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from forebear.cli import engine_flags, load_model, output
from forebear.cli.evaluation_flags import add_tta, mirrors
from forebear.cli.image_bar import Bar
from forebear.cli.image_paths import images_of
from forebear.data.choices import Bad
from forebear.text import printable

if TYPE_CHECKING:
    from forebear.engines.classifier import Classifier
    from forebear.network.network import Network
    from forebear.tasks.result_file import Answer

SUMMARY = "Classifies images with a trained network, from a run or any checkpoint."
EXAMPLE = "forebear predict runs/first photographs --out classes.csv"
_BATCH = 16  # images at a time, if there are several


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
        "--top",
        type=int,
        default=5,
        metavar="K",
        help="classes per image; multi-label networks print those of them that are labels of the "
        "image (default: %(default)s)",
    )
    parser.add_argument(
        "--unknown",
        action="store_true",
        help="answer unknown for images that look like none of the classes, by the threshold that "
        "forebear calibrate or forebear train has chosen",
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
    parser.add_argument(
        "--replace", action="store_true", help="overwrite an existing --out, and start again"
    )
    parser.add_argument(
        "--shard", metavar="I/N", help="answer only the I-th of N parts of the images"
    )
    parser.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help=f"images at a time (default: 1 or {_BATCH})",
    )
    engine_flags.add_arguments(parser)
    add_tta(parser)
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="answer on this Ray cluster; auto takes the one that runs here, or starts one; needs "
        "--out",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="with --ray: engines, each in a process that takes --threads cores, by default one "
        "(default: as many as the cluster has cores for)",
    )
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
    images: Iterable[Path] = images_of(words, recursive=args.recursive)
    if words != ["-"] or args.out is not None or args.shard is not None:
        images = list(images)
        if args.shard is not None:
            images = shard_of(images, args.shard)
    count = len(images) if isinstance(images, list) else _BATCH
    batch = args.batch or (_BATCH if count > 1 else 1)
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
    if args.ray is None and args.workers is not None:
        raise ValueError("--workers: expected --ray with it. Pass --ray auto, or leave it out.")
    if args.ray is not None:
        from forebear.tasks.ray_predict import check

        if args.tta != "none":
            raise ValueError(
                f"--tta {args.tta}: the workers of --ray do not have it. Expected one of both. "
                "Leave out --tta or --ray."
            )
        if args.out is None:
            raise ValueError("--ray: expected --out with it. Pass --out FILE.jsonl.")
        check(args.workers)


def _classifier(run: Path | None, args: argparse.Namespace, batch: int) -> Classifier:
    from forebear.engines.mirror import mirrored
    from forebear.engines.open import open_classifier

    if (run is None) == (args.weights is None):
        raise AssertionError("run() passes one of them")
    if run is not None and args.network:
        load_model.load_model(run, args)  # raises the error that says what to pass

    def load() -> Network:
        return load_model.load_model(run, args, notes=False)  # those of `found` are printed

    source = Path(args.weights) if run is None else run
    request = engine_flags.request(args, batch)
    found = open_classifier(
        source,
        request,
        network=args.network,
        which=args.which,
        load=load,
        say=output.note if args.out is not None else lambda _: None,
    )
    if args.unknown:
        found.require_threshold()
    if found.note:
        output.note(f"{printable(source)}: {found.note}")
    return mirrored(found) if mirrors(args) else found


def _print_all(
    classifier: Classifier, images: Iterable[Path], args: argparse.Namespace, batch: int
) -> int:
    from forebear.errors import DataError
    from forebear.tasks.predict_job import answers

    failed = count = 0
    for some in answers(classifier, images, top=args.top, batch=batch, unknown=args.unknown):
        for answer in some:
            count += 1
            if not answer.error:
                _print(answer, args)
                continue
            if args.bad == "fail":
                raise DataError(answer.error)
            failed += 1
            output.note(answer.error)
        sys.stdout.flush()
    return _ended(failed, count, args)


def _write(classifier: Classifier, images: list[Path], args: argparse.Namespace, batch: int) -> int:
    from forebear.errors import DataError
    from forebear.tasks.result_file import Job, opened_result

    if classifier.chosen and not classifier.measured_now:
        output.note(classifier.chosen)
    paths = [str(image) for image in images]
    top = min(args.top, len(classifier.classes) or args.top)
    job = Job.of(
        classifier.answers_as(unknown=args.unknown),
        classifier.engine.precision,
        top,
        paths,
        multi_label=classifier.multi_label is not None,
    )
    with opened_result(args.out, job, replace=args.replace) as result:
        if result.done:
            output.note(
                f"{printable(args.out)}: {result.done:,} of {len(images):,} images answered"
            )
        with Bar(len(images), result.done) as bar:
            rest = images[result.done :]
            found = _on_ray if args.ray is not None else _here
            for some in found(classifier, rest, args, top, batch):
                if args.bad == "fail":
                    for answer in some:
                        if answer.error:
                            raise DataError(answer.error)
                result.add(some)
                bar.advance(len(some))
        failed, done = result.failed, result.done
    output.note(f"{printable(args.out)}: {done:,} images{bar.speed()}")
    return _ended(failed, len(images), args)


def _here(
    classifier: Classifier, images: list[Path], args: argparse.Namespace, top: int, batch: int
) -> Iterator[list[Answer]]:
    from forebear.tasks.predict_job import answers

    return answers(classifier, images, top=top, batch=batch, unknown=args.unknown)


def _on_ray(
    classifier: Classifier, images: list[Path], args: argparse.Namespace, top: int, batch: int
) -> Iterator[list[Answer]]:
    from forebear.engines.engine import EngineRequest
    from forebear.tasks.ray_predict import answers

    if args.device != "cpu":
        raise ValueError(
            f"--device {args.device} with --ray: the workers of a Ray cluster compute on "
            "processors. Expected one of the two. Leave one out; --shard I/N divides the images "
            "among machines with a GPU."
        )
    engine = classifier.engine
    source = args.weights if args.weights is not None else args.words[0]
    request = EngineRequest(engine=engine.name, precision=engine.precision, threads=args.threads)
    return answers(
        source, request, images, top=top, batch=batch, workers=args.workers, address=args.ray,
        network=args.network, which=args.which, unknown=args.unknown,
    )  # fmt: skip


def _ended(failed: int, count: int, args: argparse.Namespace) -> int:
    if failed:
        output.note(f"{failed:,} of {count:,} images could not be read")
    return 2 if failed and args.bad is None else 0


def _print(answer: Answer, args: argparse.Namespace) -> None:
    if args.json:
        rows = [{"class": name, "probability": value} for name, value in answer.guesses]
        more: dict[str, object] = {"unknown": answer.unknown} if args.unknown else {}
        if answer.labels is not None:
            more["labels"] = list(answer.labels)
        output.result_json({"image": answer.path, **more, "classes": rows})
    elif answer.labels is not None:
        output.result(f"{printable(answer.path)}: {_labels(answer)}")
    elif answer.unknown:
        name, value = answer.guesses[0]
        best = printable(_class_with_word(name))
        output.result(f"{printable(answer.path)}: unknown (most probable: {best} {value:.2%})")
    else:
        classes = ", ".join(
            f"{printable(_class_with_word(name))} {value:.2%}" for name, value in answer.guesses
        )
        output.result(f"{printable(answer.path)}: {classes}")


def _labels(answer: Answer) -> str:
    """Returns the labels of an image with their probabilities, as far as --top shows them."""
    assert answer.labels is not None
    shares = dict(answer.guesses)
    shown = [name for name in answer.labels if name in shares]
    if not answer.labels:
        name, value = answer.guesses[0]
        return f"no label (most probable: {printable(_class_with_word(name))} {value:.2%})"
    more = len(answer.labels) - len(shown)
    said = ", ".join(f"{printable(_class_with_word(name))} {shares[name]:.2%}" for name in shown)
    return f"{said} and {more:,} more" if more else said


def _class_with_word(name: str) -> str:
    """Returns the class name, followed by its English word if it is an ImageNet synset."""
    from forebear.tables.imagenet_classes import synset_name

    word = synset_name(name)
    return name if word is None else f"{name} ({word})"
