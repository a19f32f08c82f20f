"""What a run shows of itself while it trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from zoo.shared.runs.plan import planned_steps

_NOTE_EVERY = 0.25  # seconds; reading a value makes a GPU finish its work
_LINE_EVERY = 15.0


class StepProgress(Callback):
    """One bar over the whole run with loss, rates and time left; plain lines where there is no terminal.

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
            self.bar = progress_bar(self.console)
            self.task = self.bar.add_task("", total=self.total, completed=self.first, note="")
            self.bar.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Move the bar."""
        if not trainer.is_global_zero:
            return
        step, now = trainer.global_step, time.monotonic()
        if self.bar is not None:
            self.bar.update(self.task, completed=step)
        every = _LINE_EVERY if self.bar is None else _NOTE_EVERY
        if now - self.said < every and step != self.total:
            return
        self.said = now
        rate = (step - self.first) / max(now - self.began, 1e-9)
        note = describe(trainer.callback_metrics, rate)
        if self.bar is not None:
            self.bar.update(self.task, note=note)
        else:
            left = timedelta(seconds=round((self.total - step) / max(rate, 1e-9)))
            self.console.print(f"step {step}/{self.total}  {note}  {left} left", highlight=False, soft_wrap=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def progress_bar(console: Console) -> Progress:
    """A bar that takes the room that the text leaves; the text is cut off rather than wrapped."""
    return Progress(
        BarColumn(bar_width=None),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        TimeRemainingColumn(elapsed_when_finished=True, table_column=Column(no_wrap=True)),
        console=console,
        expand=True,
    )


def describe(metrics: Mapping[str, Any], rate: float) -> str:
    """Loss, samples and tokens per second, MFU, data wait and memory in few characters; what is not known is left out.

    Args:
        metrics: Logged values by name.
        rate: Steps per second, shown until samples per second are known.
    """
    parts = [show(float(metrics[name])) for name, show in _PARTS.items() if name in metrics]
    if "time/samples_per_second" not in metrics:
        parts.append(f"{rate:.2f} steps/s")
    return "  ".join(parts)


_PARTS: dict[str, Callable[[float], str]] = {
    "train/loss": lambda value: f"loss {value:.3f}",
    "time/samples_per_second": lambda value: f"{value:.3g} samples/s" if value < 100 else f"{value:,.0f} samples/s",
    "time/tokens_per_second": lambda value: f"{value:,.0f} tokens/s",
    "time/mfu": lambda value: f"mfu {value:.0%}",
    "time/data_wait": lambda value: f"wait {value:.0%}",
    "time/peak_memory_gb": lambda value: f"{value:.1f} GB",
}
