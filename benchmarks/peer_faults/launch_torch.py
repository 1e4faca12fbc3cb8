"""Runs a torch script in a process of its own, for torchrun: `launch_torch.py SCRIPT WORDS`.

Both scripts take distributed training to mean GPUs. So that they run on a CPU at all, the calls
that only a GPU can answer are replaced here: DDP gets no device_ids, NCCL becomes gloo, and
tensors for "cuda" are made on the CPU.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from peer_faults.children import run_script
from peer_faults.peers import allow_namespace, fit_torch_here


def on_cpu() -> None:
    import torch
    import torch.distributed as dist

    wrapped, tensor, start = (
        torch.nn.parallel.DistributedDataParallel,
        torch.tensor,
        (dist.init_process_group),
    )
    begin = wrapped.__init__

    def plain(self: Any, module: Any, device_ids: Any = None, **more: Any) -> None:
        begin(self, module, **more)

    def made(*values: Any, device: Any = None, **more: Any) -> Any:
        return tensor(*values, device="cpu" if str(device) == "cuda" else device, **more)

    def joined(*words: Any, backend: str = "gloo", **more: Any) -> None:
        start(*words, backend="gloo", **more)

    wrapped.__init__ = plain
    torch.tensor = made  # type: ignore[assignment]
    torch.cuda.set_device = lambda device: None
    dist.init_process_group = joined


if __name__ == "__main__":
    fit_torch_here()
    on_cpu()
    run_script(Path(sys.argv[1]), sys.argv[2:], allow_namespace)
