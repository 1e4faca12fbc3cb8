"""Calibrates trained weights on labelled images, and writes them with the calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from forebear.data.choices import Bad
from forebear.data.sources.read_options import DEFAULTS, ReadOptions
from forebear.errors import RunError
from forebear.network.network import Network
from forebear.tasks.calibration import Fit, calibrate
from forebear.tasks.evaluate import evaluate_chosen
from forebear.tasks.evaluation_batches import choose_batches
from forebear.tasks.runs.layout import SETTINGS, WEIGHTS
from forebear.tasks.runs.lock import FolderLock
from forebear.text import printable


def calibrate_on(
    network: Network,
    spec: str,
    *,
    reading: ReadOptions = DEFAULTS,
    part: str = "val",
    unknown: float = 0.05,
    batch: int = 64,
    precision: str = "fp32",
    device: str = "auto",
    bad: Bad = "fail",
    say: Callable[[str], None] = lambda line: None,
) -> Fit:
    """Fits a calibration on images of a data set, and puts it into the network's card.

    Args:
        network: In evaluation mode, with its classes and preprocessing.
        spec: The data set, as in `read_data`.
        reading: Columns, folder and groups of the data set.
        part: val, train, test or all.
        unknown: Share of the images that may be called unknown, 0 to 1.
        batch: Images at a time.
        precision: auto, fp32 or bf16.
        device: auto, cpu or cuda.
        bad: "fail" raises an error for an image that cannot be decoded, "skip" leaves it out.
        say: Takes the lines that say which images are used.

    Raises:
        DataError: The network lacks one of the classes, there are too few images, or one cannot be
            read.
        ValueError: An argument is not possible, or the network is multi-label.
    """
    if network.multi_label:
        raise ValueError(
            f"{printable(network.table.name)}: the network is multi-label, and a temperature is "
            "that of a softmax over one class an image. Expected a network with one class an "
            "image. Its thresholds are chosen by forebear train."
        )
    chosen = choose_batches(
        network, spec, reading=reading, part=part, batch=batch, precision=precision, device=device,
        bad=bad, mirrored=False, say=say,
    )  # fmt: skip
    measured = evaluate_chosen(chosen, keep_logits=True, say=say)
    kept = measured.kept
    assert kept is not None
    if len(kept.rows) < measured.images:
        say(f"of these, a random part of {len(kept.rows):,} is used")
    known = network.card.metrics
    own = chosen.fingerprint in (known.get("fingerprint"), known.get("data_fingerprint"))
    if part in ("train", "all") and own:
        say(
            "the network was trained on these images, so it is more confident on them than on "
            "others. Pass images that it has not seen, such as --part val."
        )
    fit = calibrate(
        kept.logits, measured.labels[kept.rows], unknown=unknown, fingerprint=chosen.fingerprint
    )
    network.card = replace(network.card, calibration=fit.calibration)
    return fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The file that calibrated weights are written to."""

    path: Path
    run: Path | None = None  # the run folder whose weights it replaces


def target_of(source: Path | None, out: Path | None, *, replaces: bool = False) -> Target:
    """Returns where the calibrated weights go: into the run, or into a new file.

    Args:
        source: A run folder or a weights file; None if the weights are published ones.
        out: The file that the user names; None chooses.
        replaces: Whether another file than the weights of the run may be overwritten.

    Raises:
        ValueError: The ending is not .safetensors, or no file can be chosen.
        RunError: The file exists.
    """
    if out is None and source is not None and (source / SETTINGS).is_file():
        return Target(path=source / WEIGHTS, run=source)
    if out is None:
        if source is None or not source.is_file():
            raise ValueError(
                "--out: expected a new .safetensors file, as the weights come from no run and no "
                "single file. Pass --out FILE.safetensors."
            )
        out = source.with_name(f"{source.name.partition('.')[0]}-calibrated.safetensors")
    if out.suffix != ".safetensors":
        raise ValueError(
            f"{printable(out)}: the suffix is {printable(out.suffix) or 'missing'}. Expected "
            f".safetensors. Pass {printable(out.stem)}.safetensors."
        )
    if out.exists() and not replaces:
        raise RunError(
            f"{printable(out)}: the file exists. Expected a new file. Pass another --out, or "
            "--replace to overwrite it."
        )
    return Target(path=out)


@contextmanager
def held(target: Target) -> Iterator[None]:
    """Keeps training out of the run whose weights are replaced.

    Raises:
        RunError: A process trains in it.
    """
    if target.run is None:
        yield
        return
    lock = FolderLock(target.run)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()
