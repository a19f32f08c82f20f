"""What every run shows and guards while it trains."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer

from zoo.shared.distributed import agree
from zoo.shared.runs.csv_log import AppendingCSVLogger
from zoo.shared.runs.folder import RunFolder


class SameFolder(Callback):
    """Tells all processes the first one's run folder, whose name holds the time.

    Args:
        run: The folder, which moves.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Move to where the first process is."""
        self.run.move(agree(self.run.path))


class ResumeLog(Callback):
    """Cuts the CSV log back to the step that a resumed run starts from, and mends Lightning's count of epochs."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop rows that will be written again."""
        for logger in trainer.loggers:
            if isinstance(logger, AppendingCSVLogger):
                logger.cut_back(trainer.global_step)
        epochs: Any = trainer.fit_loop.epoch_progress
        if trainer.fit_loop.restarted_mid_epoch and epochs.total.processed == epochs.total.started:
            # Saved at the end of an epoch, which Lightning completes without beginning the next one.
            epochs.increment_ready()
            epochs.increment_started()
