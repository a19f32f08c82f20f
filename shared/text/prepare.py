"""From documents to token files: parallel, resumable, and the same bytes whatever the number of processes.

A long document is encoded in pieces, so that a single file of gigabytes is shared out too. It is only cut between a
word and the space before the next one, or behind a single line end before a word: pre-tokenizers never join what
stands there, so the pieces' tokens are those of the whole.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.shared.errors import UserError
from zoo.shared.files import check_writable
from zoo.shared.text.documents import Documents
from zoo.shared.text.token_writer import SHARD_TOKENS, TokenWriter
from zoo.shared.text.tokens import Tokenizer

TRAIN, HELD_OUT = "train", "held-out"

_PIECE = 1 << 18  # characters of a long document that are encoded at once
_TASK = 1 << 20  # characters that are handed to a process at once
_CUT = re.compile(r"(?<=[^\W_])(?= [^\W\d_])|(?<=\S\n)(?=[^\W_])")

Progress = Callable[[int, int, int], object]


def is_held_out(text: str, share: float) -> bool:
    """Whether a document belongs to the held-out part: decided by its text alone, so that equal texts stay together.

    Args:
        text: The document.
        share: Share of the documents that is held out.
    """
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"held-out").digest()
    return int.from_bytes(digest, "little") < share * 2.0**64


def cut(text: str, size: int = _PIECE) -> list[str]:
    """Pieces of a text of about ``size`` characters whose tokens, joined, are those of the text.

    Where no safe place follows within a piece, the piece grows.
    """
    pieces = []
    start = 0
    while len(text) - start > size:
        found = _CUT.search(text, start + size)
        if found is None:
            break
        pieces.append(text[start : found.start()])
        start = found.start()
    return [*pieces, text[start:]]


@dataclass(frozen=True, slots=True)
class _Head:
    """What is kept of a document while its text is encoded elsewhere."""

    part: str
    id: str
    year: int | None
    size: int
    pieces: int


def prepare(
    documents: Documents,
    tokenizer: Tokenizer,
    out: str | Path,
    *,
    held_out: float = 0.0,
    workers: int = 1,
    shard_tokens: int = SHARD_TOKENS,
    progress: Progress = lambda documents, tokens, done: None,
) -> dict[str, Any]:
    """Write ``out/train`` and, where something is held out, ``out/held-out``.

    Args:
        documents: What is encoded.
        tokenizer: Encodes it; must be picklable when there are several workers.
        out: The folder. A run that was killed is continued.
        held_out: Share of the documents that goes to ``held-out``.
        workers: Processes that encode; with 1 this one does, with the threads of the tokenizer's library.
        shard_tokens: Tokens per file.
        progress: Called with documents, tokens and bytes of the sources that are done.

    Returns:
        Per part: documents, tokens, bytes, bytes per token; and what was skipped, seconds, and the rates of what was
        encoded now.

    Raises:
        UserError: The folder holds something else, or nothing is left for a part.
    """
    out = Path(out).expanduser()
    writers = _writers(documents, tokenizer, out, held_out, shard_tokens)
    began = time.monotonic()
    encoded = {"documents": 0, "tokens": 0, "bytes": 0}
    if not all(writer.finished for writer in writers.values()):
        there = {part: writer.done for part, writer in writers.items()}  # of the run that was killed
        seen = dict.fromkeys(writers, 0)

        def wanted() -> Iterator[tuple[_Head, list[str]]]:
            for document in documents:
                part = HELD_OUT if HELD_OUT in writers and is_held_out(document.text, held_out) else TRAIN
                seen[part] += 1
                if seen[part] <= there[part]:
                    continue
                pieces = cut(document.text)
                size = len(document.text.encode())
                yield _Head(part, document.id, document.year, size, len(pieces)), pieces

        for head, tokens in _encoded(wanted(), tokenizer, workers):
            writers[head.part].add(head.id, tokens, size=head.size, year=head.year)
            encoded["documents"] += 1
            encoded["tokens"] += len(tokens)
            encoded["bytes"] += head.size
            progress(encoded["documents"], encoded["tokens"], documents.bytes_read)
        _check_parts(writers, held_out)
    report: dict[str, Any] = {"out": str(out)}
    for part, writer in writers.items():
        index = writer.finish()
        report[part] = {name: index[name] for name in ("documents", "tokens", "bytes")}
        report[part]["bytes_per_token"] = index["bytes"] / index["tokens"]
    seconds = time.monotonic() - began
    rates = {f"{name}_per_second": encoded[name] / max(seconds, 1e-9) for name in ("tokens", "bytes")}
    return {**report, "skipped": dict(documents.skipped), "encoded": encoded, "seconds": seconds, **rates}


def _writers(
    documents: Documents, tokenizer: Tokenizer, out: Path, held_out: float, shard_tokens: int
) -> dict[str, TokenWriter]:
    """The writers of the parts; all of them are checked before the first one writes."""
    plan = {**plan_of(documents), "held_out": held_out}
    if not held_out and (out / HELD_OUT).exists():
        raise UserError(f"{out} has a held-out part from another run; choose another --out, or delete it")
    parts = (TRAIN, HELD_OUT) if held_out else (TRAIN,)
    check_writable(out)
    return {
        part: TokenWriter(out / part, tokenizer=tokenizer, plan={**plan, "part": part}, shard_tokens=shard_tokens)
        for part in parts
    }


def plan_of(documents: Documents) -> dict[str, Any]:
    """What decides which documents there are, as JSON."""
    reading = documents.reading
    return {
        "sources": [[source.name, source.size] for source in documents.sources],
        "changed": [source.changed for source in documents.sources],
        "text_column": reading.text_column,
        "year_column": reading.year_column,
        "split_on": reading.split_on,
        "bad": documents.bad,
    }


def _check_parts(writers: dict[str, TokenWriter], held_out: float) -> None:
    """Refuse to end with an empty part, before any part is called finished."""
    for part, writer in writers.items():
        if writer.empty:
            raise UserError(
                f"nothing fell into {part} with --held-out {held_out:g}: there are too few documents; "
                "change --held-out, or part them with --split-on"
            )


def _encoded(
    items: Iterable[tuple[_Head, list[str]]], tokenizer: Tokenizer, workers: int
) -> Iterator[tuple[_Head, NDArray[Any]]]:
    """Encode pieces of documents in tasks of about equal size, and put the documents together in their order."""
    heads: deque[_Head] = deque()
    held: list[NDArray[Any]] = []

    def tasks() -> Iterator[list[str]]:
        task: list[str] = []
        size = 0
        for head, pieces in items:
            heads.append(head)
            for piece in pieces:
                task.append(piece)
                size += len(piece)
                if size >= _TASK:
                    yield task
                    task, size = [], 0
        if task:
            yield task

    for arrays in _run(tasks(), tokenizer, workers):
        for array in arrays:
            held.append(array)
            if len(held) == heads[0].pieces:
                yield heads.popleft(), held[0] if len(held) == 1 else np.concatenate(held)
                held = []
    assert not heads
    assert not held


def _run(tasks: Iterator[list[str]], tokenizer: Tokenizer, workers: int) -> Iterator[list[NDArray[Any]]]:
    if workers <= 1:
        for task in tasks:
            yield _arrays(tokenizer, task)
        return
    pending: deque[Future[list[NDArray[Any]]]] = deque()
    with ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(tokenizer,)
    ) as pool:
        try:
            for task in tasks:
                pending.append(pool.submit(_work, task))
                if len(pending) >= 2 * workers:  # enough to keep everybody busy; the reader must not run ahead
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process died, perhaps for lack of memory; run the same command with fewer --workers to go on"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_tokenizer: Tokenizer | None = None


def _begin(tokenizer: Tokenizer) -> None:
    """Set up a worker: it has the tokenizer, leaves Ctrl-C to the command, and ends when the command is gone."""
    global _tokenizer
    _tokenizer = tokenizer
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _work(task: list[str]) -> list[NDArray[Any]]:
    assert _tokenizer is not None
    return _arrays(_tokenizer, task)


def _arrays(tokenizer: Tokenizer, texts: Sequence[str]) -> list[NDArray[Any]]:
    return [np.array(ids, dtype=np.uint32) for ids in tokenizer.encode_batch(list(texts))]


def training_texts(documents: Documents, held_out: float) -> Iterator[str]:
    """Texts to train a tokenizer on: those that are not held out."""
    found = False
    for document in documents:
        if not held_out or not is_held_out(document.text, held_out):
            found = True
            yield document.text
    if not found:
        raise UserError(f"--held-out {held_out:g} leaves no document to train a tokenizer on")
