"""The 25 cases, by number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from peer_faults import changes, hostile, inputs, processes, runs
from peer_faults.bench import Bench, Result


@dataclass(frozen=True, slots=True)
class Case:
    number: int
    title: str
    run: Callable[[Bench], Result]


# fmt: off
CASES = (
    Case(1, "kill -9 in an epoch, resume: same bits", runs.kill_and_resume),
    Case(2, "kill -9 while a checkpoint is written", runs.kill_while_saving),
    Case(3, "SIGTERM, SIGINT: checkpoint, 0 steps lost, exit 143 / 130", runs.stop_signals),
    Case(4, "disk full in a save: old checkpoint intact, named", runs.full_disk),
    Case(5, "newest checkpoint damaged: noticed", runs.damaged_checkpoints),
    Case(6, "kill in the rotation of checkpoints", runs.rotation),
    Case(7, "output read-only, a file, in use: refused before training", runs.output_folders),
    Case(8, "loss not finite: stopped or skipped, not saved", runs.non_finite),
    Case(9, "resume with another batch, lr, workers: said", runs.changed_settings),
    Case(10, "other classes or tensors: refused and named", changes.classes_and_tensors),
    Case(11, "files that are no images: named, not replaced", inputs.no_images),
    Case(12, "cut images, flipped bytes: noticed", inputs.damaged_images),
    Case(13, "endings that lie: read by content", inputs.wrong_endings),
    Case(14, "CMYK, alpha, palettes: right colours", inputs.colour_modes),
    Case(15, "16 bits and floats: scaled, not clipped", inputs.deep_images),
    Case(16, "EXIF orientation: one tensor", inputs.orientations),
    Case(17, "animations: the first image", inputs.animations),
    Case(18, "bombs refused, thin images within 300 MB", inputs.sizes),
    Case(19, "data changed before a resume: said", changes.changed_data),
    Case(20, "odd folders: counted rightly, or refused", changes.folders),
    Case(21, "a data worker killed or stuck", processes.workers),
    Case(22, "a rank killed or stuck (2 processes, gloo)", processes.ranks),
    Case(23, "hostile pickles: refused, nothing run", hostile.hostile_pickles),
    Case(24, "malformed safetensors, .h5, .keras", hostile.malformed),
    Case(25, "archives and downloads: nothing outside", hostile.traversal),
)
# fmt: on
