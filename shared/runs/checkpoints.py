"""Checkpoints that are complete or absent, and hold the random state."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from zoo.shared.distributed import rank, world_size
from zoo.shared.errors import UserError
from zoo.shared.files import atomic_path


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


def checkpoint_every(folder: Path, steps: int) -> ModelCheckpoint:
    """Keep the two newest checkpoints, written every ``steps`` optimiser steps."""
    return ModelCheckpoint(
        dirpath=folder,
        filename="{step:08d}",
        auto_insert_metric_name=False,
        monitor="step",
        mode="max",
        save_top_k=2,
        every_n_train_steps=steps,
        save_on_train_epoch_end=False,
    )


def newest_checkpoint(folder: Path) -> Path:
    """The newest checkpoint in a run's ``checkpoints/``.

    Raises:
        UserError: There is none.
    """
    found = sorted(folder.glob("[0-9]*.ckpt"))
    if not found:
        raise UserError(f"{folder} holds no checkpoint; the run cannot be resumed")
    return found[-1]


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
        here = capture_random_state()
        states = [here]
        if world_size() > 1:
            states = [{} for _ in range(world_size())]
            torch.distributed.all_gather_object(states, here)
        return {"ranks": states}

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
