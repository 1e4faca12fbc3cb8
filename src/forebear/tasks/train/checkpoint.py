"""What an unfinished run needs to go on: the network, the optimizer and the epoch, in one file.

safetensors, written whole after every epoch, with a SHA-256 of its arrays: a machine that stops in
the middle of writing leaves the one before.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from forebear.errors import RunError
from forebear.files import write_whole
from forebear.network.network import Network
from forebear.weights.files import digest

FORMAT = "forebear checkpoint 1"


def save_checkpoint(
    path: Path, network: Network, optimizer: torch.optim.Optimizer, *, epoch: int, seconds: float
) -> None:
    """Writes the state after an epoch, counted from 1, and the seconds that the run has taken."""
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in _state(network, optimizer).items()
    }
    state = json.dumps({"epoch": epoch, "seconds": seconds})
    metadata = {"format": FORMAT, "state": state, "sha256": digest(tensors)}
    write_whole(path, lambda partial: save_file(tensors, partial, metadata))


def load_checkpoint(
    path: Path, network: Network, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Fills the network and the optimizer; the epochs done, and the seconds they took.

    Raises:
        RunError: the file is missing, damaged, or of another run.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT or metadata.get("sha256") != digest(tensors):
            raise ValueError("its arrays are not those that were saved")
        state = json.loads(metadata["state"])
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        wanted = _state(network, optimizer)
        if wanted.keys() != tensors.keys():
            raise ValueError("it is of another network")
        with torch.no_grad():
            for name, tensor in wanted.items():
                tensor.copy_(tensors[name])
        return int(state["epoch"]), float(state["seconds"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise RunError(
            f"{path}: cannot be gone on from ({error}). Expected the checkpoint of an unfinished "
            "run. Train it again with --replace."
        ) from error


def _state(network: Network, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Every tensor that the run depends on, by name; those of the network and their momenta."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            momentum = optimizer.state[parameter]["momentum_buffer"]
            state[f"momentum.{names[id(parameter)]}"] = momentum
    return state
