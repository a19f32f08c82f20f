"""The order of samples: batch t of a run is a pure function of (seed, t), whatever the workers, ranks and restarts.

Batch ``t`` belongs to epoch ``t // n`` and is number ``t % n`` in it. The sampler starts at the number of batches
that the run has consumed, which its owner restores, so nothing here or in a worker has state to save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from zoo.shared.errors import UserError

_ORDER, _SAMPLE = 0, 1  # what a stream of random numbers is for, so that no two uses share one


class SampleKey(NamedTuple):
    """One sample of a run: which one, and the coordinates that its random numbers are drawn from."""

    index: int  # type: ignore[assignment]  # the field hides tuple.index, which nobody needs here
    """Place in the source."""
    epoch: int
    """Passes over the source before this one."""
    position: int
    """Place in the epoch's order."""


def _stream(seed: int, purpose: int, epoch: int, position: int, sub: int = 0) -> np.random.Generator:
    # Counter-based: Philox maps (key, counter) to random words, so no stream depends on another having been read.
    # Streams advance the lowest counter word, which starts at 0; the three above it tell them apart.
    key = np.array([seed % 2**64, purpose], dtype=np.uint64)
    counter = np.array([0, position, epoch, sub], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def sample_rng(seed: int, epoch: int, position: int, *, sub: int = 0) -> np.random.Generator:
    """Random numbers of one sample, the same wherever and whenever they are drawn.

    Args:
        seed: The run's seed.
        epoch: Passes over the source before this one.
        position: Place in the epoch's order.
        sub: Tells several independent streams of one sample apart.
    """
    return _stream(seed, _SAMPLE, epoch, position, sub)


class EpochOrder:
    """The order in which epoch ``e`` visits the samples: a permutation drawn from (seed, e).

    Args:
        size: Number of samples.
        seed: The run's seed.
        shuffle: Whether to permute; otherwise every epoch is in the source's order.
    """

    def __init__(self, size: int, *, seed: int, shuffle: bool = True) -> None:
        self.size = size
        self.seed = seed
        self.shuffle = shuffle
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def __call__(self, epoch: int) -> np.ndarray:
        """Source indices ``(size,)`` in the order of the epoch."""
        if epoch != self._epoch:
            order = np.arange(self.size)
            self._order = _stream(self.seed, _ORDER, epoch, 0).permutation(order) if self.shuffle else order
            self._epoch = epoch
        return self._order


def slice_of_rank(batch_size: int, *, rank: int, world_size: int) -> slice:
    """The contiguous part of a global batch that one rank computes.

    Raises:
        UserError: The batch cannot be divided evenly.
    """
    if batch_size % world_size:
        raise UserError(
            f"a global batch of {batch_size} cannot be divided over {world_size} processes; "
            f"use --data.batch_size {max(1, round(batch_size / world_size)) * world_size}"
        )
    share = batch_size // world_size
    return slice(rank * share, (rank + 1) * share)


@dataclass(frozen=True, kw_only=True)
class BatchRamp:
    """Batches that grow linearly at the start of a run (GPT-3, arXiv:2005.14165, appendix B).

    Attributes:
        start: Samples in the first batch of all ranks together.
        batches: Batches until the full size is reached.
    """

    start: int
    batches: int

    def __post_init__(self) -> None:
        if self.start < 1 or self.batches < 1:
            raise UserError(
                f"a batch ramp needs a first batch and a length of at least 1, not {self.start}, {self.batches}"
            )

    def starts(self, batch_size: int, world_size: int) -> np.ndarray:
        """Where the growing batches begin in the run's samples, and where the last of them ends.

        Sizes are rounded to what the ranks can share, so a run must be resumed on as many while batches grow.
        """
        share = np.arange(self.batches) / self.batches
        wanted = self.start + share * (batch_size - self.start)
        sizes = np.maximum(1, np.rint(wanted / world_size)).astype(np.int64) * world_size
        return np.concatenate([[0], np.cumsum(sizes)])


class GlobalBatchSampler(Sampler[list[SampleKey]]):
    """Batches of :class:`SampleKey` for one rank, starting where the run stands.

    Every pass yields ``n`` batches from batch ``consumed()`` on, so a pass that begins in mid-epoch after a resume
    runs on into the next epoch and never ends early. The samples of an epoch that do not fill a batch are left out.
    While batches still grow, they go on through the order without leaving any out.

    Args:
        size: Number of samples in the source.
        batch_size: Samples in a batch of all ranks together.
        ramp: How batches grow at the start of the run.
        seed: The run's seed.
        shuffle: Whether every epoch has an order of its own.
        rank: This process.
        world_size: Number of processes.
        consumed: Says how many batches the run has trained on; read when a pass begins.

    Raises:
        UserError: Fewer samples than a batch, or a batch that does not divide by the ranks.
    """

    def __init__(
        self,
        size: int,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        consumed: Callable[[], int] = lambda: 0,
        ramp: BatchRamp | None = None,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {batch_size}")
        if size < batch_size:
            raise UserError(
                f"the data has {size} training samples, fewer than one batch of {batch_size}; "
                f"use --data.batch_size {max(1, size)} or less, or more data"
            )
        self.batch_size = batch_size
        if ramp is not None and ramp.start > batch_size:
            raise UserError(f"--data.ramp_start {ramp.start} is more than the full batch of {batch_size}; choose less")
        self.place = {"rank": rank, "world_size": world_size}
        slice_of_rank(batch_size, **self.place)  # says now what cannot be divided
        self.starts = np.zeros(1, dtype=np.int64) if ramp is None else ramp.starts(batch_size, world_size)
        self.order = EpochOrder(size, seed=seed, shuffle=shuffle)
        self.batches = size // batch_size
        self.consumed = consumed

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[SampleKey]]:
        start = self.consumed()  # now, not when the first batch is asked for
        return (self.batch(number) for number in range(start, start + self.batches))

    def batch(self, number: int) -> list[SampleKey]:
        """This rank's part of the run's batch ``number``."""
        growing = len(self.starts) - 1
        if number < growing:
            first, size = int(self.starts[number]), int(self.starts[number + 1] - self.starts[number])
        else:
            first, size = int(self.starts[-1]) + (number - growing) * self.batch_size, self.batch_size
        share = slice_of_rank(size, **self.place)
        return [self.key(first + place) for place in range(share.start, share.stop)]

    def key(self, number: int) -> SampleKey:
        """The run's sample ``number``."""
        epoch, position = divmod(number, self.batches * self.batch_size)
        return SampleKey(int(self.order(epoch)[position]), epoch, position)


class InOrderSampler(Sampler[list[SampleKey]]):
    """Batches of all samples in the source's order, the last one shorter; the same on every rank.

    Every rank sees everything, because figures such as retrieval need all samples in one place.

    Args:
        size: Number of samples.
        batch_size: Samples in a batch.
    """

    def __init__(self, size: int, *, batch_size: int) -> None:
        self.size = size
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for first in range(0, self.size, self.batch_size):
            yield [SampleKey(i, 0, i) for i in range(first, min(first + self.batch_size, self.size))]
