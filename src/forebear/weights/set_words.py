"""The words by which checkpoints tell apart what they hold: raw weights, averages, other things."""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_AVERAGES = _words(
    """
    ema model_ema state_dict_ema ema_state_dict ema_model ema_weights ema_params averaged average
    averaged_model avg swa swa_model swa_state_dict shadow shadow_params teacher teacher_model
    encoder_k momentum_encoder key_encoder target target_encoder target_network polyak mean_teacher
    exponentialmovingaverage
    """
)
_AVERAGE = re.compile(r"(?:^|_)(?:ema|swa|teacher|momentum|averaged|averages)(?:_|$)")
# Dicts and modules that belong to training.
_BESIDE = re.compile(
    r"^(?:optim\w*|opt|opt_\w+|lr_?sched\w*|sched\w*|scaler|amp\w*|grad_scaler|loops?|callbacks?"
    r"|metrics?|message_hub|loss\w*|rng\w*|random\w*|history|args|config|hparams"
    r"|hyper_parameters)(?:_states?|_dict)?$"
)
# Encoders of contrastive learning, whose last layer is a projection and no classifier.
_CONTRASTIVE = _words(
    """
    encoder_q encoder_k base_encoder momentum_encoder query_encoder key_encoder online_encoder
    target_encoder online_network target_network
    """
)
_PROJECTIONS = _words(
    """
    projection_head projection projector prototypes predictor proj_head projection_mlp queue
    """
)


def is_average(part: str) -> bool:
    """Whether one part of a name says that the arrays below are averages of others."""
    low = part.lower()
    return low in _AVERAGES or _AVERAGE.search(low) is not None


def is_beside(part: str) -> bool:
    """Whether one part of a name says that the arrays below belong to training."""
    return _BESIDE.match(part.lower()) is not None


def is_contrastive(part: str) -> bool:
    """Whether one part of a name is that of an encoder whose last layer is a projection."""
    return part.lower() in _CONTRASTIVE


def is_projection(part: str) -> bool:
    """Whether one part of a name is that of layers which only contrastive learning uses."""
    return part.lower() in _PROJECTIONS
