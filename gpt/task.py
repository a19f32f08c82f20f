"""Pre-training a GPT: next-token loss, optimiser, metrics. Knows no hardware and no data set.

Shapes: B batch, T tokens.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor

from zoo.gpt.held_out import FILLER
from zoo.gpt.model import GPT
from zoo.shared.distributed import data_world_size, total
from zoo.shared.errors import UserError
from zoo.shared.optim.accumulation import share_of_mean
from zoo.shared.optim.groups import adamw
from zoo.shared.optim.muon import Muon
from zoo.shared.optim.schedules import build_schedule
from zoo.shared.runs.plan import planned_steps


class GptTask(LightningModule):
    """Next-token prediction (GPT-1, Section 3.1; GPT-3, appendix B).

    Args:
        model: The model to train.
        lr: Peak learning rate.
        warmup_steps: Steps of linear warm-up.
        schedule: ``cosine``, ``linear`` or ``constant`` after the warm-up.
        final_lr: Where the schedule ends, as a share of the peak (GPT-3: 0.1; GPT-1: 0).
        decay_steps: Steps until it ends; None: those of the run.
        weight_decay: Decoupled decay of matrices and embeddings.
        betas: Adam's moments (GPT-1: 0.9, 0.999; GPT-3: 0.9, 0.95).
        eps: Adam's epsilon.
        optimizer: ``adamw``, as in the papers, or ``muon``, which learns more from each step: the default run has
            minutes.
    """

    def __init__(
        self,
        model: GPT,
        *,
        lr: float = 6e-4,
        warmup_steps: int = 2000,
        schedule: Literal["cosine", "linear", "constant"] = "cosine",
        final_lr: float = 0.1,
        decay_steps: int | None = None,
        weight_decay: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        optimizer: Literal["adamw", "muon"] = "adamw",
    ) -> None:
        super().__init__()
        check_optimiser(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        if warmup_steps < 0:
            raise UserError(f"--task.warmup_steps must be 0 or more, not {warmup_steps}")
        if decay_steps is not None and decay_steps < 1:
            raise UserError(f"--task.decay_steps must be at least 1, not {decay_steps}")
        if not 0 <= final_lr <= 1:
            raise UserError(f"--task.final_lr is a share of the peak, from 0 to 1, not {final_lr}")
        self.model = model
        self.lr = lr
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.final_lr = final_lr
        self.decay_steps = decay_steps
        self.weight_decay = weight_decay
        self.betas = betas
        self.eps = eps
        self.optimizer = optimizer
        self.held_out = torch.zeros(3, dtype=torch.float64)  # nats, tokens, bytes

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, int]:
        """Sum of the loss over a batch in nats, and the tokens that it is a sum over.

        Args:
            batch: ``tokens`` ``(B, T + 1)``: each but the first is predicted from those before it.
        """
        inputs, targets = batch["tokens"][:, :-1], batch["tokens"][:, 1:]
        return self.model.loss_sum(inputs, targets), targets.numel()

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """One batch of windows: also ``bytes`` ``(B,)`` that the predicted tokens stand for."""
        nats, count = self.loss(batch)
        self.log("train/loss", nats.detach() / count, sync_dist=True)
        self.log("train/bits_per_byte", nats.detach() / math.log(2) / batch["bytes"].sum().clamp(min=1), sync_dist=True)
        return share_of_mean(nats, batch["step_counts"]["tokens"], window=self.trainer.accumulate_grad_batches)

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """Add up the loss of this process's held-out windows."""
        nats, count = self.loss(batch)
        if int(batch["index"][0]) != FILLER:
            self.held_out += torch.tensor([float(nats), count, int(batch["bytes"].sum())], dtype=torch.float64)

    def on_validation_epoch_end(self) -> None:
        """Log the loss of all processes' windows in nats per token and in bits per byte, and how much worse it is than
        on training text.
        """
        alone = data_world_size() == 1
        nats, tokens, size = (self.held_out if alone else total(self.held_out.to(self.device))).tolist()
        self.held_out.zero_()
        if not tokens:
            return
        self.log("val/loss", nats / tokens)
        self.log("val/bits_per_byte", nats / math.log(2) / max(size, 1))
        trained = self.trainer.callback_metrics.get("train/loss")
        if trained is not None:
            self.log("val/gap", nats / tokens - float(trained))

    def configure_optimizers(self) -> Any:
        """The optimiser and the schedule, stepped every batch."""
        settings: dict[str, Any] = {
            "lr": self.lr, "betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay,
        }  # fmt: skip
        optimizer: torch.optim.Optimizer
        if self.optimizer == "muon":
            optimizer = Muon(self.model.named_parameters(), chosen=lambda name: ".blocks." in name, **settings)
        else:
            optimizer = adamw(self.model, **settings)
        steps = self.decay_steps or planned_steps(self.trainer)
        final = None if self.schedule == "constant" else self.final_lr
        factor = build_schedule(self.schedule, warmup=self.warmup_steps, total=steps, final=final)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def check_optimiser(*, lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> None:
    """Refuse settings with which Adam does not learn.

    Raises:
        UserError: One is out of its range.
    """
    for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
        if not 0 <= value < math.inf:
            raise UserError(f"--task.{name} must be 0 or more, not {value}")
    if not all(0 <= beta < 1 for beta in betas):
        raise UserError(f"--task.betas must be from 0 to below 1, not {list(betas)}")
