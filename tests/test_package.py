from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

import forebear
from forebear.tasks.evaluate import Evaluation

SOURCE = Path(forebear.__file__).parent
# What a package may import of the others: style's "tables -> network -> tasks -> cli", with
# weights and data feeding tasks, and engines between them. All may import the modules beside the
# packages.
BASE = {
    "errors",
    "files",
    "hardware",
    "limits",
    "safe_unpickle",
    "settings",
    "text",
    "untrusted",
    "version",
}
BEFORE = {
    "tables": BASE,
    "network": BASE | {"tables"},
    "weights": BASE | {"tables", "network"},
    "data": BASE | {"tables"},
    "engines": BASE | {"tables", "network", "weights", "data"},
    "tasks": BASE | {"tables", "network", "weights", "data", "engines"},
    "cli": BASE | {"tables", "network", "weights", "data", "engines", "tasks"},
    **{name: {"errors", "limits", "text", "untrusted"} for name in BASE},
}
LATE = {"network/network.py": {"data", "engines"}}  # imported by its methods when called


def imports(source: str) -> set[str]:
    """The parts of forebear that a module imports; "" stands for the whole package."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "forebear":
            names = [f"forebear.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            if name == "forebear" or name.startswith("forebear."):
                found.add(name.partition(".")[2].partition(".")[0])
    return found


def test_every_form_of_import_is_seen() -> None:
    text = "import forebear\nfrom forebear import data\nimport forebear.tasks.check as c\n"
    text += "def late() -> None:\n    from forebear.network.plan import plan\nimport os\n"
    assert imports(text) == {"", "data", "tasks", "network"}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.stem)
def test_imports_point_back_along_the_line(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    late = LATE.get(path.relative_to(SOURCE).as_posix(), set())
    if own in BEFORE:
        assert imports(path.read_text()) - late <= BEFORE[own] | {own}


def test_every_public_name_is_there_and_sorted() -> None:
    assert list(forebear.__all__) == sorted(forebear.__all__)
    assert all(getattr(forebear, name) is not None for name in forebear.__all__)
    with pytest.raises(AttributeError, match="no attribute 'creat'"):
        _ = forebear.creat


def test_an_older_public_name_works_and_names_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match=r"forebear\.Request is now forebear\.TrainConfig"):
        assert forebear.Request is forebear.TrainConfig


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["list"],
        ["train", "--help"],
        ["predict", "--help"],
        ["features", "--help"],
        ["explain", "--help"],
        ["evaluate", "--help"],
        ["check", "--help"],
        ["calibrate", "--help"],
    ],
)
def test_help_and_list_do_not_import_torch(words: list[str]) -> None:
    program = (
        "import sys\nfrom forebear.cli.main import main\n"
        f"try: main({words!r})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'PIL', 'matplotlib', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "forebear" in done.stdout or "slim/" in done.stdout


@pytest.mark.long
def test_training_from_python_gives_the_result_and_the_folder(tmp_path: Path) -> None:
    request = forebear.TrainConfig(
        data="digits", network="paper/resnet20", epochs=2, threads=1, out=tmp_path / "run"
    )
    outcome = forebear.train(request)
    assert outcome.folder == tmp_path / "run"
    assert outcome.validation.images == 359
    assert isinstance(outcome.validation, Evaluation)
    assert outcome.validation.top1 > 0.5
    assert outcome.test is None
    network = forebear.load(outcome.folder / "model.safetensors")
    assert network.classes == tuple("0123456789")
    with pytest.raises(forebear.RunError, match="is finished"):
        forebear.resume(outcome.folder)


@pytest.mark.long
def test_training_in_a_thread_of_its_own_leaves_signals_alone(tmp_path: Path) -> None:
    found = []

    def work() -> None:
        request = forebear.TrainConfig(
            data="digits", network="paper/resnet20", epochs=1, out=tmp_path / "run"
        )
        found.append(forebear.train(request).validation.images)

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert found == [359]
