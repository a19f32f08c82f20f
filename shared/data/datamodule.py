"""The data module that every family builds on: order by rule, bad samples replaced and counted, nothing to save."""

from __future__ import annotations

import functools
import logging
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning as L
import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from zoo.shared.data.images import BadSample
from zoo.shared.data.loaders import CountingLoader, Item, StreamDataset, StreamLoader, by_value
from zoo.shared.data.order import BatchRamp, GlobalBatchSampler, InOrderSampler, SampleKey, sample_rng, slice_of_rank
from zoo.shared.data.windows import with_step_counts
from zoo.shared.distributed import gather_objects, rank, world_size
from zoo.shared.errors import UserError
from zoo.shared.runs.plan import epoch_length

log = logging.getLogger("zoo")

_TRIES = 16  # substitutes tried for one sample before the data is called unreadable
_ENOUGH = 1000  # the share of bad samples is taken of at least so many, or one early bad file would stop a run
_NAMED = 20  # bad samples named in the log; all of them are in `bad`


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
    fatal = [item["_fatal"] for item in items if "_fatal" in item]
    if fatal:
        return {"_fatal": fatal[0], "_failed": failed}
    return by_value({**default_collate(items), "_failed": failed})


def _sum(parts: Iterable[Any]) -> Any:
    """Numbers added up, dictionaries laid over each other."""
    return functools.reduce(lambda a, b: a | b if isinstance(a, dict) else a + b, parts)


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
        breach: Why the run must stop, once this process has met too many bad samples.
        preprocessor: What the data went through, saved with the weights; None where it is the model's standard one.
        ramp: How batches grow at the start of the run.
    """

    preprocessor: Any | None = None
    ramp: BatchRamp | None = None

    def __init__(self, *, batch_size: int, workers: int, seed: int, max_bad_fraction: float) -> None:
        super().__init__()
        if not 0 <= max_bad_fraction <= 1:
            raise UserError(f"max_bad_fraction must be from 0 to 1, not {max_bad_fraction}")
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {batch_size}")
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
        self.breach: str | None = None
        self._readers: tuple[ItemReader, ItemReader | None] | None = None

    def start_from(self, weights: Path | None) -> None:
        """Told before anything is opened that the run trains weights on that lie in a folder, or in a file alone.

        What belongs to them, such as a tokenizer of their own, has to be used.
        """

    @abstractmethod
    def open(self) -> tuple[ItemReader, ItemReader | None]:
        """Open the data: a reader of training samples and one of held-out samples, or None without any."""

    def prepare_data(self) -> None:
        """Open the data in one process of each machine first, so that what is fetched or indexed is so once.

        What is wrong with the data is said in :meth:`setup`, by all processes: here the others are waiting.
        """
        with suppress(UserError):
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

    def _epoch_length(self) -> int:
        batches = self.batches_per_epoch
        return batches if self.trainer is None else epoch_length(self.trainer, batches)

    def name_unreadable(self, unreadable: Mapping[str, str], readable: int, *, what: str) -> None:
        """Name and count what a source could not read when it was opened.

        Args:
            unreadable: Name to reason.
            readable: How many could be read.
            what: One of them, in a word, such as ``document``.

        Raises:
            UserError: They are more than ``max_bad_fraction`` allows.
        """
        for name, reason in unreadable.items():
            log.warning("bad %s %s: %s; it is left out", what, name, reason)
            self.bad[name] = reason
        share = len(unreadable) / max(1, len(unreadable) + readable)
        if share > self.max_bad_fraction:
            name, reason = next(iter(unreadable.items()))
            raise UserError(
                f"{len(unreadable)} of {len(unreadable) + readable} {what}s cannot be read, more than "
                f"--data.max_bad_fraction {self.max_bad_fraction:g} allows: {name} ({reason}); "
                "mend them, or raise the limit"
            )

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
                    length=self._epoch_length(),
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
            ramp=self.ramp,
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
        self.seen += len(batch["bad"])
        if self.replaced > self.max_bad_fraction * max(self.seen, _ENOUGH):
            self.breach = (
                f"{self.replaced} of {self.seen} samples cannot be used, more than --data.max_bad_fraction "
                f"{self.max_bad_fraction:g} allows: {self._examples()}; mend or remove them, or raise the limit"
            )
            if world_size() == 1:  # several processes have to stop together, after the step
                raise UserError(self.breach)

    def state_dict(self) -> dict[str, Any]:
        """What every process has counted, in rank order. Every process must call this."""
        here = {"bad": dict(self.bad), "seen": self.seen, "replaced": self.replaced}
        return {"ranks": gather_objects(here)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting; with another number of processes the first one takes over what all have counted."""
        ranks = state_dict["ranks"]
        if len(ranks) != world_size():
            ranks = [{key: _sum(part[key] for part in ranks) for key in ranks[0]}] + [{}] * (world_size() - 1)
        for name, value in ranks[rank()].items():
            setattr(self, name, value)

    def all_bad(self) -> dict[str, str]:
        """Id of each bad sample that any process has met, to the reason. Every process must call this."""
        return _sum(gather_objects(dict(self.bad)))

    def _examples(self) -> str:
        return "; ".join(f"{name} ({reason})" for name, reason in list(self.bad.items())[:3])
