"""Hearing Ctrl-C and SIGTERM, in one of several processes or in all."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer

from zoo.shared.errors import Terminated

_PATIENCE = 25.0  # seconds; batch systems kill 30 s after SIGTERM


class Signals(Callback):
    """Turns Ctrl-C and SIGTERM into a wish that the run stops at the end of a step.

    A second signal stops at once, and so does a step or a validation that goes on for 25 s after SIGTERM, because
    batch systems kill after 30; the newest checkpoint on disk is then the earlier one.

    Attributes:
        heard: The signal that was heard; 0 while there is none.
    """

    def __init__(self) -> None:
        self.heard = 0
        self._before: dict[int, Any] = {}
        self._group: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals, after Lightning, whose own handler of SIGTERM saves nothing."""
        several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        self._group = dist.new_group(backend="gloo") if several else None
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
                self._before[number] = signal.signal(number, self._hear)
        except ValueError:  # not the main thread, which alone may set handlers
            return

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.heard:
            raise stop(self.heard)
        self.heard = number
        if number == signal.SIGTERM:
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE)

    def agree(self) -> int:
        """The signal that any process has heard. Every process must call this.

        Processes hear a signal in different steps, or one alone does. They ask each other over the network and not
        through the accelerator, which would have to finish its work first.
        """
        if self._group is not None:
            heard = torch.tensor(self.heard)
            dist.all_reduce(heard, op=dist.ReduceOp.MAX, group=self._group)
            self.heard = int(heard)
        return self.heard

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


def stop(number: int) -> KeyboardInterrupt:
    """The exception that a signal ends the run with."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
