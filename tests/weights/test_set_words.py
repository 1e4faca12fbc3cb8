"""Words tell averages, projections and the rest of a training from weights."""

from __future__ import annotations

import pytest

from forebear.weights.set_words import is_average, is_beside, is_contrastive, is_projection


@pytest.mark.parametrize(
    ("asks", "those", "others"),
    [
        (
            is_average,
            "ema model_ema ema_model state_dict_ema EMA teacher teacher_model encoder_k swa_model "
            "momentum_encoder net_ema ExponentialMovingAverage target_network",
            "state_dict model net student encoder_q schema emanate module temperature",
        ),
        (
            is_beside,
            "optimizer optimizer_state_dict optimizer_states optim lr_scheduler scheduler scaler "
            "amp_scaler callbacks loops hyper_parameters args metrics message_hub",
            "model state_dict net options head layer1 operator",
        ),
        (is_contrastive, "encoder_q encoder_k base_encoder online_network", "encoder teacher"),
        (is_projection, "projection_head prototypes projector queue", "head fc classifier"),
    ],
)
def test_words_are_told_apart(asks: object, those: str, others: str) -> None:
    assert callable(asks)
    assert [word for word in those.split() if not asks(word)] == []
    assert [word for word in others.split() if asks(word)] == []
