"""Which kernels training uses on this processor, and why it does not use the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from forebear.hardware import processor
from forebear.network.kernels.grouped_conv import has_groups
from forebear.network.kernels.native import Library, built, library
from forebear.network.kernels.winograd import has_winograd


@dataclass(frozen=True, slots=True)
class Kernel:
    """A faster implementation of a part of a training step."""

    name: str
    used: bool
    why_not: str = ""  # the reason, if it is not used


def built_by() -> str:
    """Returns the compiler that built the kernels, and the levels; "" if they were not built."""
    try:
        record = built()
        levels = ", ".join(level.replace("_", "-") for level in record["levels"])
    except (OSError, ValueError, TypeError, KeyError):  # library() reports the reason
        return ""
    left_out = record.get("left_out", {})
    without = "".join(f"; without {level}: {why}" for level, why in left_out.items())
    return f"{record.get('compiler')} for {levels}{without}"


def kernels() -> tuple[Kernel, ...]:
    """Returns all kernels of forebear, and whether each one is used on this processor."""
    found = library()
    if isinstance(found, Library):
        missing = ""
        fp32 = "" if found.has_fma else f"needs level x86-64-v3; this processor has {found.level}"
        has_bf16 = torch.bfloat16 in found.groups
        bf16 = "" if has_bf16 else f"needs level avx512-bf16; this processor has {found.level}"
    else:
        missing = bf16 = fp32 = found
    tiles = bf16 or ("torch's own convolutions are faster with AMX" if processor().amx else "")
    return (
        Kernel("convolutions of small maps as matrix products", True),
        Kernel("fused batch norm, addition and activation", not missing, missing),
        Kernel("max-pool", not missing, missing),
        Kernel("Winograd 3x3 convolutions, bf16", has_winograd(), tiles),
        Kernel("Winograd 3x3 convolutions, fp32", not fp32, fp32),
        Kernel("3x3 convolutions in groups of 4 to 32 channels, bf16", has_groups(), bf16),
        Kernel("3x3 convolutions in groups of 4 to 32 channels, fp32", not fp32, fp32),
        Kernel("weight gradients of other convolutions, fp32", not fp32, fp32),
    )
