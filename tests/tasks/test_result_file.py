from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import RunError
from forebear.tasks.result_file import Answer, Job, opened_result

PATHS = [f"{number}.png" for number in range(7)]
JOB = Job.of("weights", "fp32", 2, PATHS)
ANSWERS = [
    Answer(path="0.png", guesses=(("a", 0.75), ("b", 0.25))),
    Answer(path="1.png", error="not an image"),
    Answer(path="x,\n\x1b.png", guesses=(('say "hi"', 0.5), ("ü", 0.25))),
]


def fill(path: Path, job: Job = JOB, start: int = 0, end: int = 7) -> None:
    with opened_result(path, job) as result:
        assert result.done == start
        for number in range(start, end):
            result.add([Answer(path=PATHS[number], guesses=(("a", 0.75), ("b", 0.25)))])


def test_csv_has_a_header_and_a_row_an_image(tmp_path: Path) -> None:
    with opened_result(tmp_path / "r.csv", JOB) as result:
        result.add(ANSWERS)
        assert (result.done, result.failed) == (3, 1)
    text = (tmp_path / "r.csv").read_text(encoding="utf-8")
    assert text.count("\n") == 4
    rows = list(csv.DictReader(text.splitlines()))
    assert list(rows[0]) == ["path", "class", "probability", "class_2", "probability_2", "error"]
    assert (rows[0]["class"], rows[0]["probability_2"], rows[0]["error"]) == ("a", "0.25", "")
    assert (rows[1]["class"], rows[1]["error"]) == ("", "not an image")
    assert rows[2]["class"] == 'say "hi"'
    assert rows[2]["class_2"] == "ü"
    assert rows[2]["path"].isprintable()


def test_jsonl(tmp_path: Path) -> None:
    with opened_result(tmp_path / "r.jsonl", JOB) as result:
        result.add(ANSWERS)
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert rows[0] == {
        "path": "0.png", "class": "a", "probability": 0.75, "class_2": "b", "probability_2": 0.25,
        "error": None,
    }  # fmt: skip
    assert rows[1]["error"] == "not an image"


