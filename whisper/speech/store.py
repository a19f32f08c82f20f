"""Many short clips in one file of 16-bit samples at 16 kHz, mapped into memory, with an index beside it.

A store is written once, clip by clip and in order. What a killed process had written is kept and gone on with, and the
index, which makes a store complete, is written last.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.shared.files import read_json, write_json

SAMPLE_RATE = 16000

Samples = NDArray[np.int16]


class ClipStore:
    """A complete store.

    Args:
        path: Its file of samples.

    Attributes:
        path: The file of samples.
        starts: Where each clip begins and the last one ends ``(clips + 1,)``, in samples.
        notes: What its writer noted.
    """

    def __init__(self, path: Path) -> None:
        index = read_json(_index(path))
        self.path = path
        self.starts = np.concatenate([[0], np.cumsum(np.array(index["lengths"], dtype=np.int64))])
        self.notes: dict[str, Any] = index["notes"]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def place(self, i: int) -> tuple[int, int]:
        """First sample of clip ``i`` in the file, and how many it has."""
        return int(self.starts[i]), int(self.starts[i + 1] - self.starts[i])

    def samples(self, i: int) -> Samples:
        """Clip ``i`` as it lies in the file ``(n,)``."""
        return read_samples(self.path, *self.place(i))


def read_samples(path: Path, first: int, count: int) -> Samples:
    """Samples ``(count,)`` of a store's file from ``first`` on, mapped into memory."""
    if not count:
        return np.zeros(0, dtype=np.int16)
    return np.memmap(path, dtype="<i2", mode="r", offset=2 * first, shape=(count,))


def open_store(
    path: Path, clips: Callable[[int], Iterator[Samples]], *, count: int, notes: dict[str, Any] | None = None
) -> ClipStore:
    """The store at ``path``; it is written first where it is not there, or not complete.

    Args:
        path: The file of samples; its name tells by a hash what it holds.
        clips: Called with the number of clips that are there already; gives the remaining ones in order.
        count: How many there are in all.
        notes: Kept in the index.
    """
    if not _index(path).exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            if not _index(path).exists():
                _write(path, clips, count, notes or {})
    return ClipStore(path)


def _write(path: Path, clips: Callable[[int], Iterator[Samples]], count: int, notes: dict[str, Any]) -> None:
    part, journal = path.with_suffix(".part"), path.with_suffix(".lengths")
    lengths = _kept(part, journal)
    with part.open("ab") as samples, journal.open("ab") as ledger:
        for clip in clips(len(lengths)):
            assert clip.dtype == np.int16
            samples.write(clip.astype("<i2").tobytes())
            samples.flush()  # before the ledger says that it is there
            ledger.write(np.array([len(clip)], dtype="<i8").tobytes())
            ledger.flush()
            lengths.append(len(clip))
        os.fsync(samples.fileno())
    assert len(lengths) == count
    part.replace(path)
    write_json(_index(path), {"rate": SAMPLE_RATE, "lengths": lengths, "notes": notes})
    journal.unlink()


def _kept(part: Path, journal: Path) -> list[int]:
    """Lengths of the clips that an earlier process wrote in full; what it wrote in half is cut off."""
    if not (part.exists() and journal.exists()):
        part.unlink(missing_ok=True)
        journal.unlink(missing_ok=True)
        return []
    whole = journal.stat().st_size // 8
    lengths = np.fromfile(journal, dtype="<i8", count=whole)
    fits = int(np.searchsorted(np.cumsum(lengths) * 2, part.stat().st_size, side="right"))
    os.truncate(journal, 8 * fits)
    os.truncate(part, 2 * int(lengths[:fits].sum()))
    return [int(length) for length in lengths[:fits]]


def _index(path: Path) -> Path:
    return path.with_suffix(".json")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from writing the same store; they wait, and find it written."""
    with path.with_suffix(".lock").open("w") as lock:
        with suppress(ImportError):  # where there is no flock, two writers at once are not told apart
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
