"""Whether the two networks are in balance: what is measured while they train, and what is done when they are not.

Shapes: B images, C channels, H and W their sides.
"""

from __future__ import annotations

import copy
import logging
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.dcgan.watches import AFTER, COLLAPSED, PATIENCE
from zoo.shared.distributed import data_world_size, first_process, total
from zoo.shared.errors import UserError

log = logging.getLogger("zoo")

OnCollapse = Literal["warn", "stop", "rollback"]

_COMPARED = 64  # images whose pairwise distances are taken
_SOUND = 1.5  # so many times the bound a state must have to be worth going back to
_ROLLBACKS = 5  # at most; each takes half of the rate
_SATURATED = 0.99


@torch.no_grad()
def diversity(fake: Tensor, real: Tensor) -> Tensor:
    """Mean distance between two generated images over that between two real ones; 0 when all are the same.

    Args:
        fake: Generated images ``(B, C, H, W)``; the first 64 count.
        real: Real ones.
    """
    spread = [torch.pdist(x[:_COMPARED].flatten(1).float()).mean() for x in (fake, real)]
    return spread[0] / spread[1].clamp_min(1e-12)


@torch.no_grad()
def saturation(fake: Tensor, real: Tensor) -> Tensor:
    """Share of generated pixels beyond 0.99 less that of real ones: far above 0, the tanh is at its ends."""
    return (fake.abs() > _SATURATED).float().mean() - (real.abs() > _SATURATED).float().mean()


class Guard:
    """Notices a collapse, and keeps the last healthy state to go back to.

    Args:
        on_collapse: ``warn`` (the watches do), ``stop``, or ``rollback``: put weights and moments back to the last
            healthy state, halve both rates, and go on with the data that comes next.

    Attributes:
        rollbacks: How often it has gone back.
    """

    def __init__(self, on_collapse: OnCollapse) -> None:
        self.on_collapse = on_collapse
        self.rollbacks = 0
        self._low = 0  # measurements in a row that were too low
        self._healthy: dict[str, Any] | None = None

    def look(self, step: int, value: Tensor, model: nn.Module, optimizers: list[Optimizer]) -> None:
        """Take one measurement of the diversity; every process must.

        Args:
            step: The run's step.
            value: Diversity on this process.
            model: Both networks.
            optimizers: Of both.

        Raises:
            UserError: It has collapsed and is to stop, or going back has not helped.
        """
        if self.on_collapse == "warn" or step <= AFTER:
            return
        mean = float(total(value.detach().clone())) / data_world_size()
        if math.isfinite(mean) and mean >= COLLAPSED:
            self._low = 0
            if self.on_collapse == "rollback" and mean >= _SOUND * COLLAPSED:
                self._healthy = {"step": step, **_copy(model, optimizers)}
            return
        self._low += 1
        if self._low < PATIENCE:
            return
        self._low = 0
        told = f"step {step}: the generator has collapsed (diversity {mean:.2f} of the real images')"
        if self.on_collapse == "stop" or self._healthy is None:
            none = "" if self.on_collapse == "stop" else ", and there was no healthy state to go back to"
            raise UserError(f"{told}{none}; lower --task.lr, use larger batches, or --on-collapse rollback")
        if self.rollbacks == _ROLLBACKS:
            raise UserError(f"{told} again after {_ROLLBACKS} rollbacks; lower --task.lr or use larger batches")
        self.rollbacks += 1
        _restore(self._healthy, model, optimizers, factor=0.5**self.rollbacks)
        if first_process():
            rates = ", ".join(f"{optimizer.param_groups[0]['lr']:.3g}" for optimizer in optimizers)
            log.warning("%s; back to step %d with rates %s", told, self._healthy["step"], rates)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"rollbacks": self.rollbacks, "low": self._low, "healthy": self._healthy}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.rollbacks, self._low, self._healthy = state["rollbacks"], state["low"], state["healthy"]


def _copy(model: nn.Module, optimizers: list[Optimizer]) -> dict[str, Any]:
    """Weights, moments and the rates that the run began with."""
    state = {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    return copy.deepcopy(state)


def _restore(state: dict[str, Any], model: nn.Module, optimizers: list[Optimizer], *, factor: float) -> None:
    model.load_state_dict(state["model"])
    for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(copy.deepcopy(kept))
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
