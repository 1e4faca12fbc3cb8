from __future__ import annotations

import inspect
import warnings

import pytest
import torch
from torch import nn

from forebear.network.compiled import TF32, compiled

# torch.compile imports what torch itself calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning")


def test_a_compiled_module_shares_its_parameters() -> None:
    model = nn.Linear(2, 3)
    assert [*compiled(model).parameters()] == [*model.parameters()]


def test_the_advice_on_tf32_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import compile_fx

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    advice = inspect.unwrap(compile_fx._warn_tf32_disabled)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        advice()
        assert [str(one.message).startswith(TF32) for one in shown] == [True]
        compiled(nn.Linear(2, 3))
        advice()
    assert len(shown) == 1
