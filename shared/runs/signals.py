"""Hearing Ctrl-C and SIGTERM, in one of several processes or in all, and agreeing on what to do."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer

from zoo.shared.distributed import first_process, gather_objects
from zoo.shared.errors import Terminated, UserError

_PATIENCE = 25.0  # seconds; batch systems kill 30 s after SIGTERM


class Signals(Callback):
    """Turns Ctrl-C and SIGTERM into a wish that the run stops at the end of a step.

    A second Ctrl-C, a second later, stops at once; a second SIGTERM says nothing new (torchrun sends its own when the
    batch system has sent one). 25 s after SIGTERM the process ends in any case, because batch systems kill after 30;
    the newest checkpoint on disk is then the earlier one.

    Attributes:
        heard: The signal that was heard; 0 while there is none.
    """

    def __init__(self) -> None:
        self.heard = 0
        self._since = 0.0
        self._before: dict[int, Any] = {}
        self._group: Any = None
        self._over = threading.Event()
        self._pipe: tuple[int, int] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals, after Lightning, whose own handler of SIGTERM saves nothing."""
        several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        self._group = dist.new_group(backend="gloo") if several else None
        if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._hear)
        # Python runs handlers between its own instructions only: not while it waits for a process that is gone.
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        threading.Thread(target=self._end_in_time, args=(self._pipe[0],), daemon=True).start()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if not self.heard:
            self.heard, self._since = number, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since > 1.0:
            raise stop(self.heard)

    def _end_in_time(self, reader: int) -> None:
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            while number := pipe.read(1):
                if number[0] == signal.SIGTERM:
                    if not self._over.wait(_PATIENCE):
                        os._exit(143)
                    return

    def agree(self, trouble: str | None = None) -> int:
        """The signal that any process has heard. Every process must call this.

        Processes hear a signal in different steps, or one alone does. They ask each other over the network and not
        through the accelerator, which would have to finish its work first.

        Args:
            trouble: Why this process cannot go on.

        Raises:
            UserError: A process cannot go on; the first process says why, the others exit.
        """
        troubled = trouble is not None
        if self._group is not None:
            votes = torch.tensor([self.heard, int(troubled)])
            dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=self._group)
            self.heard, troubled = int(votes[0]), bool(votes[1])
        if troubled:
            reasons = [reason for reason in gather_objects(trouble) if reason is not None]
            if not first_process():
                raise SystemExit(2)
            raise UserError(reasons[0])
        return self.heard

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        self.release()

    def release(self) -> None:
        """Give the signals back; whoever called the trainer does it when it fails, as Lightning then calls no hook."""
        self._over.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if self._pipe is not None:
            signal.set_wakeup_fd(-1)
            os.close(self._pipe[1])  # ends the thread, which closes the other side
            self._pipe = None


def stop(number: int) -> KeyboardInterrupt:
    """The exception that a signal ends the run with."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
