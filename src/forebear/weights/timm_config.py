"""Refuses checkpoints of timm whose network differs from forebear's in what no array shows.

The sources are timm 1.0.31: ResNet in models/resnet.py, ResNetV2 in models/resnetv2.py, the names
of pools in layers/adaptive_avgmax_pool.py, and save_config_for_hf in models/_hub.py. Its train.py
keeps the name of the network in a checkpoint as `arch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from forebear.text import truncated
from forebear.weights.readers.errors import refused
from forebear.weights.readers.hub import HubArrays
from forebear.weights.readers.torch.state_dict import TorchArrays

# Networks with the arrays of another one, by the start of their name.
_STRANGERS = {
    "resnetaa": "subsamples with average pools",
    "resnetblur": "subsamples with blur pools",
}
_POOLS = ("avg", "fast", "fastavg")
# Arguments that the arrays show, or that do not matter in evaluation.
_SEEN = frozenset((
    "layers", "channels", "cardinality", "base_width", "width_factor", "bottle_ratio", "basic",
    "stem_width", "stem_chs", "replace_stem_pool", "block_reduce_first", "preact",
    "in_chans", "num_classes", "zero_init_last",
    "drop_rate", "drop_path_rate", "drop_block_rate",
))  # fmt: skip
# Arguments that the arrays do not show, with the only values of forebear's networks. No value, such
# as False or "", is timm's default.
_USUAL: Mapping[str, tuple[object, ...]] = {
    "act_layer": ("relu",),
    "norm_layer": ("batchnorm", "batchnorm2d"),
    "output_stride": (32,),
    "global_pool": _POOLS,
    "down_kernel_size": (1,),
}


def check_timm(arrays: Mapping[str, Any]) -> None:
    """Checks the name and the settings of timm's network, if a checkpoint has them.

    Raises:
        WeightsError: The network has the same arrays as one of forebear's, and another function.
    """
    if isinstance(arrays, TorchArrays):
        found, path = _of_name(arrays.architecture), arrays.path
    elif isinstance(arrays, HubArrays) and "architecture" in arrays.config.data:
        found, path = _of_config(arrays.config.data), arrays.path / "config.json"
    else:
        return
    what = next(found, None)
    if what is not None:
        expected = "a network with timm's usual settings, as its arrays do not show others"
        raise refused(path, what, expected, "Run it with timm.")


def _of_name(name: object) -> Iterator[str]:
    for start, difference in _STRANGERS.items():
        if isinstance(name, str) and name.startswith(start):
            yield f"this is timm's {truncated(name, 60)}, which {difference}"


def _of_config(config: Mapping[str, Any]) -> Iterator[str]:
    """Yields what differs, in words."""
    yield from _of_name(config["architecture"])
    given = config.get("model_args")
    settings = dict(given) if isinstance(given, dict) else {}
    if config.get("num_classes"):  # a body without logits is read with any pool
        settings.setdefault("global_pool", config.get("global_pool"))
    for name, value in settings.items():
        if name not in _SEEN and value and value not in _USUAL.get(name, ()):
            yield f"timm made its network with {truncated(name, 60)}={truncated(value, 60)}"
