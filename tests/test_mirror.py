"""Tests mirror src: every module of some size has a test file of its name, or an entry here."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

import forebear
from forebear.cli.main import VERBS

SOURCE = Path(forebear.__file__).parent
TESTS = Path(__file__).parent
SMALL = 30  # lines of code of a module that needs no tests of its own

# Modules that are tested by files of other names: end to end, or together with others. The files
# import the module, or other modules that do.
TESTED_IN = {
    "__init__.py": "test_package.py",
    "cli/evaluation_flags.py": "cli/test_evaluate.py",
    "cli/evaluate_labels.py": "cli/test_multi_label.py",
    "cli/image_bar.py": "cli/test_predict.py",
    "cli/image_paths.py": "cli/test_predict.py",
    "data/dataset.py": "data/test_reading.py",
    "data/decoder.py": "data/test_pixel_store.py",
    "data/decoding_threads.py": "data/test_reading.py",
    "data/feature_loader.py": "tasks/train/test_crash.py",
    "data/pixel_cache.py": "data/test_pixel_store.py",
    "data/sources/shard_members.py": "data/sources/test_webdataset.py",
    "data/sample_levels.py": "data/images/test_flatten.py",
    "engines/engine.py": "engines/test_onnxruntime_engine.py",
    "cli/quantize.py": "tasks/test_quantize.py",
    "limits.py": "test_docs.py",
    "network/kernels/status.py": "network/kernels/test_native.py",
    "network/plan/naming_schemes.py": "network/plan/test_layer_names.py",
    "tasks/calibrate.py": "cli/test_calibrate.py",
    "tasks/engines.py": "cli/test_engines.py",
    "tasks/evaluation_batches.py": "tasks/test_label_evaluation.py",
    "tasks/serve/server.py": "cli/test_serve.py",
    "tasks/serve/service.py": "tasks/serve/test_app.py",
    "tasks/feature_file.py": "tasks/test_features.py",
    "tasks/job_files.py": "tasks/test_result_file.py",
    "tasks/machine/distributed.py": "tasks/train/test_world.py",
    "tasks/train/api.py": "tasks/train/test_crash.py",
    "tasks/train/artifacts.py": "tasks/train/test_crash.py",
    "tasks/train/budget/timing_cache.py": "tasks/train/budget/test_timing.py",
    "tasks/train/data_parallel.py": "tasks/train/test_world.py",
    "tasks/train/input_config.py": "tasks/train/test_resolve.py",
    "tasks/train/input_pipeline.py": "tasks/train/test_out_of_memory.py",
    "tasks/train/loop.py": "tasks/train/test_crash.py",
    "tasks/train/machine_config.py": "tasks/train/test_request.py",
    "tasks/train/optim/lamb.py": "tasks/train/optim/test_factory.py",
    "tasks/train/optim/muon.py": "tasks/train/optim/test_factory.py",
    "tasks/train/prepare.py": "tasks/train/test_crash.py",
    "tasks/train/recipe.py": "tasks/train/test_recipe_files.py",
    "tasks/train/resume/restore.py": "tasks/train/test_crash.py",
    "tasks/train/setup.py": "tasks/train/test_crash.py",
    "tasks/train/trainer.py": "tasks/train/test_crash.py",
    "tasks/train/validate.py": "tasks/train/test_crash.py",
    "weights/writers/hub_folder.py": "weights/writers/test_timm_folder.py",
    "weights/writers/keras_model.py": "tasks/test_convert.py",
    "weights/catalog_files.py": "weights/test_catalog_rows.py",
    "weights/graphs/chain.py": "weights/test_onnx_graph.py",
    "weights/graphs/compare.py": "weights/test_onnx_graph.py",
    "weights/graphs/facts.py": "weights/test_onnx_graph.py",
    "weights/graphs/fill.py": "weights/test_onnx_graph.py",
    "weights/graphs/head.py": "weights/test_onnx_graph.py",
    "weights/graphs/image.py": "weights/test_onnx_graph.py",
    "weights/graphs/layers.py": "weights/test_onnx_graph.py",
    "weights/graphs/links.py": "weights/test_onnx_graph.py",
    "weights/graphs/match.py": "weights/test_onnx_graph.py",
    "weights/graphs/read_graph.py": "weights/test_onnx_graph.py",
    "weights/graphs/walk.py": "weights/test_onnx_graph.py",
    "weights/readers/caffe/graph.py": "weights/readers/caffe/test_caffe_file.py",
    "weights/readers/caffe/layers.py": "weights/readers/caffe/test_caffe_file.py",
    "weights/readers/mxnet/gluon.py": "weights/readers/mxnet/test_mxnet_file.py",
    "weights/readers/mxnet/graph.py": "weights/readers/mxnet/test_mxnet_file.py",
    "weights/readers/torch7/graph.py": "weights/readers/torch7/test_torch7_file.py",
    "weights/readers/torch7/objects.py": "weights/readers/torch7/test_torch7_file.py",
    "weights/readers/onnx/records.py": "weights/readers/onnx/test_onnx_file.py",
    "weights/readers/onnx/tensors.py": "weights/readers/onnx/test_onnx_file.py",
}


def code_lines(source: str) -> int:
    """The lines of a module without comments, docstrings and empty ones."""
    strings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            strings |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    empty = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in empty | {tokenize.ENDMARKER}:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - strings)


def imported(source: str) -> set[str]:
    """The modules, or their names, that a file imports anywhere: "forebear.errors.DataError"."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@cache
