"""Gradients and losses of a run, written down for comparison."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from zoo.shared.files import save_atomically

_BARELY = 1e-3  # tensors whose gradient is a smaller share of the whole are measured against this share


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What a :class:`Tape` wrote.

    Attributes:
        gradients: By step from 0: name of the parameter to its gradient.
        losses: By step from 0: the mean of the logged loss over the step's batches.
    """

    gradients: list[dict[str, Tensor]]
    losses: list[float]


class Tape(Callback):
    """Writes down the gradient that each optimiser step gets, whole, whatever it is sharded over.

    Args:
        path: The file, written by the first process at the end.
        frozen: Take the gradients away after writing them down, so that all steps are taken at the same weights.
    """

    def __init__(self, path: Path, *, frozen: bool = False) -> None:
        self.path = path
        self.frozen = frozen
        self.gradients: defaultdict[int, dict[str, Tensor]] = defaultdict(dict)
        self.losses: defaultdict[int, list[float]] = defaultdict(list)
        self._step = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Remember which step this batch belongs to."""
        self._step = trainer.global_step

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Write the gradient down."""
        mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in pl_module.named_parameters():
            if id(parameter) in mine and parameter.grad is not None:
                self.gradients[self._step][name] = whole(parameter.grad).clone()
                if self.frozen:
                    parameter.grad = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Write the loss down."""
        self.losses[self._step].append(float(trainer.callback_metrics["train/loss"]))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        if trainer.is_global_zero:
            record = {"gradients": dict(self.gradients), "losses": dict(self.losses)}
            save_atomically(self.path, lambda to: torch.save(record, to))


def whole(x: Tensor) -> Tensor:
    """All of a tensor that may be sharded. Every process must call this."""
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def read(path: Path) -> Recording:
    """What a tape wrote."""
    record = torch.load(path, weights_only=True)
    steps = sorted(record["losses"])
    return Recording(
        gradients=[record["gradients"].get(step, {}) for step in steps],
        losses=[sum(record["losses"][step]) / len(record["losses"][step]) for step in steps],
    )


def distance(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    """Largest norm of a difference over the norm of the tensor, over all tensors.

    Some gradients are nothing but rounding (that of the keys' bias, which softmax ignores); a tensor counts with at
    least a thousandth of the norm of all of them.

    Returns:
        Not-a-number when the names or shapes differ.
    """
    if one.keys() != two.keys() or not one or any(one[name].shape != two[name].shape for name in one):
        return float("nan")
    norms = {name: float(one[name].double().norm()) for name in one}
    least = _BARELY * sum(norm**2 for norm in norms.values()) ** 0.5
    return largest(
        float((one[name].double() - two[name].double()).norm()) / largest([norms[name], least, 1e-300]) for name in one
    )


def largest(values: Iterable[float]) -> float:
    """The largest value; not-a-number if any is, which ``max`` may pass over."""
    return float(torch.tensor([*values], dtype=torch.float64).max())
