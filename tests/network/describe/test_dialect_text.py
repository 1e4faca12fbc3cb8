"""What is said of each dialect is what its record says."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from forebear.network.describe.dialect_table import as_dicts
from forebear.network.describe.dialect_text import answers
from forebear.tables.dialects import DIALECTS, Dialect
from forebear.tables.preprocessing import Preprocessing

TORCHVISION_STRIDES = "3x3 (conv2) of the first unit; basic units: 3x3 (conv1)"


def facts(dialect: str) -> dict[str, str]:
    (topics,) = (found["facts"] for found in as_dicts([dialect]))
    return {question: answer for topic in topics.values() for question, answer in topic.items()}


@pytest.mark.parametrize(
    ("dialect", "question", "answer"),
    [
        # read in each library's source; tables/dialects.py names the versions
        ("slim-v1", "strided convolution", "3x3 (conv2) of the last unit"),
        ("slim-v1", "pool", "max-pool 3x3/2, padding SAME (0 and 1 on even maps)"),
        ("slim-v1", "running mean keeps", "0.997"),
        ("slim-v2", "root convolution", "7x7/2, padding 3"),
        ("slim-v2", "convolutions with a bias", "those without a norm"),
        ("slim-v2", "classes", "1001, background first"),
        ("slim-v2", "norm after the last block", "yes"),
        ("slim-alexnet", "root convolution", "11x11/4, padding 0, ReLU"),
        ("slim-alexnet", "convolutions with a bias", "all"),
        ("slim-alexnet", "epsilon", "-"),
        ("slim-alexnet", "strided convolution", "-"),
        ("keras-v1", "strided convolution", "1x1 (conv1) of the first unit"),
        ("keras-v1", "pool", "max-pool 3x3/2, padding 1"),
        ("keras-v1", "pool border", "zeros"),
        ("keras-v1", "convolutions with a bias", "all"),
        ("keras-v1", "epsilon", "1.001e-5"),
        ("keras-v1", "mean", "(103.939, 116.779, 123.68)"),
        ("keras-v1", "channel order", "BGR"),
        ("keras-v2", "strided convolution", "3x3 (conv2) of the last unit"),
        ("keras-v2", "scale", "1/127.5"),
        ("torchvision", "strided convolution", TORCHVISION_STRIDES),
        ("torchvision", "pool border", "-inf"),
        ("torchvision", "running mean keeps", "0.9"),
        ("torchvision", "resize and crop", "shorter side to 256, centre crop"),
        ("torchvision", "classes", "1000"),
        ("torchvision-alexnet", "root convolution", "11x11/4, padding 2, ReLU"),
        ("timm", "interpolation", "bicubic"),
        ("timm-v2", "logits stored as", "a 1x1 convolution"),
        ("paper-v1-a", "strided convolution", "3x3 (conv1) of the first unit"),
        ("paper-cifar", "pool", "-"),
        ("paper-cifar", "classes", "10"),
        ("keras2-v1", "classes", "-"),
    ],
)  # fmt: skip
def test_what_is_known_of_the_libraries(dialect: str, question: str, answer: str) -> None:
    assert facts(dialect)[question] == answer


def test_a_change_of_any_answer_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """No field of the record is left out: each other value changes a cell."""
    base = DIALECTS["keras2-v2"]
    other: dict[str, Any] = {
        "order": "post", "strided_unit": "first", "strided_conv": "conv1",
        "conv_padding": "same", "pool_padding": "same", "pool_fill": "lowest", "norm_eps": 1e-3,
        "norm_decay": 0.5, "norm_variance": "biased", "root_norm": True, "root_relu": True,
        "bias_before_norm": True, "bias_without_norm": False, "shortcut": "always",
        "shortcut_norm": True, "final_norm": False, "head": "conv", "init": "slim",
        "names": "cifar",
    }  # fmt: skip
    assert {*other} == {field.name for field in fields(Dialect)} - {
        "name", "background", "preprocessing"
    }  # fmt: skip
    shown = facts("keras2-v2")
    for field, value in other.items():
        monkeypatch.setitem(DIALECTS, "keras2-v2", replace(base, **{field: value}))
        assert facts("keras2-v2") != shown, field
    rule = base.preprocessing
    changed: dict[str, Any] = {
        "size": 64, "resize": "shorter", "interpolation": "bicubic", "order": "BGR", "scale": 1.0,
        "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5),
    }  # fmt: skip
    assert {*changed} == {field.name for field in fields(Preprocessing)} - {
        "side", "central", "levels", "width"
    }  # fmt: skip
    for field, value in changed.items():
        more = {"side": value} if field == "size" else {}
        mine = replace(base, preprocessing=replace(rule, **{field: value}, **more))
        monkeypatch.setitem(DIALECTS, "keras2-v2", mine)
        assert facts("keras2-v2") != shown, field


def test_answers_have_their_questions_words() -> None:
    for dialect in DIALECTS.values():
        for field, (asked, said) in answers(dialect).items():
            assert asked, field
            assert said, field
