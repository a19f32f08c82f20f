"""Speaking many sentences in parallel processes, once: the clips are kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import platform
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple
from importlib.util import find_spec

from zoo.shared.data.samples import Progress, cache_folder
from zoo.shared.errors import UserError
from zoo.whisper.speech.speaking import ENGINE, VERSION, Speaker, begin_worker, speak
from zoo.whisper.speech.store import ClipStore, Samples, open_store

Job = tuple[str, Speaker]

_TASK = 32  # sentences that a worker is handed at a time


def speak_all(jobs: Sequence[Job], *, workers: int | None = None, progress: Progress = lambda line: None) -> ClipStore:
    """The clips of sentences, in their order; spoken where the cache has none.

    A process that was killed is gone on with. The samples do not depend on the number of processes.

    Args:
        jobs: Texts and who speaks them.
        workers: Processes; the number of cores by default.
        progress: Called with a line when speaking begins.

    Raises:
        UserError: The engine is not installed.
    """
    path = cache_folder() / "speech" / f"spoken-{_key(jobs)}.pcm"

    def clips(done: int) -> Iterator[Samples]:
        check_engine()
        count = workers or os.cpu_count() or 1
        progress(f"speaking {len(jobs) - done:,} sentences with {count} processes")
        with _bar(len(jobs), done) as bar:
            for clip in _spoken(jobs[done:], count):
                if not len(clip):
                    raise UserError(f"{ENGINE} made no sound; reinstall it with: pip install 'paper-zoo[speech]'")
                yield clip
                bar.advance()

    return open_store(path, clips, count=len(jobs), notes={"engine": ENGINE, "clips": len(jobs)})


def check_engine() -> None:
    """Refuse to begin where the engine is missing.

    Raises:
        UserError: It is.
    """
    if find_spec("py_nanotts") is not None:
        return
    machine = f"{platform.system()} {platform.machine()}"
    if machine == "Linux x86_64":
        raise UserError("generated speech needs py-nanotts: pip install 'paper-zoo[speech]'")
    raise UserError(
        f"generated speech needs py-nanotts, which exists for Linux x86-64 alone and not for {machine}; "
        "name speech of your own with --data.source"
    )


def _key(jobs: Sequence[Job]) -> str:
    digest = hashlib.sha256(f"{ENGINE}:{VERSION}\n".encode())
    for text, speaker in jobs:
        digest.update((json.dumps([text, *astuple(speaker)]) + "\n").encode())
    return digest.hexdigest()[:16]


def _spoken(jobs: Sequence[Job], workers: int) -> Iterator[Samples]:
    tasks = [jobs[first : first + _TASK] for first in range(0, len(jobs), _TASK)]
    pending: deque[Future[list[Samples]]] = deque()
    # New processes even for one worker: the engine's samples are the same only in memory kept as a worker keeps it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(tasks)) or 1, mp_context=context, initializer=begin_worker) as pool:
        try:
            for task in tasks:
                pending.append(pool.submit(speak, task))
                if len(pending) >= 2 * workers:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        except BrokenProcessPool as error:
            raise UserError("a process that spoke sentences died; run the same command again to go on") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _bar:  # used as a context manager, like the functions of rich
    """A progress bar with rate and time left, where standard error is a terminal."""

    def __init__(self, total: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("speaking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._progress = RichProgress(*columns, console=console, transient=True, disable=not sys.stderr.isatty())
        self._task = self._progress.add_task("speaking", total=total, completed=done)

    def __enter__(self) -> _bar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def advance(self) -> None:
        self._progress.advance(self._task)
