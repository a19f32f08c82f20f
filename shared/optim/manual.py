"""Several optimisers in one training step."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch.core.optimizer import LightningOptimizer


def count_steps_of(counted: LightningOptimizer, optimizers: Sequence[LightningOptimizer]) -> None:
    """Let ``trainer.global_step`` count the steps of one optimiser only; by itself it counts those of all.

    ``max_steps``, checkpoints and logs then mean training steps. Call it at the start of each ``training_step``,
    because the manual loop sets its counters anew for every batch.
    """
    for optimizer in optimizers:
        if optimizer is not counted:
            optimizer._on_before_step = optimizer._on_after_step = _nothing


def _nothing() -> None:
    pass
