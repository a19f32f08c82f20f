"""How long a run will be."""

from __future__ import annotations

import math

from lightning import Trainer

from zoo.shared.errors import UserError


def planned_steps(trainer: Trainer) -> int:
    """Optimiser steps that the trainer will take.

    Not ``trainer.estimated_stepping_batches``: reading that in ``configure_optimizers`` builds the
    training loader before a resumed run's progress is restored, so the data would start over.

    Raises:
        UserError: Neither steps nor epochs are limited.
    """
    limits = []
    if trainer.max_steps and trainer.max_steps > 0:
        limits.append(trainer.max_steps)
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        batches = epoch_length(trainer, trainer.datamodule.batches_per_epoch)  # type: ignore[attr-defined]
        limits.append(math.ceil(batches / trainer.accumulate_grad_batches) * trainer.max_epochs)
    if not limits:
        raise UserError("the run has no end: give --trainer.max_steps or --trainer.max_epochs")
    return min(limits)


def epoch_length(trainer: Trainer, batches: int) -> int:
    """Batches of an epoch that are trained on, of the ``batches`` that the data has."""
    limit = trainer.limit_train_batches
    return int(batches * limit) if isinstance(limit, float) else min(batches, limit)
