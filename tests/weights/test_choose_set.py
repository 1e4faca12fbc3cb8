"""Of several sets of weights those are taken that a trainer evaluates, or that are asked for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

import forebear
from forebear import WeightsError
from tests.weights.forms import body, head, is_ours, logits, saved, shifted, state, under

# Files with raw and averaged weights: the content, and the name of the averages in it.
TWO: dict[str, tuple[Any, str]] = {
    "timm": (
        {"state_dict": state(), "state_dict_ema": shifted(), "args": argparse.Namespace(a=1)},
        "state_dict_ema",
    ),
    "torchvision": ({"model": state(), "model_ema": under("module.", shifted())}, "model_ema"),
    "averages first": ({"ema": shifted(), "net": state()}, "ema"),
    "students": ({"student": state(), "teacher": shifted()}, "teacher"),
    "one dict": ({"state_dict": state() | under("ema_model.", shifted())}, "ema_model"),
    "two prefixes": (under("model.", state()) | under("teacher_model.", shifted()), "ema"),
}


@pytest.mark.parametrize("form", TWO)
@pytest.mark.long
def test_averages_are_taken_and_raw_weights_on_request(form: str, tmp_path: Path) -> None:
    content, average = TWO[form]
    path = saved(tmp_path, content)
    taken = forebear.load(path)
    assert "the file also has other weights: --which" in taken.card.provenance["notes"]
    raw = forebear.load(path, which="raw")
    assert is_ours(raw)
    assert "the file also has averages: --which" in raw.card.provenance["notes"]
    for which in (None, average, "ema"):
        other = forebear.load(path, which=which)
        assert not is_ours(other)
        again = forebear.load("paper/resnet20", weights=path, which=which)
        assert torch.equal(logits(other), logits(again))


def test_an_unknown_choice_lists_what_is_there(tmp_path: Path) -> None:
    path = saved(tmp_path, TWO["timm"][0])
    for words in ({"what": path}, {"what": "paper/resnet20", "weights": path}):
        with pytest.raises(WeightsError, match=r"Expected one of raw, state_dict_ema\.") as caught:
            forebear.load(**words, which="best")
        assert str(caught.value).startswith(f"{path}: which='best': there are no such weights.")


def test_two_different_networks_are_never_chosen_between_silently(tmp_path: Path) -> None:
    path = saved(tmp_path, {"netA": state(), "netB": shifted()})
    with pytest.raises(WeightsError, match=r"2 sets of weights fit. Expected one of netA, netB\."):
        forebear.load(path)
    assert is_ours(forebear.load(path, which="netA"))
    assert not is_ours(forebear.load(path, which="netB"))


def test_one_network_under_two_names_is_no_choice(tmp_path: Path) -> None:
    twice = under("module.model.", state()) | under("module.attacker.model.", state())
    path = saved(tmp_path, {"model": twice, "epoch": 3})
    assert is_ours(forebear.load(path))
    assert is_ours(forebear.load("paper/resnet20", weights=path))


def test_the_last_layer_of_a_contrastive_encoder_is_no_classifier(tmp_path: Path) -> None:
    tensors = under("module.encoder_q.", state()) | under("module.encoder_k.", shifted())
    path = saved(tmp_path, {"state_dict": tensors | {"module.queue": torch.ones(5, 9)}})
    found = forebear.load(path)
    assert found.plan.num_classes is None
    notes = found.card.provenance["notes"]
    assert "--which encoder_k" in notes
    assert "no classifier taken: state_dict.encoder_q.linear.weight" in notes
    key = forebear.load(path, which="encoder_k")
    assert not torch.equal(logits(found), logits(key))


def test_what_was_left_and_left_unbuilt_is_said(tmp_path: Path) -> None:
    weights = under("backbone.", body()) | head("head.fc") | {"data.mean": torch.ones(3)}
    content = {
        "state_dict": weights,
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(4)}}},
        "args": argparse.Namespace(lr=0.1),
    }
    notes = forebear.load(saved(tmp_path, content)).card.provenance["notes"]
    assert notes == (
        "took 116 arrays of state_dict.backbone; left: data (1), optimizer (1); "
        "left unbuilt: argparse.Namespace"
    )


def test_a_plain_file_needs_no_note(tmp_path: Path) -> None:
    assert "notes" not in forebear.load(saved(tmp_path, {"net": state()})).card.provenance
