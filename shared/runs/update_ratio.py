"""How far an optimiser's step moves the weights."""

from __future__ import annotations

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.shared.runs.finite import local
from zoo.shared.runs.throughput import logs_now

_ELEMENTS = 4096


class UpdateRatio(Callback):
    """Logs ``train/update_ratio``: RMS of a step's change over RMS of the weights, at the log interval.

    It is taken over all matrices together, of which at most 4096 evenly strided elements each are looked at (of
    sharded ones, of this process's part). With several optimisers, or several steps in a batch, the change is that of
    the whole batch.
    """

    def __init__(self) -> None:
        self._before: dict[nn.Parameter, Tensor] = {}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Keep what the step will change."""
        if logs_now(trainer):
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                if parameter.ndim >= 2 and parameter not in self._before:
                    self._before[parameter] = sampled(parameter)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Compare."""
        if not self._before:
            return
        before = torch.cat(list(self._before.values()))
        after = torch.cat([sampled(parameter) for parameter in self._before])
        self._before.clear()
        pl_module.log("train/update_ratio", (after - before).norm() / before.norm().clamp_min(1e-12))


@torch.no_grad()
def sampled(parameter: Tensor) -> Tensor:
    """Up to 4096 evenly strided elements of a tensor, as a float32 copy ``(N,)``."""
    flat = local(parameter.detach()).flatten()
    stride = max(1, -(-flat.numel() // _ELEMENTS))
    return flat[::stride].to(torch.float32, copy=True)
