"""The data module that every family builds on: order by rule, bad samples replaced and counted, nothing to save."""

from __future__ import annotations

import itertools
import logging
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from zoo.shared.data.images import BadSample
from zoo.shared.data.order import GlobalBatchSampler, InOrderSampler, SampleKey, sample_rng, slice_of_rank
from zoo.shared.data.windows import with_step_counts
from zoo.shared.errors import UserError

log = logging.getLogger("zoo")

_TRIES = 16  # substitutes tried for one sample before the data is called unreadable
_ENOUGH = 1000  # the share of bad samples is taken of at least so many, or one early bad file would stop a run
_NAMED = 20  # bad samples named in the log; all of them are in `bad`

Item = dict[str, Any]


class ItemReader(Protocol):
    """Reads one sample and prepares it for a batch. Must be picklable for worker processes."""

    def __len__(self) -> int: ...

    def id(self, index: int) -> str:
        """What a person recognises the sample by."""

    def read(self, index: int, rng: np.random.Generator) -> Item:
        """The sample as tensors and numbers of the same shapes for every sample.

        Args:
            index: Which sample.
            rng: The only random numbers that may be used.

        Raises:
            BadSample: It cannot be used.
        """


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


@runtime_checkable
class StreamReader(Protocol):
    """An :class:`ItemReader` of a few samples that stand for a stream whose stated length is its own."""

    def stream(self, *, rank: int, world_size: int) -> StreamDataset:
        """The items of one process."""


class KeyedDataset(Dataset[Item]):
    """Reads samples by :class:`SampleKey`; a bad one is replaced by another that depends on its key alone.

    Args:
        reader: Reads the samples.
        seed: The run's seed.
    """

    def __init__(self, reader: ItemReader, *, seed: int) -> None:
        self.reader = reader
        self.seed = seed

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, key: SampleKey) -> Item:
        """The item, with ``index`` (what was asked for), ``bad`` and, taken out again by the loader, ``_failed``.

        A failure that no substitute mends is returned, not raised: an error that leaves a worker process has a
        traceback instead of its one line.
        """
        failed: list[tuple[str, str]] = []
        index = key.index
        for attempt in range(_TRIES):
            rng = sample_rng(self.seed, key.epoch, key.position, sub=2 * attempt)
            try:
                item = self.reader.read(index, rng)
            except BadSample as error:
                failed.append((self.reader.id(index), str(error)))
            except UserError as error:
                return {"_fatal": str(error)}
            else:
                return {**item, "index": key.index, "bad": bool(failed), "_failed": failed}
            chooser = sample_rng(self.seed, key.epoch, key.position, sub=2 * attempt + 1)
            index = int(chooser.integers(len(self.reader)))
        return {"_fatal": None, "_failed": failed}


def collate(items: list[Item]) -> Item:
    """Stack items; the names of bad samples stay a list."""
    failed = [failure for item in items for failure in item.pop("_failed", [])]
    passed = sum(item.pop("_passed", 0) for item in items)
    fatal = [item["_fatal"] for item in items if "_fatal" in item]
    if fatal:
        return {"_fatal": fatal[0], "_failed": failed}
    return {**default_collate(items), "_failed": failed, "_passed": passed}


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
        batch = next(self.batches)
        self.watch(batch, time.perf_counter() - began)
        return batch


class StreamLoader(CountingLoader):
    """Batches of a stream: as many in an epoch as its stated length makes.

    A resumed run goes on in mid-epoch if the stream is dealt out as before; see :mod:`zoo.shared.data.streams`.

    Args:
        dataset: The items.
        batches: Batches in an epoch.
        consumed: Says how many batches the run has trained on.
        **options: As for torch's loader.
    """

    def __init__(self, dataset: StreamDataset, *, batches: int, consumed: Callable[[], int], **options: Any) -> None:
        super().__init__(dataset, **options)
        self.items, self.batches, self.consumed = dataset, batches, consumed
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
        epoch, rest = divmod(consumed, self.batches)
        if self.began is not None:
            return max(epoch + bool(rest), self.began[0] + 1), 0
        if self.earlier:
            epoch, rest = self.earlier["epoch"], consumed - self.earlier["first"]
            if not 0 <= rest < self.batches:
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


