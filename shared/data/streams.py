"""WebDataset tars that are read over a network or from a program, from front to back: a weaker promise than files'.

What holds: every lap over the shards visits each sample once, whatever the number of processes and workers, because
shards are dealt out to them in an order drawn from (seed, epoch, lap). Which samples share a batch depends on the
number of processes and workers as well, and the order inside a shard is only mixed within a buffer. An epoch has a
stated number of pairs; a reader that runs out of shards begins its next lap, and shards that an epoch does not reach
have their turn in another. A run that is resumed in mid-epoch reads the epoch again from its start and passes over
what it has trained on, so it goes on exactly where it stopped, if the numbers of processes and workers are the same;
otherwise it goes on with the next epoch's shards. Where a shard breaks off, its complete samples are used and the rest
counts as one bad sample.
"""

from __future__ import annotations

import itertools
import random
import tarfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import get_worker_info

from zoo.shared.data.images import BadSample
from zoo.shared.data.loaders import Item, StreamDataset
from zoo.shared.data.order import sample_rng
from zoo.shared.data.tars import AFTER, BLOCK, IMAGES, TarSource, split_name
from zoo.shared.errors import UserError

_HEAD = 256  # pairs that stand for the whole where a few are looked at
_BUFFER = 1000  # samples that are mixed
_CHUNK = 1 << 20
_HOPELESS = 1000  # bad samples in a row with which the data is called unreadable


class Slot(NamedTuple):
    """One of the readers that share the shards: a worker of a process."""

    number: int
    readers: int


class MemoryPairs(TarSource):
    """Pairs whose files are in memory.

    Args:
        samples: From :func:`read_shard`.
        name: What they are, for people.
    """

    def __init__(self, samples: Iterable[dict[str, Any]], *, name: str) -> None:
        self.name = name
        self.classes = ()
        self.contents = list(samples)
        # Offsets and sizes have no meaning here, the extensions do.
        self._samples = [
            (0, sample["__key__"], {end: [] for end in sample if not end.startswith("__")}) for sample in self.contents
        ]

    def id(self, i: int) -> str:
        """Tar and key."""
        return f"{PurePosixPath(self.contents[i]['__url__']).name}/{self.contents[i]['__key__']}"

    def _read(self, i: int, member: str) -> bytes:
        return self.contents[i][member]


class PairStream(MemoryPairs):
    """Pairs of remote tars. As a source it is the first few of them; :meth:`samples` gives them all.

    Args:
        source: Address or ``pipe:`` command of the tars, with ranges in braces.
        seed: Chooses the order.
    """

    def __init__(self, source: str, *, seed: int) -> None:
        from braceexpand import braceexpand

        self.shards = list(braceexpand(source))
        self.seed = seed
        with closing(read_shard(self.shards[0])) as first:
            super().__init__(filter(_has_image, itertools.islice(first, _HEAD)), name=source)

    def samples(self, epoch: int, slot: Slot) -> Iterator[dict[str, Any]]:
        """Samples of one reader without end, lap after lap.

        Args:
            epoch: Passes of the stated length before this one.
            slot: Which reader.

        Raises:
            UserError: Fewer shards than readers, or a shard that cannot be opened.
        """
        if slot.readers > len(self.shards):
            raise UserError(
                f"{len(self.shards)} tars cannot be dealt out to {slot.readers} readers (processes times workers); "
                "use fewer --data.workers, or more and smaller tars"
            )
        return itertools.chain.from_iterable(self.lap(epoch, number, slot) for number in itertools.count())

    def lap(self, epoch: int, number: int, slot: Slot) -> Iterator[dict[str, Any]]:
        """One reader's part of one lap over all shards."""
        import webdataset

        order = np.random.default_rng([self.seed, epoch, number]).permutation(len(self.shards))
        mine = itertools.chain.from_iterable(read_shard(self.shards[i]) for i in order[slot.number :: slot.readers])
        mixer = random.Random(f"{self.seed} {epoch} {number} {slot.number} {slot.readers}")
        return webdataset.shuffle(_BUFFER, rng=mixer)(mine)


