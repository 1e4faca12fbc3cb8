"""What a search may try: parsed by the recipe's own types, limits and choices."""

from __future__ import annotations

import pytest

from forebear.tasks.tune.space import Dimension, default_space, parse_search, parse_searches


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("lr=0.01..0.3:log", Dimension(field="lr", low=0.01, high=0.3, log=True)),
        ("batch=8..64", Dimension(field="batch", low=8, high=64, whole=True)),
        ("mirror=random,none", Dimension(field="mirror", choices=("random", "none"))),
        ("nesterov=true,false", Dimension(field="nesterov", choices=(True, False))),
        ("batch=16,32", Dimension(field="batch", choices=(16, 32))),
    ],
)
def test_a_search_is_read_in_the_type_of_its_field(text: str, found: Dimension) -> None:
    assert parse_search(text) == found
    assert parse_search(found.text) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", "no field and values"),
        ("lrr=1,2", "Did you mean lr"),
        ("epochs=1..3", "not a field that a search can change"),
        ("lr=0..1", "expected a number above 0"),
        ("lr=0.3..0.1", "expected LOW below HIGH"),
        ("weight_decay=0..1:log", "and LOW above 0"),
        ("lr=0.1..0.2:linear", "expected no scale, or :log"),
        ("lr=a..b", "expected a number. Correct the value"),
        ("lr=nan,0.1", "expected a number above 0"),
        ("batch=1.5,2", "expected a whole number"),
        ("label_smoothing=0..1", "from 0 up to, but not including, 1"),
        ("optimizer=sgd,adamm", "Did you mean adam"),
        ("nesterov=yes,no", "expected true or false"),
        ("optimizer=a..b", "expected one of sgd"),
        ("lr=0.1,0.1", "two different values"),
    ],
)
def test_a_search_that_does_not_fit_is_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"--search .* [eE]xpected .*\.") as caught:
        parse_search(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_field_is_searched_once() -> None:
    with pytest.raises(ValueError, match="lr: given twice"):
        parse_searches(["lr=0.1,0.2", "lr=0.1..0.3"])


def test_the_default_space_lies_around_the_recipe() -> None:
    lr, decay, smoothing = default_space({"lr": 0.1, "weight_decay": 1e-4}, fine_tunes=True)
    assert (lr.field, lr.log) == ("lr", True)
    assert lr.low == pytest.approx(0.01)
    assert lr.high == pytest.approx(0.3)
    assert decay.low == pytest.approx(1e-5)
    assert decay.high == pytest.approx(1e-3)
    assert (smoothing.low, smoothing.high) == (0.0, 0.2)


def test_a_recipe_without_weight_decay_gets_none() -> None:
    space = default_space({"lr": 0.06, "weight_decay": 0.0}, fine_tunes=False)
    assert [one.field for one in space] == ["lr", "label_smoothing"]
    assert space[0].low == pytest.approx(0.012)
