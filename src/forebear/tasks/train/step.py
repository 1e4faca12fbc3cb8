"""One step of training: a batch of images in, the weights moved once, the loss and the hits out."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from forebear.errors import RunError
from forebear.network.compiled import compiled
from forebear.network.network import Network
from forebear.tasks.machine.distributed import World
from forebear.tasks.train.data_parallel import DataParallel
from forebear.tasks.train.finite import FiniteGuard
from forebear.tasks.train.loss import hits, label_losses, plain_loss
from forebear.tasks.train.loss import loss as losses_of
from forebear.tasks.train.optim.ema import EMA
from forebear.tasks.train.optim.factory import make_optimizer
from forebear.tasks.train.recipe import Recipe

Mode = Literal["off", "on", "graphs"]  # torch's own operations, compiled, or in CUDA graphs


class Stepper:
    """Moves the weights of a network by a recipe, and never by what is not finite."""

    def __init__(
        self,
        model: nn.Module,
        network: Network,
        recipe: Recipe,
        device: torch.device,
        world: World,
        *,
        mode: Mode = "off",
        weights: Tensor | None = None,
    ) -> None:
        """Makes the optimizer and the moving average.

        Args:
            model: Takes images, or the features that the logits start from, and gives logits.
            network: Its parameters move. They are the same in all processes.
            recipe: How they move; the caller computes the learning rate of each step.
            device: Where the images are.
            world: The processes that share every batch.
            mode: Whether torch.compile runs the forward and the backward pass.
            weights: [classes] weights of the classes in the loss, or of the images that have the
                label if they have several; None for 1.
        """
        self.model, self.network, self.recipe = model, network, recipe
        self.device, self.world = device, world
        self.mode: Mode = mode
        self.weights = None if weights is None else weights.to(device)
        self.parallel = DataParallel(_compiled(model, mode), world)
        self.optimizer = make_optimizer(network, recipe)
        self.average = EMA(network, recipe.ema, recipe.ema_every) if recipe.ema else None
        self.guard = FiniteGuard(network, device)
        self.drops = any(isinstance(module, nn.Dropout) for module in network.modules())

    def __call__(
        self, images: Tensor, targets: Tensor, labels: Tensor, *, total: int, share: float
    ) -> Tensor:
        """Takes one step.

        Args:
            images: [n, C, H, W], this process's part of the batch.
            targets: [n] class indices, or [n, classes] probabilities.
            labels: [n] class indices, or [n, classes] of 0 and 1 of multi-label images, to count
                the correct predictions.
            total: Images of the step over all processes.
            share: Fraction of every group's peak learning rate.

        Returns:
            [2] on the device: the sum of the plain losses of this part, and its hits.
        """
        if self.mode == "graphs":  # the output of the last step's graphs may now be overwritten
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        self.guard.remember()
        self.optimizer.zero_grad()
        seen = torch.zeros(3, device=self.device)
        parts = self.recipe.accumulate
        for number, part in enumerate(
            zip(*(one.tensor_split(parts) for one in (images, targets, labels)), strict=True), 1
        ):
            with self.parallel.part(last=number == parts):
                seen += self._part(part, total)
        self._move(seen)
        return seen[:2]

    def _part(self, part: tuple[Tensor, ...], total: int) -> Tensor:
        """[3] on the device: sums of the plain losses, of the hits, of what is minimised."""
        recipe, (images, targets, labels) = self.recipe, part
        with torch.autocast(self.device.type, torch.bfloat16, recipe.precision == "bf16"):
            logits = self.parallel(images)
        logits = logits.float()
        if labels.ndim == 2:
            losses = label_losses(
                logits, targets, smoothing=recipe.label_smoothing, weights=self.weights
            )
        else:
            losses = losses_of(logits, targets, recipe, self.weights)
        wanted = losses.sum()
        (wanted * (self.world.size / total)).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            plain = plain_loss(logits, labels)
            right = hits(logits, labels).to(plain.dtype)
            return torch.stack((plain, right, wanted.detach()))

    def _move(self, seen: Tensor) -> None:
        """Moves the weights, unless the step is not finite; waits for the device on a CPU only."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if self.recipe.clip:
            torch._foreach_mul_(gradients, (self.recipe.clip / (norm + 1e-6)).clamp(max=1.0))
        bad = self.guard.judge(norm, seen if self.world.size == 1 else None)
        if self.device.type != "cpu":
            self.optimizer.found_inf = bad.to(torch.float32)  # type: ignore[attr-defined]
            self.optimizer.step()
            self.guard.restore_if(bad)
        elif bad:
            self.guard.restore()
            return
        else:
            self.optimizer.step()
        if self.average is not None:
            self.average.update()

    def unite_running_values(self) -> None:
        """Puts the mean over all processes into running values that each has kept for itself."""
        if self.recipe.batch_norm == "own":
            buffers = dict(self.network.named_buffers())
            average = {} if self.average is None else self.average.state_dict()["values"]
            ours = [average[name] for name in buffers if name in average]
            self.world.all_reduce_mean(
                self.guard.running + [one for one in ours if one.is_floating_point()]
            )

    def averaged(self) -> AbstractContextManager[None]:
        """Puts the moving average, if there is one, in the weights' place within the context."""
        return nullcontext() if self.average is None else self.average.swapped()

    def state(self) -> dict[str, Any]:
        """Returns all that a resumed run needs: weights, running values, momenta, average.

        Raises:
            RunError: A weight, a running value or an average is no longer finite.
        """
        self._refuse_infinite()
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
        }
        if self.average is not None:
            state["average"] = self.average.state_dict()
        return state

    def _refuse_infinite(self) -> None:
        state = dict(self.network.state_dict())
        if self.average is not None:
            state |= {f"average of {k}": v for k, v in self.average.state_dict()["values"].items()}
        bad = [name for name, value in state.items() if not bool(value.isfinite().all())]
        if bad:
            raise RunError(
                f"{bad[0]} and {len(bad) - 1} others of the network's arrays are no longer finite, "
                "and are not saved. Expected finite values; the checkpoint before has them. Train "
                f"again with a smaller learning rate, --lr {self.recipe.lr / 4:g}."
            )

    def load(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned.

        Raises:
            ValueError, KeyError, RuntimeError: It is of another network or another recipe.
        """
        self.network.load_state_dict(state["network"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict(
            {"state": state.get("optimizer", {}), "param_groups": groups}
        )
        if (self.average is None) != ("average" not in state):
            raise ValueError("it has another average of the weights")
        if self.average is not None:
            self.average.load_state_dict(state["average"])


def _compiled(model: nn.Module, mode: Mode) -> nn.Module:
    """The model to call in training; its parameters are the model's own."""
    if mode == "off":
        return model
    way = "reduce-overhead" if mode == "graphs" else "default"
    return compiled(model, mode=way)
