"""Generated samples: words of unequal length, their neighbours, and noise to condition on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from zoo.shared.data.datamodule import Item, KeyedDataModule

VOCAB, LENGTH, AUDIO = 17, 10, 6
PAD = 0


class Words:
    """Sample i is drawn from i; what is masked out of it, from the run's random numbers."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def id(self, index: int) -> str:
        return f"word {index}"

    def read(self, index: int, rng: np.random.Generator) -> Item:
        own = np.random.default_rng(index)
        length = int(own.integers(2, LENGTH + 1))
        tokens = np.full(LENGTH, PAD)
        tokens[:length] = own.integers(1, VOCAB, length)
        masked = (rng.random(LENGTH) < 0.3) & (tokens != PAD)
        masked[0] = True
        return {
            "tokens": torch.from_numpy(tokens),
            "masked": torch.from_numpy(masked),
            "follows": torch.tensor(int(own.integers(2))),
            "audio": torch.from_numpy(own.standard_normal(AUDIO)).float(),
            "image": torch.from_numpy(own.standard_normal(2)).float(),
            "noise": torch.from_numpy(rng.standard_normal(3)).float(),
        }


class ToyData(KeyedDataModule):
    """Words.

    Args:
        config: Not used.
        batch_size: Samples in a batch of all processes.
        workers: Worker processes.
        seed: Chooses order and what is masked.
        size: Samples.
        max_bad_fraction: As in every data module.
    """

    def __init__(
        self,
        *,
        config: Any,
        batch_size: int = 12,
        workers: int = 0,
        seed: int = 0,
        size: int = 64,
        max_bad_fraction: float = 0.01,
    ) -> None:
        super().__init__(batch_size=batch_size, workers=workers, seed=seed, max_bad_fraction=max_bad_fraction)
        self.size = size

    def open(self) -> tuple[Words, Words | None]:
        return Words(self.size), Words(12)

    def count(self, batch: Item) -> dict[str, int]:
        return {
            "predicted": int((batch["tokens"][:, 1:] != PAD).sum()),
            "spoken": int((batch["tokens"] != PAD).sum()),
            "masked": int(batch["masked"].sum()),
            "samples": len(batch["tokens"]),
        }


class NoPreprocessor:
    """Toys take what their data module makes."""

    @classmethod
    def for_model(cls, config: Any) -> NoPreprocessor:
        return cls()

    def save(self, folder: Any) -> None:
        pass
