"""Held-out samples dealt out to the processes, which together measure what one process measures."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Sampler

from zoo.shared.data.datamodule import KeyedDataModule
from zoo.shared.data.loaders import CountingLoader
from zoo.shared.data.order import SampleKey, slice_of_rank

FILLER = -1
"""The index of a sample that is read and does not count."""


class DealtSampler(Sampler[list[SampleKey]]):
    """This process's part of batches in the source's order.

    All processes get as many batches, because sharded models meet in each of them: a process that the last batch has
    nothing left for reads :data:`FILLER`.

    Args:
        size: Number of samples.
        batch_size: Samples in a batch of all processes together.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(self, size: int, *, batch_size: int, rank: int, world_size: int) -> None:
        self.size = size
        self.batch_size = batch_size
        self.share = slice_of_rank(batch_size, rank=rank, world_size=world_size)

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for first in range(0, self.size, self.batch_size):
            part = range(first + self.share.start, min(first + self.share.stop, self.size))
            yield [SampleKey(index, 0, index) for index in part] or [SampleKey(FILLER, 0, first)]


class DealingDataModule(KeyedDataModule):
    """A data module whose held-out samples are dealt out; the task brings together what the processes measure."""

    def val_dataloader(self) -> CountingLoader | list:
        """This process's held-out samples, in order."""
        reader = self.readers[1]
        if reader is None or not len(reader):
            return []
        rank, world_size = self._place()
        sampler = DealtSampler(len(reader), batch_size=self.batch_size, rank=rank, world_size=world_size)
        return self._watched(self._loader(reader, sampler))
