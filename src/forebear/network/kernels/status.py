"""Which kernels a training step uses on this processor, and why it does without the others."""

from __future__ import annotations

from dataclasses import dataclass

from forebear.hardware import processor
from forebear.network.kernels.grouped_conv import has_groups
from forebear.network.kernels.native import Library, built, library
from forebear.network.kernels.winograd import has_winograd


@dataclass(frozen=True, slots=True)
class Kernel:
    """A faster way through a part of a training step."""

    name: str
    used: bool
    why_not: str = ""  # where it is not used


def built_by() -> str:
    """The compiler that built the kernels, and for which levels; "" where they were not built."""
    try:
        record = built()
        levels = ", ".join(level.replace("_", "-") for level in record["levels"])
    except (OSError, ValueError, TypeError, KeyError):  # library() says what is wrong
        return ""
    left_out = record.get("left_out", {})
    without = "".join(f"; without {level}: {why}" for level, why in left_out.items())
    return f"{record.get('compiler')} for {levels}{without}"


def kernels() -> tuple[Kernel, ...]:
    """The kernels that forebear has for a processor, each with whether it is used here."""
    found = library()
    if isinstance(found, Library):
        missing = ""
        bf16 = "" if found.bf16 else f"needs level avx512-bf16; this one is {found.level}"
    else:
        missing = bf16 = found
    tiles = bf16 or ("AMX makes torch's own convolutions faster" if processor().amx else "")
    return (
        Kernel("products in place of convolutions on small maps", True),
        Kernel("batch norm, addition and activation in one", not missing, missing),
        Kernel("max-pool", not missing, missing),
        Kernel("3x3 convolutions by Winograd's method, bf16", has_winograd(), tiles),
        Kernel("convolutions in groups of 4 to 32 channels, bf16", has_groups(), bf16),
    )