def _leave_interrupts_to_the_main_process(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal; the main one decides when to stop and needs batches until then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class KeyedDataModule(L.LightningDataModule, ABC):
    """Loaders whose batches are a function of the seed and the number of batches consumed.

    A subclass opens its data in :meth:`open` and applies the drawn parameters in ``on_after_batch_transfer``.
    Trainers must be given ``use_distributed_sampler=False``.

    Args:
        batch_size: Samples in a batch of all processes together.
        workers: Processes that read samples; 0 reads in the main process.
        seed: Chooses order and augmentation.
        max_bad_fraction: The run stops when a larger share of the samples cannot be used.

    Attributes:
        bad: Id of each bad sample that was met, to the reason.
        seen: Samples read so far, by this process.
        replaced: Times that a bad sample was met.
        waited: Seconds that this process has waited for batches.
    """

    def __init__(self, *, batch_size: int, workers: int, seed: int, max_bad_fraction: float) -> None:
        super().__init__()
        if not 0 <= max_bad_fraction <= 1:
            raise UserError(f"max_bad_fraction must be from 0 to 1, not {max_bad_fraction}")
        if workers < 0:
            raise UserError(f"workers must be 0 or more, not {workers}")
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed
        self.max_bad_fraction = max_bad_fraction
        self.bad: dict[str, str] = {}
        self.seen = 0
        self.replaced = 0
        self.waited = 0.0
        self._readers: tuple[ItemReader, ItemReader | None] | None = None

    @abstractmethod
    def open(self) -> tuple[ItemReader, ItemReader | None]:
        """Open the data: a reader of training samples and one of held-out samples, or None without any."""

    def prepare_data(self) -> None:
        """Open the data in one process of each machine first, so that what is fetched or indexed is so once."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Open the data once."""
        if self._readers is None:
            self._readers = self.open()

    @property
    def readers(self) -> tuple[ItemReader, ItemReader | None]:
        """Readers of training and held-out samples."""
        self.setup()
        assert self._readers is not None
        return self._readers

    @property
    def batches_per_epoch(self) -> int:
        """Training batches in an epoch."""
        return max(1, len(self.readers[0]) // self.batch_size)

    def count(self, batch: Item) -> dict[str, int]:
        """What the terms of the loss are means over, such as ``{"tokens": 812}``; nothing by default.

        What is named here reaches the task as ``batch["step_counts"]``, summed over the batches of an optimiser
        step; see :func:`zoo.shared.optim.accumulation.share_of_mean`.
        """
        return {}

    def _with_step_counts(self, batches: Iterator[Item]) -> Iterator[Item]:
        """The batches with ``step_counts``; looks at the trainer when the first one is asked for, as it is not
        ready when the iterator is made.
        """
        if self.trainer is None or type(self).count is KeyedDataModule.count:
            return batches
        loop = self.trainer.fit_loop
        return with_step_counts(
            batches,
            self.count,
            window=self.trainer.accumulate_grad_batches,
            start=lambda: (loop.epoch_loop.batch_progress.current.ready, loop.max_batches),
        )

    def consumed(self) -> int:
        """Batches that the run has trained on, over all its restarts."""
        if self.trainer is None:
            return 0
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]

    def train_dataloader(self) -> CountingLoader:
        """Batches of this process from where the run stands."""
        reader = self.readers[0]
        rank, world_size = self._place()
        if isinstance(reader, StreamReader):
            share = slice_of_rank(self.batch_size, rank=rank, world_size=world_size)
            return self._training(
                StreamLoader(
                    reader.stream(rank=rank, world_size=world_size),
                    batches=self.batches_per_epoch,
                    consumed=self.consumed,
                    batch_size=share.stop - share.start,
                    **self._options(),
                )
            )
        sampler = GlobalBatchSampler(
            len(reader),
            batch_size=self.batch_size,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            consumed=self.consumed,
        )
        return self._training(self._loader(reader, sampler))

    def val_dataloader(self) -> CountingLoader | list:
        """All held-out samples in order; every process sees all of them."""
        reader = self.readers[1]
        if reader is None or not len(reader):
            return []
        rank, world_size = self._place()
        share = slice_of_rank(self.batch_size, rank=rank, world_size=world_size)
        return self._watched(self._loader(reader, InOrderSampler(len(reader), batch_size=share.stop - share.start)))

    def _place(self) -> tuple[int, int]:
        """Which part of a batch this process reads, and of how many; not every process has one of its own."""
        place = None if self.trainer is None else self.trainer.distributed_sampler_kwargs
        return (0, 1) if place is None else (place["rank"], place["num_replicas"])

    def _loader(self, reader: ItemReader, sampler: torch.utils.data.Sampler[list[SampleKey]]) -> CountingLoader:
        return CountingLoader(
            KeyedDataset(reader, seed=self.seed),
            batch_sampler=sampler,
            persistent_workers=self.workers > 0,
            **self._options(),
        )

    def _options(self) -> dict[str, Any]:
        return {
            "num_workers": self.workers,
            "collate_fn": collate,
            "pin_memory": torch.cuda.is_available(),
            "worker_init_fn": _leave_interrupts_to_the_main_process,
            # Its own, or every start of an iterator would move the random state that dropout draws from.
            "generator": torch.Generator().manual_seed(self.seed),
        }

    def _training(self, loader: CountingLoader) -> CountingLoader:
        loader.group = self._with_step_counts
        return self._watched(loader)

    def _watched(self, loader: CountingLoader) -> CountingLoader:
        loader.watch = self._watch
        return loader

    def _watch(self, batch: Item, seconds: float) -> None:
        """Count and name a batch's bad samples and take their names out of it.

        Raises:
            UserError: Too many of them.
        """
        self.waited += seconds
        failed = batch.pop("_failed", [])
        for name, reason in failed:
            self.replaced += 1
            if name not in self.bad:
                self.bad[name] = reason
                if len(self.bad) <= _NAMED:
                    log.warning("bad sample %s: %s; another takes its place", name, reason)
        if batch.get("_fatal"):
            raise UserError(batch["_fatal"])
        if "_fatal" in batch:
            raise UserError(f"{len(failed)} samples in a row cannot be used: {self._examples()}; check the data")
        self.seen += len(batch["bad"]) + batch.pop("_passed")
        if self.replaced > self.max_bad_fraction * max(self.seen, _ENOUGH):
            raise UserError(
                f"{self.replaced} of {self.seen} samples cannot be used, more than --data.max_bad_fraction "
                f"{self.max_bad_fraction:g} allows: {self._examples()}; mend or remove them, or raise the limit"
            )

    def _examples(self) -> str:
        return "; ".join(f"{name} ({reason})" for name, reason in list(self.bad.items())[:3])