def test_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    fill(tmp_path / "r.parquet", end=3)
    assert not (tmp_path / "r.parquet").exists()
    fill(tmp_path / "r.parquet", start=3)
    table = parquet.read_table(tmp_path / "r.parquet")
    assert table.column("path").to_pylist() == PATHS
    assert table.column("probability").to_pylist() == [0.75] * 7
    assert not (tmp_path / "r.parquet.rows.jsonl").exists()
    with opened_result(tmp_path / "r.parquet", JOB) as result:
        assert result.done == 7


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_row_is_written_again(ending: str, cut: int, tmp_path: Path) -> None:
    path = tmp_path / f"r.{ending}"
    fill(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with opened_result(path, JOB) as result:
        done = result.done
        assert done < 7
    fill(path, start=done)
    assert path.read_bytes() == whole


def test_errors_are_counted_after_a_resume(tmp_path: Path) -> None:
    for ending in ("csv", "jsonl"):
        path = tmp_path / f"r.{ending}"
        with opened_result(path, JOB) as result:
            result.add(ANSWERS)
        with opened_result(path, JOB) as result:
            assert (result.done, result.failed) == (3, 1)


def test_errors_of_a_finished_parquet_file_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path, job = tmp_path / "r.parquet", replace(JOB, images=3)
    with opened_result(path, job) as result:
        result.add(ANSWERS)
    assert path.exists()
    with opened_result(path, job) as result:
        assert (result.done, result.failed) == (3, 1)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunError, match="cannot be read"), opened_result(path, job):
        pass


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (replace(JOB, weights="others"), "weights differ"),
        (replace(JOB, top=3), "--top differ"),
        (replace(JOB, precision="int8"), "--precision differ"),
        (Job.of("weights", "fp32", 2, PATHS[::-1]), "images differ"),
    ],
)
def test_another_job_is_refused(job: Job, message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    fill(path)
    before = path.read_bytes()
    with pytest.raises(RunError, match=message), opened_result(path, job):
        pass
    assert path.read_bytes() == before
    with opened_result(path, job, replace=True) as result:
        assert result.done == 0


def test_replace_starts_the_same_job_again(tmp_path: Path) -> None:
    for name in ("r.csv", "r.jsonl"):
        fill(tmp_path / name)
        with opened_result(tmp_path / name, JOB, replace=True) as result:
            assert result.done == 0
            result.add(ANSWERS[:1])
        with opened_result(tmp_path / name, JOB) as result:
            assert result.done == 1


def test_a_file_of_something_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("mine\n")
    with pytest.raises(RunError, match="not known what"), opened_result(tmp_path / "r.csv", JOB):
        pass
    assert (tmp_path / "r.csv").read_text() == "mine\n"


def test_two_jobs_for_a_file(tmp_path: Path) -> None:
    with opened_result(tmp_path / "r.csv", JOB) as result:
        result.add(ANSWERS[:1])
        code = (
            "import sys; from pathlib import Path\n"
            "from tests.tasks.test_result_file import JOB, opened_result\n"
            "with opened_result(Path(sys.argv[1]), JOB): print('opened')\n"
        )
        words = [sys.executable, "-c", code, str(tmp_path / "r.csv")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert "another process writes this result" in done.stderr
        assert done.stdout == ""
    assert sorted(one.name for one in tmp_path.iterdir()) == ["r.csv", "r.csv.job.json"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "d.csv").mkdir()
    for path, message in (
        (tmp_path / "no" / "r.csv", "the folder .* does not exist"),
        (tmp_path / "d.csv", "not a regular file"),
    ):
        with pytest.raises(RunError, match=message), opened_result(path, JOB):
            pass
    assert [one.name for one in tmp_path.iterdir()] == ["d.csv"]


def test_an_unknown_ending(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"Expected one of \.csv, \.jsonl, \.parquet"),
        opened_result(tmp_path / "r.txt", JOB),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


class Full:
    """A file on a disk that takes half of a write."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, data: bytes) -> int:
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        raise OSError(28, "the disk is full")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_a_full_disk_leaves_complete_rows(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    with opened_result(path, JOB) as result:
        result.add(ANSWERS[:1])
        result._file = Full(result._file)  # type: ignore[assignment]
        with pytest.raises(OSError, match="full"):
            result.add(ANSWERS[1:])
    assert path.read_text().count("\n") == 2
    with opened_result(path, JOB) as result:
        assert result.done == 1


def test_paths_in_any_bytes_have_a_job() -> None:
    odd = os.fsdecode(b"a\xff.png")
    assert Job.of("w", "fp32", 1, [odd]) != Job.of("w", "fp32", 1, ["a.png"])


def test_the_class_of_an_unknown_image_is_unknown_and_the_columns_stay() -> None:
    known = Answer(path="a.png", guesses=(("cat", 0.4), ("dog", 0.3)))
    strange = replace(known, unknown=True)
    assert list(strange.row(2)) == list(known.row(2))
    assert strange.row(2) == known.row(2) | {"class": "unknown"}


def test_a_job_of_several_labels_has_a_column_of_them(tmp_path: Path) -> None:
    job = Job.of("w", "fp32", 1, ["a.png", "b.png", "c.png"], multi_label=True)
    both = Answer(path="a.png", guesses=(("x", 0.75),), labels=("x", "y"))
    none = Answer(path="b.png", guesses=(("x", 0.25),), labels=())
    with opened_result(tmp_path / "a.csv", job) as result:
        result.add([both, none, Answer(path="c.png", error="no image")])
        assert result.failed == 1
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "path,labels,class,probability,error",
        "a.png,x;y,x,0.75,",
        "b.png,,x,0.25,",
        "c.png,,,,no image",
    ]
    with opened_result(tmp_path / "a.csv", job) as result:
        assert (result.done, result.failed) == (3, 1)
    assert "multi_label" not in Job.of("w", "fp32", 1, []).as_dict()
