"""forebear explain: draws which places of images speak for a class, as a sheet per image."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.cli import load_model, output
from forebear.cli.image_bar import Bar
from forebear.cli.image_paths import images_of
from forebear.cli.output_path import check_drawing
from forebear.data.sources.kinds import listed_specs
from forebear.text import printable

if TYPE_CHECKING:
    from forebear.network.network import Network
    from forebear.tasks.explain import Explanation, Method
    from forebear.tasks.neighbours import Neighbour, Neighbours

SUMMARY = "Draws which places of an image speak for a class, and the nearest training images."
EXAMPLE = "forebear explain runs/first photographs --neighbours folder:photographs --out sheets"
_NEAREST, _MOST = 6, 60  # neighbours by default, and at most


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "words",
        nargs="+",
        metavar="RUN IMAGE",
        help="a run folder or a weights file; then images, folders with images, patterns such as "
        "'photos/*.jpg', or - for paths from stdin, one per line; with --weights only the latter",
    )
    load_model.add_arguments(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER|FILE.png",
        required=True,
        help="write one sheet per image into this folder, or the sheet of one image to this file; "
        "existing sheets are overwritten",
    )
    parser.add_argument(
        "--end-point",
        metavar="NAME",
        help="where Grad-CAM takes the maps, such as block3 or block4.unit_2.conv3 (default: the "
        "last map before the pool)",
    )
    parser.add_argument(
        "--class",
        dest="class_name",
        metavar="NAME",
        help="the class to explain (default: the predicted one)",
    )
    parser.add_argument(
        "--method",
        default="grad-cam,occlusion",
        metavar="LIST",
        help="grad-cam, occlusion or both (default: %(default)s)",
    )
    parser.add_argument(
        "--neighbours",
        metavar="KIND:PATH",
        help=f"add the nearest training images of this data set: {listed_specs()}",
    )
    parser.add_argument(
        "--nearest",
        type=int,
        default=_NEAREST,
        metavar="K",
        help="neighbours per image (default: %(default)s)",
    )
    parser.add_argument(
        "--maps",
        action="store_true",
        help="also write each map, float32 [h, w], as a .npy file next to the sheet",
    )
    parser.add_argument(
        "--recursive",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether a folder stands for the images in its folders too (default: yes)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per image")


@dataclass
class _Job:
    """What is done with each image."""

    network: Network
    methods: Sequence[Method]
    args: argparse.Namespace
    neighbours: Neighbours | None = None
    nearest: dict[Path, list[Neighbour]] = field(default_factory=dict)  # of each image
    failed: int = 0  # images that could not be read
    left_out: int = 0  # training images that could not be read


def run(args: argparse.Namespace) -> int:
    """Writes a sheet per image, and prints one line for each.

    Returns:
        0, or 2 if an image could not be read.
    """
    run, images = _run_and_images(args)
    from forebear.errors import DataError

    job = _checked(run, args)
    sheets = _sheets(images, args.out)
    if args.neighbours is not None:
        _find_neighbours(job, images)
    for image, sheet in sheets:  # without a bar, which would send the lines to stderr
        try:
            _explain(job, image, sheet)
        except DataError as error:
            job.failed += 1
            output.note(str(error))
        sys.stdout.flush()
    if job.failed:
        output.note(f"{job.failed:,} of {len(images):,} images could not be read")
    return 2 if job.failed or job.left_out else 0


def _checked(run: Path | None, args: argparse.Namespace) -> _Job:
    """Returns the job, after everything that needs no image is checked."""
    from forebear.tasks.explain import (
        captum,
        check_end_point,
        check_network,
        class_number,
        methods_of,
    )
    from forebear.tasks.explain_sheet import check_matplotlib

    methods = methods_of(args.method)
    if args.end_point is not None and "grad-cam" not in methods:
        raise ValueError(
            f"--end-point {printable(args.end_point)}: only Grad-CAM takes maps at an end point. "
            "Expected the method grad-cam. Pass --method grad-cam, or leave --end-point out."
        )
    captum()
    check_matplotlib()
    network = load_model.load_model(run, args)
    check_network(network)
    if args.class_name is not None:
        class_number(network, args.class_name)
    if "grad-cam" in methods:
        check_end_point(network, args.end_point)
    return _Job(network, methods, args)


def _run_and_images(args: argparse.Namespace) -> tuple[Path | None, list[Path]]:
    from forebear.engines.graph_card import is_exported

    run, words = (None, args.words) if args.weights is not None else (args.words[0], args.words[1:])
    source = Path(run or args.weights)
    if is_exported(source):
        raise ValueError(
            f"{printable(source)}: an exported graph has no gradients. Expected a run or a "
            "checkpoint. Pass what the graph was exported from."
        )
    if not words:
        raise ValueError("no IMAGE: expected at least one image after RUN. Pass its path.")
    if not 1 <= args.nearest <= _MOST:
        raise ValueError(
            f"nearest={args.nearest}: expected 1 to {_MOST}. Pass the number of neighbours."
        )
    images = list(images_of(words, recursive=args.recursive))
    if args.out.suffix.lower() == ".png":
        check_drawing(args.out)
        if len(images) > 1:
            raise ValueError(
                f"--out {printable(args.out)}: a file for {len(images):,} images. Expected a "
                f"folder, or one image. Pass --out {printable(args.out.with_suffix(''))}."
            )
    elif args.out.exists() and not args.out.is_dir():
        raise ValueError(
            f"--out {printable(args.out)}: not a folder. Expected a folder or a file that ends in "
            ".png. Pass another path."
        )
    return None if run is None else Path(run), images


def _sheets(images: list[Path], out: Path) -> list[tuple[Path, Path]]:
    """Returns each image with the path of its sheet. Images of one name get numbers.

    Raises:
        ValueError: A sheet would overwrite one of the images.
    """
    if out.suffix.lower() == ".png":
        sheets = [(image, out) for image in images]
    else:
        taken: set[str] = set()
        sheets = [(image, out / f"{_free(image.stem[:200], taken)}.png") for image in images]
    sources = {image.resolve() for image in images}
    for image, sheet in sheets:
        if sheet.resolve() in sources:
            raise ValueError(
                f"--out {printable(out)}: the sheet of {printable(image)} would overwrite the "
                f"image {printable(sheet)}. Expected a place without images. Pass another --out."
            )
    if out.suffix.lower() != ".png":
        out.mkdir(parents=True, exist_ok=True)
    return sheets


def _free(stem: str, taken: set[str]) -> str:
    """Returns a name that is not taken, also on systems that ignore case, and takes it."""
    name, number = stem, 2
    while name.lower() in taken:
        name, number = f"{stem}-{number}", number + 1
    taken.add(name.lower())
    return name


def _find_neighbours(job: _Job, images: list[Path]) -> None:
    from forebear.data.sources.registry import read_data
    from forebear.tasks.neighbours import Neighbours

    job.neighbours = Neighbours(job.network, read_data(job.args.neighbours))
    read, rows = job.neighbours.rows(images)
    with Bar(len(job.neighbours), 0) as bar:
        nearest = job.neighbours.nearest(
            rows, job.args.nearest, advance=bar.advance, say=lambda error: _leave_out(job, error)
        )
    if job.left_out:
        count = f"{job.left_out:,} of {len(job.neighbours):,}"
        output.note(f"{count} training images could not be read, and are no neighbours")
    job.nearest = dict(zip(read, nearest, strict=True))


def _leave_out(job: _Job, error: str) -> None:
    job.left_out += 1
    output.note(error)


def _explain(job: _Job, image: Path, sheet: Path) -> None:
    from forebear.data.images.preprocess import to_image
    from forebear.tasks.explain import explain
    from forebear.tasks.explain_sheet import Tile, draw_explanations

    rule = job.network.preprocessing
    decoded = to_image(image, rule.channels, rule.levels)
    found = [
        explain(
            job.network,
            decoded,
            method=method,
            end_point=job.args.end_point,
            class_name=job.args.class_name,
        )
        for method in job.methods
    ]
    near, tiles, heading = job.nearest.get(image, []), [], ""
    if job.neighbours is not None:
        tiles = [
            Tile(
                pixels=job.neighbours.pixels(one.index),
                class_name=one.class_name,
                similarity=one.similarity,
            )
            for one in near
        ]
        heading = job.neighbours.heading
    draw_explanations(found, sheet, image=image.name, tiles=tiles, heading=heading)
    maps = _write_maps(found, sheet) if job.args.maps else {}
    if job.args.json:
        output.result_json(_as_json(image, sheet, found[0], near, maps))
    else:
        first = found[0]
        output.result(
            f"{printable(image)}: {printable(first.class_name)} {first.probability:.2%}, "
            f"{printable(sheet)}"
        )


def _write_maps(found: Sequence[Explanation], sheet: Path) -> dict[str, str]:
    """Writes the maps next to the sheet, and returns their paths."""
    import numpy as np

    from forebear.files import write_whole

    paths: dict[str, str] = {}
    for one in found:
        path = sheet.with_name(f"{sheet.stem}.{one.method}.npy")

        def write(partial: Path, values: Any = one.map) -> None:
            with partial.open("wb") as file:
                np.save(file, values)

        write_whole(path, write)
        paths[one.method] = str(path)
    return paths


def _as_json(
    image: Path,
    sheet: Path,
    first: Explanation,
    near: Sequence[Neighbour],
    maps: dict[str, str],
) -> dict[str, object]:
    line: dict[str, object] = {
        "image": str(image),
        "class": first.class_name,
        "probability": first.probability,
        "classes": [{"class": name, "probability": share} for name, share in first.top()],
        "sheet": str(sheet),
    }
    if maps:
        line["maps"] = maps
    if near:
        line["neighbours"] = [
            {"image": one.name, "class": one.class_name, "similarity": one.similarity}
            for one in near
        ]
    return line
