from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from forebear.errors import RunError, WeightsError
from forebear.files import process_lock
from forebear.tasks.feature_file import opened_features
from forebear.tasks.features import Extractor, before_logits, features
from tests.network.making import make
from tests.tasks.test_predict_job import photographs


@pytest.mark.parametrize("batch", [1, 4, 100])
@pytest.mark.parametrize(("end_point", "maps"), [(None, False), ("block2", True), ("logits", True)])
def test_rows_are_the_networks_end_point(
    end_point: str | None, maps: bool, batch: int, tmp_path: Path
) -> None:
    net = make("paper/resnet20", num_classes=3)
    paths = photographs(tmp_path / "in", 7)
    paths[4].write_text("no image")
    extractor = Extractor(net, end_point, maps=maps)
    found = list(features(extractor, paths, batch=batch))
    rows = np.concatenate([some.values for some in found])
    (error,) = [error for some in found for error in some.errors]
    assert str(paths[4]) in error
    assert rows.shape == (7, *extractor.shape)
    assert np.isnan(rows[4]).all()
    for row, path in zip(rows, paths, strict=True):
        if path != paths[4]:
            with torch.inference_mode():
                wanted = net.end_points(net.preprocess(path), [end_point or "pool"])
            (tensor,) = wanted.values()
            np.testing.assert_allclose(row, tensor[0].numpy().reshape(row.shape), 1e-4, 5e-5)


def test_maps_are_averaged_unless_they_are_asked_for(tmp_path: Path) -> None:
    net = make("paper/resnet20", num_classes=3)
    paths = photographs(tmp_path / "in", 2)
    (whole,) = features(Extractor(net, "block1", maps=True), paths)
    (pooled,) = features(Extractor(net, "block1"), paths)
    assert whole.values.shape == (2, 16, 32, 32)
    np.testing.assert_allclose(pooled.values, whole.values.mean((2, 3)), 1e-4, 1e-6)


def test_what_comes_before_the_logits() -> None:
    assert before_logits(make("paper/resnet20", num_classes=3)) == "pool"
    assert before_logits(make("paper/resnet20", num_classes=None)) == "pool"
    assert before_logits(make("paper/resnet20", num_classes=3, global_pool=False)) == "block3"


def test_an_unknown_end_point_lists_near_names() -> None:
    with pytest.raises(ValueError, match=r"end point 'blok2': .*Did you mean block2"):
        Extractor(make("paper/resnet20", num_classes=3), "blok2")


def test_features_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    net = make("paper/resnet20", num_classes=3)
    net.get_parameter("logits.bias").data.fill_(float("inf"))
    paths = photographs(tmp_path / "in", 2)
    with pytest.raises(WeightsError, match=r"000\.png: its features at logits are not finite"):
        list(features(Extractor(net, "logits"), paths))


def test_a_job_differs_by_what_decides_its_rows() -> None:
    net, other = (make("paper/resnet20", num_classes=3) for _ in range(2))
    job = Extractor(net).job(["a", "b"])
    assert job == Extractor(net, "pool").job(["a", "b"])
    other.load_state_dict(net.state_dict())
    assert Extractor(other).job(["a", "b"]).weights == job.weights
    other.get_parameter("logits.bias").data.add_(1)
    different = [
        Extractor(other).job(["a", "b"]),
        Extractor(net, "block3").job(["a", "b"]),
        Extractor(net, maps=True).job(["a", "b"]),
        Extractor(net).job(["b", "a"]),
    ]
    assert job not in different


JOB = Extractor(make("paper/resnet20", num_classes=3)).job(["a", "b", "c\nd"])
PATHS = ["a", "b", "c\nd"]
ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


@pytest.mark.parametrize("ending", [".npy", ".parquet"])
def test_a_file_continues_behind_its_last_finished_row(ending: str, tmp_path: Path) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"f{ending}"
    with opened_features(out, JOB, (2,), PATHS) as file:
        file.add(ROWS[:2], 1)
    assert json.loads((tmp_path / f"f{ending}.job.json").read_text())["done"] == 2
    with opened_features(out, JOB, (2,), PATHS) as file:
        assert (file.done, file.failed) == (2, 1)
        file.add(ROWS[2:], 0)
    with opened_features(out, JOB, (2,), PATHS) as file:
        assert (file.done, file.failed) == (3, 1)
    if ending == ".npy":
        assert np.load(out).tolist() == ROWS.tolist()
        assert (tmp_path / "f.npy.paths.txt").read_text() == "a\nb\nc\\nd\n"
        return
    import pyarrow.parquet as pq

    found = pq.read_table(out)
    assert found["features"].to_pylist() == ROWS.tolist()
    assert found["path"].to_pylist() == ["a", "b", "c\\nd"]
    assert json.loads(found.schema.metadata[b"shape"]) == [2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.parquet", "f.parquet.job.json"]


def test_another_job_another_process_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "f.npy"
    other = Extractor(make("paper/resnet20", num_classes=3), "block3").job(PATHS)
    with opened_features(out, JOB, (2,), PATHS) as file:
        file.add(ROWS[:1], 0)
        with (
            pytest.raises(RunError, match="another process writes this result"),
            opened_features(out, JOB, (2,), PATHS),
        ):
            pass
    with (
        pytest.raises(RunError, match=r"another job \(.*--end-point differ\)"),
        opened_features(out, other, (2,), PATHS),
    ):
        pass
    out.write_bytes(out.read_bytes()[:-4])
    with (
        pytest.raises(RunError, match="does not hold"),
        opened_features(out, JOB, (2,), PATHS),
    ):
        pass
    with opened_features(out, other, (2,), PATHS, replace=True) as file:
        assert file.done == 0
    with process_lock(tmp_path / ".f.npy.lock", wait=0):
        pass


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no posix_fallocate here")
def test_a_full_disk_is_an_error_before_the_first_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write into a mapping without room would end the process by SIGBUS."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    out = tmp_path / "f.npy"
    with (
        pytest.raises(OSError, match="No space left") as caught,
        opened_features(out, JOB, (2,), PATHS),
    ):
        pass
    assert caught.value.filename == str(out)
    assert list(tmp_path.iterdir()) == []
