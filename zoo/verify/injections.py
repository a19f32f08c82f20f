"""What can go wrong in a run, made to go wrong at a given step. Each is picklable and is built in the child."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from zoo.shared.distributed import gather_objects


class PoisonedGradient(Callback):
    """One parameter's gradient turns to not-a-number on one process, after the processes have averaged theirs.

    Args:
        first: First step that it happens in.
        steps: In how many.
        rank: The process.
    """

    def __init__(self, *, first: int, steps: int = 1, rank: int = 0) -> None:
        self.steps = range(first, first + steps)
        self.rank = rank

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Spoil it."""
        if trainer.global_step in self.steps and trainer.global_rank == self.rank:
            grad = next(p.grad for p in pl_module.parameters() if p.grad is not None)
            grad[(0,) * grad.dim()] = float("nan")


class LossSpike(Callback):
    """The logged loss is a thousand times what it was, for some steps.

    Args:
        first: First step that it happens in.
        steps: In how many.
    """

    def __init__(self, *, first: int, steps: int) -> None:
        self.steps = range(first, first + steps)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Change what the task logs during these steps."""
        pl_module.__dict__.pop("log", None)
        if trainer.global_step in self.steps:
            pl_module.__dict__["log"] = partial(log_enlarged, pl_module.log)


def log_enlarged(log: Callable[..., None], name: str, value: Any, **options: Any) -> None:
    """Log a loss as if it were a thousand times larger."""
    log(name, value * 1000 if name == "train/loss" else value, **options)


class TerminatedAt(Callback):
    """SIGTERM reaches one process during a step, twice, as from a batch system and from torchrun.

    Args:
        step: The step.
        rank: The process.
    """

    def __init__(self, *, step: int, rank: int) -> None:
        self.step = step
        self.rank = rank

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Send it."""
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.05)  # or the two would be one


class KilledDuring(Callback):
    """SIGKILL some time after a step has begun.

    Args:
        step: The step, from 0.
        share: When, as a share of the shortest step so far. The first ones may have waited for workers to start; the
            run would be over before a kill that waits as long.
        rank: The process.
    """

    def __init__(self, *, step: int, share: float, rank: int = 0) -> None:
        self.step = step
        self.share = share
        self.rank = rank
        self._began: float | None = None
        self._shortest = float("inf")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Set the clock."""
        now = time.perf_counter()
        if self._began is not None:
            self._shortest = min(self._shortest, now - self._began)
        self._began = now
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            length = self._shortest if self.step > 2 else 0.02
            threading.Timer(self.share * length, os.kill, (os.getpid(), signal.SIGKILL)).start()


class Slowed(Callback):
    """Each step takes a tenth of a second longer, so that another process can act in the middle of a short run."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Wait."""
        time.sleep(0.1)


class KilledAtTheEnd(Callback):
    """SIGKILL after the last step, before the results are written."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send it."""
        os.kill(os.getpid(), signal.SIGKILL)


class EqualWeights(Callback):
    """Makes sure at the end that all processes hold the same weights."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare them.

        Raises:
            RuntimeError: They differ.
        """
        whole = torch.cat([parameter.detach().flatten() for parameter in pl_module.parameters()])
        if len(set(gather_objects(whole.numpy().tobytes()))) != 1:
            raise RuntimeError("the processes hold different weights")


class FullDisk(Callback):
    """From a step on no file can grow beyond a size, as on a disk with a quota.

    Args:
        step: The step.
        size: Bytes.
    """

    def __init__(self, *, step: int, size: int) -> None:
        self.step = step
        self.size = size

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Set the limit; the system then refuses to write, as it does when a disk is full."""
        if trainer.global_step == self.step:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))


class KilledWhileSaving:
    """SIGKILL when half of a checkpoint is written.

    Args:
        name: The checkpoint.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self) -> None:
        """Change how this process saves."""
        save = torch.save

        def half(value: Any, path: Any) -> None:
            save(value, path)
            if self.name in Path(path).name:
                os.truncate(path, Path(path).stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        torch.save = half  # type: ignore[assignment]
