"""Steps that are left out because a gradient is not finite, without the host waiting for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def keep(gradients: Sequence[Tensor], found_inf: Tensor | None) -> Tensor | float:
    """1.0 for a step that counts, 0.0 for one that is left out, on the gradients' device.

    Whoever multiplies by the share and by `decay ** share` moves nothing in a step left out. The
    gradients are then zeros: no share makes a NaN finite.

    Args:
        gradients: zeroed in place where the step is left out.
        found_inf: 1.0 where one of them is not finite, else 0.0, as torch's fused optimizers take
            it; None counts the step.
    """
    if found_inf is None:
        return 1.0
    bad = found_inf.reshape(()).to(torch.bool)
    for gradient in gradients:
        gradient.masked_fill_(bad, 0.0)
    return 1.0 - found_inf.reshape(())
