"""One step of training: a batch of images in, the weights moved once, the loss and the hits out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from forebear.errors import RunError
from forebear.network.network import Network
from forebear.tasks.machine.distributed import World
from forebear.tasks.train.data_parallel import DataParallel, synchronised
from forebear.tasks.train.loss import loss as losses_of
from forebear.tasks.train.optim.ema import EMA
from forebear.tasks.train.optim.factory import make_optimizer
from forebear.tasks.train.recipe import Recipe

Mode = Literal["off", "on", "graphs"]  # torch's own operations, compiled, or in CUDA graphs

PATIENCE = 3  # steps in a row that may be skipped for a loss or gradient that is not finite


class Stepper:
    """Moves the weights of a network by a recipe, and never by what is not finite.

    A step whose gradient holds NaN or infinity is left out: weights, momenta, running means and
    the average stay as they were, and it is counted.
    """

    def __init__(
        self,
        model: nn.Module,
        network: Network,
        recipe: Recipe,
        device: torch.device,
        world: World,
        *,
        mode: Mode = "off",
    ) -> None:
        """Takes the network as it is.

        Args:
            model: takes images, or the features that the logits start from, and gives logits.
            network: whose parameters move.
            recipe: how; its times are the caller's.
            device: where the images are.
            world: the processes that share every batch.
            mode: whether torch.compile runs the forward and the backward pass.
        """
        self.bare, self.network, self.recipe = model, network, recipe
        self.device, self.world = device, world
        if recipe.batch_norm == "sync" and world.size > 1:
            synchronised(network)
        world.broadcast([*network.parameters(), *network.buffers()])
        self.mode: Mode = mode
        self.together = DataParallel(_compiled(model, mode), world)
        self.optimizer = make_optimizer(network, recipe)
        self.average = EMA(network, recipe.ema, recipe.ema_every) if recipe.ema else None
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)
        self.in_row = torch.zeros((), dtype=torch.int64, device=device)
        self.buffers = [b for b in network.buffers() if b.is_floating_point()]
        self._counts = [b for b in network.buffers() if not b.is_floating_point()]
        self._kept, self._kept_counts = (
            [torch.empty_like(one) for one in some] for some in (self.buffers, self._counts)
        )
        self.drops = any(isinstance(module, nn.Dropout) for module in network.modules())

    def __call__(
        self, images: Tensor, targets: Tensor, labels: Tensor, *, total: int, share: float
    ) -> Tensor:
        """One step.

        Args:
            images: [n, C, H, W], this process' share.
            targets: [n] class numbers, or [n, classes] shares.
            labels: [n] class numbers, for the count of hits.
            total: pictures of the step over all processes.
            share: of every group's peak rate.

        Returns:
            [2] on the device: the sum of the plain losses of this share, and its hits.
        """
        if self.mode == "graphs":  # what the last step's graphs gave may now be written over
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        _copy(self._kept, self.buffers)
        _copy(self._kept_counts, self._counts)
        self.optimizer.zero_grad()
        seen = torch.zeros(3, device=self.device)
        parts = self.recipe.accumulate
        for number, part in enumerate(
            zip(*(one.tensor_split(parts) for one in (images, targets, labels)), strict=True), 1
        ):
            with self.together.part(last=number == parts):
                seen += self._part(part, total)
        self._move(seen)
        return seen[:2]

    def _part(self, part: tuple[Tensor, ...], total: int) -> Tensor:
        """[3] on the device: sums of the plain losses, of the hits, of what is minimised."""
        recipe, (images, targets, labels) = self.recipe, part
        with torch.autocast(self.device.type, torch.bfloat16, recipe.precision == "bf16"):
            logits = self.together(images)
        logits = logits.float()
        wanted = losses_of(logits, targets, recipe).sum()
        (wanted * (self.world.size / total)).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            plain = nn.functional.cross_entropy(logits, labels, reduction="sum")
            hits = (logits.argmax(1) == labels).sum().to(plain.dtype)
            return torch.stack((plain, hits, wanted.detach()))

    def _move(self, seen: Tensor) -> None:
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if self.recipe.clip:
            torch._foreach_mul_(gradients, (self.recipe.clip / (norm + 1e-6)).clamp(max=1.0))
        bad = ~norm.isfinite()
        if self.world.size == 1:  # else the mean of the gradients has to do, as all must agree
            bad |= ~self._finite(seen)
        self.skipped += bad
        self.in_row += 1
        self.in_row *= bad
        if self.device.type == "cpu":
            self._move_here(bool(bad))
        else:
            self._move_there(bad)

    def _move_here(self, bad: bool) -> None:
        """On the processor, whose numbers are at hand."""
        if bad:
            _copy(self.buffers, self._kept)
            _copy(self._counts, self._kept_counts)
            return
        self.optimizer.step()
        if self.average is not None:
            self.average.update()

    def _move_there(self, bad: Tensor) -> None:
        """On an accelerator, without waiting for it."""
        self.optimizer.found_inf = bad.to(torch.float32)  # type: ignore[attr-defined]
        self.optimizer.step()
        for some, kept in ((self.buffers, self._kept), (self._counts, self._kept_counts)):
            _copy(some, [torch.where(bad, k, b) for k, b in zip(kept, some, strict=True)])
        if self.average is not None:
            self.average.update()

    def _finite(self, seen: Tensor) -> Tensor:
        """Whether the losses are, and the running values: a variance can overflow alone."""
        good = seen.isfinite().all()
        if self.buffers:
            good &= torch.stack(torch._foreach_norm(self.buffers)).isfinite().all()
        return good

    def settle(self) -> None:
        """Puts the mean over all processes into running values that each has kept for itself."""
        if self.recipe.batch_norm == "own":
            buffers = dict(self.network.named_buffers())
            average = {} if self.average is None else self.average.state_dict()["values"]
            ours = [average[name] for name in buffers if name in average]
            self.world.all_reduce_mean(
                self.buffers + [one for one in ours if one.is_floating_point()]
            )

    def averaged(self) -> AbstractContextManager[None]:
        """Puts the average in the weights' place for a while, where there is one."""
        return nullcontext() if self.average is None else self.average.swapped()

    def look(self, step: int) -> None:
        """Ends a run whose steps are no longer finite; waits for the device.

        Raises:
            RunError: more than three steps in a row were left out.
        """
        if int(self.in_row) > PATIENCE:
            raise RunError(
                f"the loss or its gradient was not finite at {int(self.in_row)} steps in a row, up "
                f"to step {step}. Expected finite ones; none of these moved the weights, which are "
                f"saved. Try a smaller learning rate, --lr {self.recipe.lr / 4:g}, and look at the "
                "pictures with forebear check."
            )

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs: weights, running means, momenta, average.

        Raises:
            RunError: a weight, a running mean or an average is no longer finite.
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
                "and are not saved. Expected finite ones; the checkpoint before has them. Train "
                f"again with a smaller learning rate, --lr {self.recipe.lr / 4:g}."
            )

    def load(self, state: dict[str, Any]) -> None:
        """Takes in what `state` gave.

        Raises:
            ValueError, KeyError, RuntimeError: it is of another network or another recipe.
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

    def count(self, *, skipped: int, in_row: int = 0) -> None:
        """Sets the number of steps that were left out."""
        self.skipped.fill_(skipped)
        self.in_row.fill_(in_row)


def _compiled(model: nn.Module, mode: Mode) -> nn.Module:
    """The model to call in training; its parameters are the model's own."""
    if mode == "off":
        return model
    way = "reduce-overhead" if mode == "graphs" else "default"
    return cast(nn.Module, torch.compile(model, mode=way, dynamic=False))


def _copy(places: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    if places:
        torch._foreach_copy_(list(places), list(values))
