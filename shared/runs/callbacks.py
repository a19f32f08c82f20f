"""What every run shows and guards while it trains."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from zoo.shared.distributed import agree, world_size
from zoo.shared.runs.csv_log import AppendingCSVLogger
from zoo.shared.runs.folder import RunFolder
from zoo.shared.runs.plan import planned_steps


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


class GracefulInterrupt(Callback):
    """Turns Ctrl-C into: finish the step, save a checkpoint, stop. A second Ctrl-C stops at once.

    Several processes hear the signal in different steps, or one alone hears it, so they ask each other after every
    step, over the network and not through the accelerator, which would have to finish its work first.

    Args:
        folder: Where the checkpoint goes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked = False
        self.saved: Path | None = None
        self._before: Any = None
        self._group: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signal."""
        self._group = torch.distributed.new_group(backend="gloo") if world_size() > 1 else None
        try:
            self._before = signal.signal(signal.SIGINT, self._ask)
        except ValueError:  # not the main thread, which alone may set handlers
            self._before = None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Save and stop when asked to."""
        if not self._anybody_asked():
            return
        self.asked = True
        path = self.folder / f"{trainer.global_step:08d}.ckpt"
        trainer.save_checkpoint(path)
        self.saved = path
        raise KeyboardInterrupt

    def _anybody_asked(self) -> bool:
        if self._group is None:
            return self.asked
        asked = torch.tensor(float(self.asked))
        torch.distributed.all_reduce(asked, group=self._group)
        return bool(asked)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signal back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None


class ResumeLog(Callback):
    """Cuts the CSV log back to the step that a resumed run starts from."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop rows that will be written again."""
        for logger in trainer.loggers:
            if isinstance(logger, AppendingCSVLogger):
                logger.cut_back(trainer.global_step)


class Throughput(Callback):
    """Logs samples per second and the share of time spent waiting for data."""

    def __init__(self) -> None:
        self.samples = 0
        self.seconds = 0.0
        self.waited = 0.0
        self._began = 0.0
        self._last = (0.0, 0, 0.0)  # time, samples and wait at the last log

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._began = time.perf_counter()
        self._last = (self._began, 0, self._wait(trainer))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Count, and log at the trainer's interval."""
        now, wait = time.perf_counter(), self._wait(trainer)
        self.samples += trainer.datamodule.batch_size  # type: ignore[attr-defined]
        self.seconds, self.waited = now - self._began, wait
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            then, samples, waited = self._last
            elapsed = max(now - then, 1e-9)
            rate, share = (self.samples - samples) / elapsed, (wait - waited) / elapsed
            pl_module.log_dict({"time/samples_per_second": rate, "time/data_wait": share})
            self._last = (now, self.samples, wait)

    @staticmethod
    def _wait(trainer: Trainer) -> float:
        return trainer.datamodule.waited  # type: ignore[attr-defined]


class StepProgress(Callback):
    """One bar over the whole run with loss, rate and time left; plain lines where there is no terminal.

    Args:
        console: Where to draw.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Progress | None = None
        self.total = 0
        self.first = 0
        self.began = 0.0
        self.said = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        self.total, self.first = planned_steps(trainer), trainer.global_step
        self.began = self.said = time.monotonic()
        if self.console.is_terminal and trainer.is_global_zero:
            self.bar = Progress(
                TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=self.console,
            )  # fmt: skip
            self.task = self.bar.add_task("", total=self.total, completed=self.first, note="")
            self.bar.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Move the bar."""
        step, now = trainer.global_step, time.monotonic()
        rate = (step - self.first) / max(now - self.began, 1e-9)
        loss = trainer.progress_bar_metrics.get("train/loss")
        shown = f"loss {loss:.3f}  " if isinstance(loss, float) else ""
        note = f"{shown}{rate:.2f} steps/s"
        if self.bar is not None:
            self.bar.update(self.task, completed=step, note=note)
        elif trainer.is_global_zero and (now - self.said > 15 or step == self.total):
            self.said = now
            left = (self.total - step) / max(rate, 1e-9)
            self.console.print(f"step {step}/{self.total}  {note}  {left:.0f} s left", highlight=False)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