def imports_of(file: Path) -> frozenset[str]:
    """What a file imports; each file is parsed once."""
    return frozenset(imported(file.read_text("utf-8")))


def paths() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


@cache
def modules() -> Mapping[str, Path]:
    """The file of every module of forebear by its name, without the package's own."""
    files = {path: ".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in paths()}
    return {f"forebear.{name.removesuffix('.__init__')}": path for path, name in files.items()}


def reaches(test: Path, module: Path) -> bool:
    """Whether a test file imports a module, or other modules of forebear that import it."""
    if module == SOURCE / "__init__.py":  # it imports everything
        return "forebear" in imports_of(test)
    seen: set[Path] = set()
    files = [test]
    for file in files:  # the loop appends to the list
        names = imports_of(file)
        if file == SOURCE / "cli/main.py":  # it imports a verb's module by name
            names |= {f"forebear.cli.{verb}" for verb in VERBS}
        for found in {modules()[name] for name in names if name in modules()} - seen:
            seen.add(found)
            files.append(found)
    return module in seen


def faults(sizes: Mapping[str, int], tests: set[str], tested_in: Mapping[str, str]) -> list[str]:
    """What is wrong with the tests' names.

    Args:
        sizes: The lines of code of each module.
        tests: The test files there are.
        tested_in: The files that test modules without one of their name.
    """
    found = []
    for module, size in sizes.items():
        folder, _, name = module.rpartition("/")
        own = f"{folder}/test_{name}" if folder else f"test_{name}"
        if own in tests and module in tested_in:
            found.append(f"{module}: tests/{own} exists. Remove the entry of TESTED_IN.")
        elif size > SMALL and own not in tests and module not in tested_in:
            found.append(f"{module}: no tests. Expected tests/{own}, or an entry in TESTED_IN.")
        elif size <= SMALL and module in tested_in:
            found.append(f"{module}: it has {size} lines of code. Remove the entry of TESTED_IN.")
    found += [
        f"{module}: no such module. Remove the entry of TESTED_IN."
        for module in tested_in
        if module not in sizes
    ]
    found += [
        f"{module}: tests/{file} does not exist. Correct the entry of TESTED_IN."
        for module, file in tested_in.items()
        if file not in tests
    ]
    return found


def test_every_module_has_tests_of_its_name_or_an_entry() -> None:
    sizes = {
        path.relative_to(SOURCE).as_posix(): code_lines(path.read_text("utf-8")) for path in paths()
    }
    tests = {path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")}
    assert faults(sizes, tests, TESTED_IN) == []


@pytest.mark.parametrize("module", TESTED_IN)
def test_an_entry_names_a_file_that_uses_the_module(module: str) -> None:
    assert reaches(TESTS / TESTED_IN[module], SOURCE / module)


def test_a_file_that_does_not_use_a_module_is_seen() -> None:
    assert not reaches(TESTS / "test_text.py", SOURCE / "network/units.py")
    assert reaches(TESTS / "test_text.py", SOURCE / "text.py")
    assert reaches(TESTS / "network/making.py", SOURCE / "errors.py")  # by way of tables/rows.py


def test_only_code_counts() -> None:
    text = '"""Doc\n\nof it."""\n\n# why\nX = (\n    1,\n)\n\n\ndef f() -> None:\n    """Doc."""\n'
    assert code_lines(text) == 4


def test_every_fault_is_named() -> None:
    sizes = {"a/one.py": 31, "a/two.py": 31, "three.py": 30, "four.py": 99, "five.py": 40}
    tests = {"a/test_one.py", "test_four.py", "test_other.py"}
    entries = {"four.py": "test_other.py", "three.py": "test_other.py", "gone.py": "test_none.py"}
    assert faults(sizes, tests, entries) == [
        "a/two.py: no tests. Expected tests/a/test_two.py, or an entry in TESTED_IN.",
        "three.py: it has 30 lines of code. Remove the entry of TESTED_IN.",
        "four.py: tests/test_four.py exists. Remove the entry of TESTED_IN.",
        "five.py: no tests. Expected tests/test_five.py, or an entry in TESTED_IN.",
        "gone.py: no such module. Remove the entry of TESTED_IN.",
        "gone.py: tests/test_none.py does not exist. Correct the entry of TESTED_IN.",
    ]
    assert faults(sizes, tests | {"a/test_two.py", "test_five.py"}, {}) == []
