"""Loaders that know where the run stands, and report what their workers found."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

log = logging.getLogger("zoo")

Item = dict[str, Any]


_SMALL = 1 << 16  # bytes


def by_value(batch: Item) -> Item:
    """A worker's batch with its small tensors as arrays.

    A tensor leaves a worker through shared memory and a file descriptor of its own, which takes longer than copying
    a few kilobytes.
    """
    if get_worker_info() is None:
        return batch
    return {key: x.numpy() if isinstance(x, Tensor) and x.nbytes <= _SMALL else x for key, x in batch.items()}


def as_tensors(batch: Item) -> Item:
    """What :func:`by_value` took for a copy, as tensors again."""
    return {key: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for key, x in batch.items()}


class StreamDataset(IterableDataset[Item]):
    """Items that can only be read one after the other, without end.

    Attributes:
        epoch: The epoch to read; this and the next two are set before an iterator is made.
        delivered: Batches of the epoch that this process has had already.
        batch_size: Items in a batch of this process.
        world_size: Number of processes that share the stream.
    """

    epoch = 0
    delivered = 0
    batch_size = 1
    world_size = 1


class CountingLoader(DataLoader):
    """A loader that reports what its workers found, in the main process.

    Lightning asks loaders that stop in mid-epoch for their state; the order is a rule, so there is none.
    """

    watch: Callable[[Item, float], None]
    group: Callable[[Iterator[Item]], Iterator[Item]] = staticmethod(lambda batches: batches)

    def __iter__(self) -> Iterator[Item]:  # type: ignore[override]
        return self.group(_Watched(super().__iter__(), self.watch))

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the order is a function of the batches consumed."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""


class _Watched:
    def __init__(self, batches: Iterator[Item], watch: Callable[[Item, float], None]) -> None:
        self.batches = batches
        self.watch = watch

    def __iter__(self) -> _Watched:
        return self

    def __next__(self) -> Item:
        began = time.perf_counter()
        batch = as_tensors(next(self.batches))
        self.watch(batch, time.perf_counter() - began)
        return batch


class StreamLoader(CountingLoader):
    """Batches of a stream: as many in an epoch as its stated length makes.

    A resumed run goes on in mid-epoch if the stream is dealt out as before; see :mod:`zoo.shared.data.streams`.

    Args:
        dataset: The items.
        batches: Batches in an epoch of the stream.
        length: Batches of it that the run trains on.
        consumed: Says how many batches the run has trained on.
        **options: As for torch's loader.
    """

    def __init__(
        self, dataset: StreamDataset, *, batches: int, length: int, consumed: Callable[[], int], **options: Any
    ) -> None:
        super().__init__(dataset, **options)
        self.items, self.batches, self.length, self.consumed = dataset, batches, length, consumed
        self.layout = [dataset.world_size, self.num_workers, self.batch_size, batches]
        self.began: tuple[int, int] | None = None  # the epoch being read, and the batches consumed before it
        self.earlier: dict[str, Any] = {}  # the state of the run that this one resumes

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Item]:  # type: ignore[override]
        consumed = self.consumed()
        epoch, rest = self._place(consumed)
        self.began = epoch, consumed - rest
        batches = itertools.islice(self._read(epoch, rest), self.batches - rest)
        # As with files, a pass that begins in mid-epoch runs on into the next one and never ends early.
        return itertools.chain(batches, self._later(epoch + 1, rest)) if rest else batches

    def _place(self, consumed: int) -> tuple[int, int]:
        """The epoch to read, and how many of its batches the run has had."""
        epoch, rest = divmod(consumed, self.length)
        if self.began is not None:
            return max(epoch + bool(rest), self.began[0] + 1), 0
        if self.earlier:
            epoch, rest = self.earlier["epoch"], consumed - self.earlier["first"]
            if not 0 <= rest < self.length:
                return epoch + 1, 0
        if rest and self.earlier.get("layout") != self.layout:
            log.warning(
                "a stream that was dealt out to other numbers of processes and workers, or in other batches, cannot be "
                "resumed in mid-epoch; the run goes on with what epoch %d reads",
                epoch + 1,
            )
            return epoch + 1, 0
        return epoch, rest

    def _read(self, epoch: int, delivered: int) -> Iterator[Item]:
        self.items.epoch, self.items.delivered, self.items.batch_size = epoch, delivered, self.batch_size or 1
        return super().__iter__()

    def _later(self, epoch: int, count: int) -> Iterator[Item]:
        yield from itertools.islice(self._read(epoch, 0), count)

    def state_dict(self) -> dict[str, Any]:
        """Which epoch is read since when, and how it is dealt out."""
        if self.began is None:
            return self.earlier
        return {"epoch": self.began[0], "first": self.began[1], "layout": self.layout}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What the run that is resumed was reading."""
        self.earlier = state
