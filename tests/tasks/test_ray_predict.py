from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import forebear
from forebear.cli.main import main
from forebear.engines.engine import EngineRequest
from forebear.errors import RunError
from forebear.tasks.ray_predict import Actor, _ordered, _packed, answers, check
from forebear.tasks.result_file import Answer
from tests.cli.making import folder
from tests.network.making import make


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    forebear.save(make("paper/resnet20", num_classes=3), path, classes=["a", "b", "c"])
    return path


def test_what_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="workers=0: expected 1 or more"):
        check(0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'forebear\[ray\]'"):
        check(None)
    assert main(["predict", str(saved), "x.png", "--ray", "auto"]) == 2
    assert "--ray: expected --out with it" in capsys.readouterr().err
    assert main(["predict", str(saved), "x.png", "--workers", "2"]) == 2
    assert "--workers: expected --ray with it" in capsys.readouterr().err


def test_an_actor_answers_a_block_or_says_what_ends_the_job(saved: Path, tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    folder(tmp_path / "in", 2)
    paths = sorted((tmp_path / "in").rglob("*.png"))
    paths[1].write_text("no image")
    table = arrow.table({"path": [bytes(path) for path in paths]})
    request = EngineRequest(engine="torch", batch=2, threads=1)
    found = Actor(str(saved), request, None, None, 2)(table)["answer"].to_pylist()
    guesses, errors, unknown = zip(*map(json.loads, found), strict=True)
    assert [len(some) for some in guesses] == [2, 0, 2, 2, 2, 2]
    assert [bool(error) for error in errors] == [False, True, False, False, False, False]
    assert not any(unknown)
    gone = Actor(str(tmp_path / "gone.safetensors"), request, None, None, 2)(table)
    (text,) = gone["answer"].to_pylist()
    assert "gone.safetensors" in json.loads(text)


class Blocks:
    """A dataset of blocks that are answered."""

    def __init__(self, *blocks: list[object]) -> None:
        self.blocks = blocks

    def iter_batches(self, **_: object) -> Iterator[object]:
        arrow = pytest.importorskip("pyarrow")
        for block in self.blocks:
            yield arrow.table({"answer": [json.dumps(row) for row in block]})


def test_answers_get_the_paths_as_they_were_given() -> None:
    images = [Path("a.png"), Path("b.png"), Path("c.png")]
    broken = f"{Path('b.png').absolute()}: not an image."
    dataset = Blocks(
        [[[["dog", 0.75]], "", False], [[], broken, False]], [[[["cat", 0.5]], "", True]]
    )
    assert list(_ordered(dataset, images)) == [
        [
            Answer(path="a.png", guesses=(("dog", 0.75),)),
            Answer(path="b.png", error="b.png: not an image."),
        ],
        [Answer(path="c.png", guesses=(("cat", 0.5),), unknown=True)],
    ]


def test_an_error_that_ends_the_job_comes_after_the_answers_before_it() -> None:
    found = _ordered(
        Blocks([[[["dog", 1.0]], "", False]], ["no weights. Pass some."]), [Path("a.png")]
    )
    assert [one.path for one in next(found)] == ["a.png"]
    with pytest.raises(RunError, match=r"a worker of the Ray cluster: no weights\. Pass some\."):
        next(found)


def test_an_address_where_nothing_listens(saved: Path) -> None:
    pytest.importorskip("ray")
    found = answers(saved, EngineRequest(), [Path("x.png")], address="127.0.0.1:1")
    with (
        warnings.catch_warnings(action="ignore"),
        pytest.raises(RunError, match=r"ray=127\.0\.0\.1:1: .*Connection refused"),
    ):
        next(found)


@pytest.fixture
def cluster() -> Iterator[None]:
    """A local Ray with two cores, whatever this machine has; Ray warns about much."""
    ray = pytest.importorskip("ray")
    level = logging.root.level
    with warnings.catch_warnings(action="ignore"):
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )
        yield
        ray.shutdown()
    logging.root.setLevel(level)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.filterwarnings("ignore")
def test_two_workers_answer_as_one_process_and_continue(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the workers are elsewhere
    folder(Path("in"), 20)
    Path("in/down/1.png").write_text("no image")
    words = ["predict", "net.safetensors", "in", "--engine", "torch", "--batch", "1"]
    assert main([*words, "--out", "here.jsonl"]) == 2
    on_ray = [*words, "--out", "ray.jsonl", "--ray", "auto", "--workers", "2"]
    assert main(on_ray) == 2
    here, there = (Path(name).read_text().splitlines() for name in ("here.jsonl", "ray.jsonl"))
    assert len(here) == 60
    for one, other in zip(map(json.loads, here), map(json.loads, there), strict=True):
        assert one["probability"] == pytest.approx(other["probability"])
        assert (one["path"], one["class"]) == (other["path"], other["class"])
        assert one["error"] == other["error"]
    Path("ray.jsonl").write_text("".join(f"{line}\n" for line in there[:23]) + '{"path": "in/')
    capsys.readouterr()
    assert main(on_ray) == 2
    assert "23 of 60 images answered" in capsys.readouterr().err
    assert Path("ray.jsonl").read_text().splitlines() == there


def test_labels_of_a_multi_label_network_come_with_the_answers() -> None:
    answer = Answer(path="a.png", guesses=(("dog", 0.75),), labels=("dog",))
    none = Answer(path="b.png", guesses=(("dog", 0.25),), labels=())
    rows = [json.loads(json.dumps(_packed(one))) for one in (answer, none)]
    assert list(_ordered(Blocks([*rows]), [Path("a.png"), Path("b.png")])) == [[answer, none]]
    assert len(_packed(Answer(path="c.png"))) == 3