def read_shard(shard: str) -> Generator[dict[str, Any], None, None]:
    """Samples of one tar that hold an image: ``__key__``, ``__url__`` and bytes by extension.

    When it breaks off, its complete samples are followed by one without files, which stands for the rest.

    Raises:
        UserError: It cannot be opened, or is no tar.
    """
    from webdataset.gopen import Pipe, gopen

    sample: dict[str, Any] = {}
    last, reading, broken = "", None, None
    try:
        stream = gopen(shard)
        program = stream if isinstance(stream, Pipe) else None
        if program:
            program.ignore_errors = True  # until what it wrote has been used
        with stream, tarfile.open(fileobj=stream, mode="r|*") as opened:
            for member in opened:
                last, split = member.name, split_name(member.name)
                opened.members.clear()  # type: ignore[attr-defined]  # they would be kept
                contents = opened.extractfile(member)
                if split is None or contents is None:
                    continue
                reading = split[0]
                if sample.get("__key__") != reading:
                    if _has_image(sample):
                        yield sample
                    sample = {"__key__": reading, "__url__": shard}
                sample[split[1]] = contents.read()
                reading = None
            if not _ended(opened) or (program and program.proc.wait() not in program.ignore_status):
                broken = last
    except GeneratorExit:  # enough was read; what the program at the other end thinks of it is no matter
        return
    except Exception as error:
        if not last:
            raise UserError(f"{shard} cannot be read ({type(error).__name__}); try it by hand") from error
        broken = last
    if reading is None and _has_image(sample):
        yield sample
    if broken is not None:
        yield {"__key__": reading or AFTER.format((split_name(broken) or (broken,))[0]), "__url__": shard}


def _has_image(sample: dict[str, Any]) -> bool:
    return not sample.keys().isdisjoint(IMAGES)


def _ended(opened: tarfile.TarFile) -> bool:
    """Whether a tar that is read from front to back ends as it should; reads what is left of it.

    A program at the other end would fail to write that, and what is behind a damaged header is no padding.
    """
    stream: Any = opened.fileobj
    found = stream.tell() >= opened.offset + BLOCK
    while rest := stream.read(_CHUNK):
        found = found and not any(rest)
    return found


class StreamedItems(StreamDataset):
    """Items of a stream, for the workers of one process.

    Args:
        stream: The pairs.
        read: Makes an item of a source with one sample, as :class:`~zoo.shared.data.datamodule.ItemReader` does.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        stream: PairStream,
        *,
        read: Callable[[MemoryPairs, np.random.Generator], Item],
        rank: int,
        world_size: int,
    ) -> None:
        self.stream = stream
        self.read = read
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[Item]:
        """Items without end; a bad sample is left out and named in the next item.

        What the epoch has delivered before a restart is read again and passed over, because only reading tells which
        samples are bad and were left out.
        """
        worker = get_worker_info()
        workers, place = (1, 0) if worker is None else (worker.num_workers, worker.id)
        # Batches come from the workers in turn, and the next one comes from the first worker.
        number = (place + self.delivered) % workers
        passing = len(range(number, self.delivered, workers)) * self.batch_size
        slot = Slot(self.rank * workers + number, self.world_size * workers)
        failed: list[tuple[str, str]] = []
        try:
            for order, sample in enumerate(self.stream.samples(self.epoch, slot)):
                pairs = MemoryPairs([sample], name=self.stream.name)
                index = order * slot.readers + slot.number
                try:
                    item = self.read(pairs, sample_rng(self.stream.seed, self.epoch, index))
                except BadSample as error:
                    failed.append((pairs.id(0), str(error)))
                    if len(failed) == _HOPELESS:
                        break
                    continue
                if passing:
                    passing -= 1
                else:
                    yield {**item, "index": index, "bad": bool(failed), "_failed": failed}
                failed = []
            while True:
                yield {"_fatal": None, "_failed": failed}
        except UserError as error:  # returned, because an error that leaves a worker has a traceback
            while True:
                yield {"_fatal": str(error)}
