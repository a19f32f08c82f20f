"""No step is taken on gradients that are not finite."""

from __future__ import annotations

import logging
from typing import Any

import torch
import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from zoo.shared.distributed import first_process
from zoo.shared.errors import UserError
from zoo.shared.files import save_atomically
from zoo.shared.optim.norms import grad_norm
from zoo.shared.runs.folder import RunFolder

log = logging.getLogger("zoo")

_KEPT = 5  # batches saved of steps that were skipped one at a time


class FiniteSteps(Callback):
    """Skips the steps whose gradient is NaN or infinite on any process, on all of them, and logs the gradient norm.

    A skipped step counts as a step: data, schedule and step number go on, weights and moments stay. The batches of the
    first step of a row of skipped ones are saved in ``bad_batches/`` of the run, and those of the last when the row is
    too long. (In float16 the scaler makes some of the first steps overflow by design; they are skipped and counted.)

    Args:
        run: The folder of the run.
        limit: Skipped steps in a row that stop the run.

    Attributes:
        skipped: Steps skipped so far, over all restarts.
        in_a_row: Skipped steps since the last one that was taken.
    """

    def __init__(self, run: RunFolder, limit: int) -> None:
        self.run = run
        self.limit = limit
        self.skipped = 0
        self.in_a_row = 0
        self._batches: list[Any] = []
        self._culprits: list[str] = []
        self._norms: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the batches of a step until it is taken."""
        self._batches.append(batch)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Take the norm of the gradient; without a finite one, take the gradient away, so that nothing moves."""
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = grad_norm(parameters)
        number = "" if len(trainer.optimizers) == 1 else f"/{trainer.optimizers.index(optimizer)}"
        self._norms[f"train/grad_norm{number}"] = norm
        if all_finite(norm.to(pl_module.device)):
            return
        wanted = {id(p) for p in parameters}
        self._culprits += [
            name for name, p in pl_module.named_parameters()
            if id(p) in wanted and p.grad is not None and not torch.isfinite(local(p.grad)).all()
        ]  # fmt: skip
        self._culprits = self._culprits or ["none of this process"]
        for parameter in parameters:
            parameter.grad = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Log the norms, count, and stop when it has been too many in a row."""
        # All at once: in an epoch's first batch Lightning forgets what the same hook has logged before.
        norms, self._norms = self._norms, {}
        pl_module.log_dict(norms)
        if trainer.fit_loop._should_accumulate():
            return
        batches, self._batches = self._batches, []
        culprits, self._culprits = self._culprits, []
        if not culprits:
            self.in_a_row = 0
            return
        self.skipped += 1
        self.in_a_row += 1
        step = trainer.global_step
        kept = ""
        if self.in_a_row == self.limit or (self.in_a_row == 1 and self.skipped <= _KEPT):
            path = self.run.path / "bad_batches" / f"step-{step:08d}-rank-{trainer.global_rank}.pt"
            save_atomically(path, lambda to: torch.save({"step": step, "parameters": culprits, "batches": batches}, to))
            kept = f"; its data is in {path}"
        some = ", ".join(culprits[:3]) + (f" and {len(culprits) - 3} more" if len(culprits) > 3 else "")
        if first_process():
            log.warning("step %d skipped: the gradient is not finite (%s)%s", step, some, kept)
        if self.in_a_row == self.limit:
            raise UserError(
                f"{self.limit} steps in a row had gradients that are not finite, up to step {step}{kept}; look at the "
                "batch, lower --task.lr, or set --trainer.gradient_clip_val 1; --max_skipped_steps allows more"
            )

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]


def local(x: Tensor) -> Tensor:
    """This process's part of a tensor that may be sharded."""
    return x.to_local() if hasattr(x, "to_local") else x


def all_finite(norm: Tensor) -> bool:
    """Whether the norm is finite on every process. Every process must call this."""
    finite = torch.isfinite(norm).to(torch.int32)
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(finite, op=dist.ReduceOp.MIN)
    return bool(finite)
