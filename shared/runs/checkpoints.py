"""Checkpoints that are complete or absent, and hold the random state."""

from __future__ import annotations

import dataclasses
import logging
import random
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from zoo.shared.distributed import first_process, gather_objects, rank, world_size
from zoo.shared.errors import UserError
from zoo.shared.files import atomic_path
from zoo.shared.runs.folder import RunFolder
from zoo.shared.runs.plan import planned_steps
from zoo.shared.runs.signals import Signals, stop

log = logging.getLogger("zoo")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its final name and renames it; reads without running code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save ``checkpoint`` at ``path``.

        Raises:
            UserError: It cannot be written; the earlier checkpoint is untouched.
        """
        try:
            with atomic_path(path) as temporary:
                torch.save(checkpoint, temporary)
        except (OSError, RuntimeError) as error:
            raise UserError(f"cannot write the checkpoint {path}: {error}; the last one is untouched") from error


class Checkpoints(Checkpoint):
    """Saves every ``every`` steps and at the last one, and when a signal was heard, which then stops the run.

    A checkpoint holds the state after everything that belongs to its step: the row of the log is on disk before it,
    and when a validation is due at that step it is saved after it, so that a resumed run repeats and misses nothing.

    Args:
        run: The folder of the run.
        every: Optimiser steps between two; None saves only on a signal.
        signals: Says when to stop.
        keep: How many of the newest stay, the second one in case the first is damaged; 0: all of them.

    Attributes:
        newest: The last one saved.
        trained: Whether a step was left to train.
        logged: The metrics as they were when it was saved, or in the checkpoint that the run resumes from.
    """

    def __init__(self, run: RunFolder, every: int | None, signals: Signals, *, keep: int = 2) -> None:
        self.run = run
        self.every = every
        self.keep = keep
        self.signals = signals
        self.newest: Path | None = None
        self.logged: dict[str, float] = {}
        self.trained = False
        self._last = 0
        self._wanted = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find out which step is the last one."""
        self._last = planned_steps(trainer)
        self.trained = True

    def on_train_batch_end(self, trainer: Any, pl_module: LightningModule, *args: Any) -> None:
        """Save if it is time, unless a validation comes first."""
        if trainer.fit_loop._should_accumulate():
            return
        step, loop = trainer.global_step, trainer.fit_loop
        due = self.every is not None and (step % self.every == 0 or step == self._last)
        self._wanted = bool(self.signals.agree(trainer.datamodule.breach)) or due
        validates = loop.epoch_loop._should_check_val_fx(loop._data_fetcher) and not loop.epoch_loop.val_loop.skip
        if self._wanted and not validates:
            trainer._logger_connector.update_train_step_metrics()  # Lightning logs the step's row only later
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what had to wait."""
        if not trainer.sanity_checking and (self._wanted or self.signals.agree()):
            self._save(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The logged metrics: a run whose last step is in the checkpoint logs nothing more."""
        return {"logged": self.logged}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep them."""
        self.logged = state_dict["logged"]

    def _save(self, trainer: Trainer) -> None:
        self._wanted = False
        self.logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        path = self.run.checkpoints / f"{trainer.global_step:08d}.ckpt"
        trainer.save_checkpoint(path)
        self.newest = path
        if trainer.is_global_zero and self.keep:
            for old in found_checkpoints(self.run.checkpoints)[self.keep :]:
                remove(old)
        if self.signals.heard:
            raise stop(self.signals.heard)


def remove(path: Path) -> None:
    """Delete a checkpoint; a folder loses its name first, so that no half one is left under it."""
    if path.is_dir():
        shutil.rmtree(path.rename(path.with_name(f".{path.name.strip('.')}.old.part")))
    else:
        path.unlink()


def found_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    return sorted(folder.glob("[0-9]*.ckpt"), reverse=True)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is complete; None if the run has not saved any.

    Damaged ones are told and set aside as ``NAME.damaged``.

    Raises:
        UserError: There are checkpoints and all of them are damaged.
    """
    if first_process():
        for leftover in folder.glob(".*.part"):  # of a process that was killed while saving
            remove(leftover)
    for path in found_checkpoints(folder):
        if is_intact(path):
            return path
        if first_process():
            log.warning("%s is damaged; it is set aside and an earlier one is used", path)
            path.replace(path.with_name(f"{path.name}.damaged"))
    if list(folder.glob("*.damaged")):
        raise UserError(f"all checkpoints in {folder} are damaged; remove them to start again from the first step")
    return None


def is_intact(path: Path) -> bool:
    """Whether a checkpoint is complete and its checksums are right."""
    if path.is_dir():
        from zoo.shared.scale.folders import intact_folder  # imports much that few runs need

        return intact_folder(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error):
        return False


class ModelIdentity(Callback):
    """Writes into each checkpoint which model it holds, so that ``zoo.load`` takes a checkpoint, too.

    Args:
        family: Name of the family.
        config: The model's config.
    """

    def __init__(self, family: str, config: Any) -> None:
        self.record = {"family": family, "config": dataclasses.asdict(config)}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the record."""
        checkpoint["zoo"] = self.record


class RandomState(Callback):
    """Saves and restores the random state of every rank; Lightning saves none.

    States are tensors, ints and lists, so that ``weights_only`` reads them.
    """

    def __init__(self) -> None:
        self.restored: list[dict[str, Any]] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The states of all ranks, in rank order. Every rank calls this."""
        return {"ranks": gather_objects(capture_random_state())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until training starts."""
        self.restored = state_dict["ranks"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore, after everything that Lightning draws on the way here."""
        if self.restored is not None and len(self.restored) == world_size():
            restore_random_state(self.restored[rank()])
        self.restored = None


def capture_random_state() -> dict[str, Any]:
    """Random state of Python, NumPy and torch as tensors, ints and lists."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, list(words), gauss],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss),
                  float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }  # fmt: skip


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what :func:`capture_random_state` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
