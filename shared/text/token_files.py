"""Token files: documents as token ids in a folder, memory-mapped, packed one after another.

Every document is followed by the tokenizer's end-of-text token, if it has one; a window may span several documents
and nothing is masked between them (GPT-3, arXiv:2005.14165, section 2 and appendix B).

The folder holds ``tokens-00000.bin`` ... (``uint16`` where the vocabulary fits, otherwise ``uint32``, little-endian),
beside each a table ``documents-00000.npy`` (:data:`ROW`) and the documents' names ``ids-00000.txt`` (a JSON string on
each line), ``lengths.npy`` (bytes per token), the tokenizer's own files, and ``index.json``, which is written last: a
folder without it is unfinished.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zoo.shared.errors import UserError
from zoo.shared.files import read_json
from zoo.shared.text.documents import Document

FORMAT = 1
UNKNOWN_YEAR = -1
# Where a document starts, how many tokens it has with its end-of-text, the bytes of its text, and its year or -1.
ROW = np.dtype([("start", "<i8"), ("tokens", "<i8"), ("bytes", "<i8"), ("year", "<i4")])


class Tokenizer(Protocol):
    """What is needed of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Number of ids."""

    @property
    def end_of_text(self) -> int | None:
        """The token that parts documents."""

    @property
    def fingerprint(self) -> str:
        """Equal for tokenizers that encode alike."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts."""

    def token_lengths(self) -> NDArray[np.int64]:
        """Bytes that each id stands for, ``(vocab_size,)``."""

    def save(self, folder: str | Path) -> object:
        """Write the tokenizer's files."""


class Tokens:
    """A sequence of token ids that is made of documents: a whole file, some of its documents, or texts in memory.

    Args:
        documents: Table with rows :data:`ROW`; ``start`` counts in this sequence.
        vocab_size: Number of ids.
        end_of_text: The token after each document.
        lengths: Bytes per id, ``(vocab_size,)``.
        fingerprint: Of the tokenizer.

    Attributes:
        documents, vocab_size, end_of_text, lengths, fingerprint: As given.
    """

    def __init__(
        self,
        documents: NDArray[Any],
        *,
        vocab_size: int,
        end_of_text: int | None,
        lengths: NDArray[np.int64],
        fingerprint: str,
    ) -> None:
        self.documents = documents
        self.vocab_size = vocab_size
        self.end_of_text = end_of_text
        self.lengths = lengths
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        """Number of tokens."""
        return int(self.documents["tokens"].sum())

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the texts, ends of text not counted."""
        return int(self.documents["bytes"].sum())

    @property
    def ids(self) -> list[str]:
        """Names of the documents."""
        raise NotImplementedError

    def read(self, start: int, stop: int) -> NDArray[np.int64]:
        """Tokens ``start`` to ``stop``, which lie inside the sequence."""
        raise NotImplementedError

    def window(self, start: int, length: int) -> NDArray[np.int64]:
        """Token ids ``(length,)`` from ``start`` on.

        Raises:
            IndexError: The window leaves the sequence.
        """
        if start < 0 or length < 0 or start + length > len(self):
            raise IndexError(f"window {start}..{start + length} of {len(self)} tokens")
        return self.read(start, start + length)

    def select(
        self, *, years: tuple[int | None, int | None] | None = None, documents: Iterable[str] | None = None
    ) -> TokenView:
        """The chosen documents, one after another in their order.

        Args:
            years: First and last year, both included; None leaves a side open. A document without a known year is
                never chosen.
            documents: Ids of the documents.

        Raises:
            UserError: Nothing is left, or there is no such document.
        """
        chosen = np.ones(len(self.documents), dtype=bool)
        if years is not None:
            known, (first, last) = self.documents["year"], years
            chosen &= known != UNKNOWN_YEAR
            if first is not None:
                chosen &= known >= first
            if last is not None:
                chosen &= known <= last
            if not chosen.any():
                dated = int((known != UNKNOWN_YEAR).sum())
                span = " to ".join("..." if year is None else str(year) for year in years)
                raise UserError(
                    f"no document has a known year in {span}: {dated:,} of {len(known):,} documents have a year; "
                    "prepare the data with --year-column, or choose other years"
                )
        if documents is not None:
            wanted = set(documents)
            named = np.fromiter((name in wanted for name in self.ids), dtype=bool, count=len(self.documents))
            if missing := wanted - {name for name, there in zip(self.ids, named, strict=True) if there}:
                raise UserError(f"the token file has no document {min(missing)!r}")
            chosen &= named
            if not chosen.any():
                raise UserError("none of the named documents has a known year in the chosen span")
        return TokenView(self, np.flatnonzero(chosen))


class TokenView(Tokens):
    """Some documents of another sequence, one after another.

    Args:
        base: The sequence.
        chosen: Places of the documents in its table, ascending.
    """

    def __init__(self, base: Tokens, chosen: NDArray[np.int64]) -> None:
        rows = base.documents[chosen].copy()
        ends = np.cumsum(rows["tokens"])
        # Neighbours that stay neighbours are read as one piece.
        breaks = np.flatnonzero(rows["start"][1:] != rows["start"][:-1] + rows["tokens"][:-1]) + 1
        firsts = np.concatenate([np.zeros(min(1, len(rows)), dtype=np.int64), breaks])
        self._sources = rows["start"][firsts]
        rows["start"] = ends - rows["tokens"]
        self._starts = rows["start"][firsts]
        self._total = int(ends[-1]) if len(ends) else 0
        self.base = base
        self.chosen = chosen
        super().__init__(
            rows,
            vocab_size=base.vocab_size,
            end_of_text=base.end_of_text,
            lengths=base.lengths,
            fingerprint=base.fingerprint,
        )

    def __len__(self) -> int:
        return self._total

    @property
    def ids(self) -> list[str]:
        """Names of the documents."""
        names = self.base.ids
        return [names[place] for place in self.chosen]

    def read(self, start: int, stop: int) -> NDArray[np.int64]:
        """Tokens ``start`` to ``stop``."""
        pieces = []
        run = int(np.searchsorted(self._starts, start, side="right")) - 1
        while start < stop:
            end = int(self._starts[run + 1]) if run + 1 < len(self._starts) else self._total
            until = min(stop, end)
            shift = int(self._sources[run] - self._starts[run])
            pieces.append(self.base.read(start + shift, until + shift))
            start, run = until, run + 1
        return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)


class MemoryTokens(Tokens):
    """Tokens in memory.

    Args:
        tokens: All ids.
        names: Names of the documents.
        documents, vocab_size, end_of_text, lengths, fingerprint: As :class:`Tokens`.
    """

    def __init__(
        self,
        tokens: NDArray[Any],
        names: list[str],
        documents: NDArray[Any],
        *,
        vocab_size: int,
        end_of_text: int | None,
        lengths: NDArray[np.int64],
        fingerprint: str,
    ) -> None:
        super().__init__(
            documents, vocab_size=vocab_size, end_of_text=end_of_text, lengths=lengths, fingerprint=fingerprint
        )
        self._tokens = tokens
        self._names = names

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def ids(self) -> list[str]:
        """Names of the documents."""
        return self._names

    def read(self, start: int, stop: int) -> NDArray[np.int64]:
        """Tokens ``start`` to ``stop``."""
        return self._tokens[start:stop].astype(np.int64)


def from_texts(documents: Sequence[Document], tokenizer: Tokenizer) -> MemoryTokens:
    """Encode a small corpus in memory; equal to writing and opening a token file of it.

    Args:
        documents: The texts.
        tokenizer: Encodes them.

    Raises:
        UserError: There are no documents.
    """
    if not documents:
        raise UserError("there are no documents to encode")
    encoded = [
        ended(np.array(ids, dtype=token_type(tokenizer.vocab_size)), tokenizer.end_of_text)
        for ids in tokenizer.encode_batch([document.text for document in documents])
    ]
    rows = np.zeros(len(documents), dtype=ROW)
    rows["tokens"] = [len(ids) for ids in encoded]
    rows["start"] = np.cumsum(rows["tokens"]) - rows["tokens"]
    rows["bytes"] = [len(document.text.encode()) for document in documents]
    rows["year"] = [UNKNOWN_YEAR if document.year is None else document.year for document in documents]
    return MemoryTokens(
        np.concatenate(encoded),
        [document.id for document in documents],
        rows,
        vocab_size=tokenizer.vocab_size,
        end_of_text=tokenizer.end_of_text,
        lengths=np.asarray(tokenizer.token_lengths(), dtype=np.int64),
        fingerprint=tokenizer.fingerprint,
    )


def token_type(vocab_size: int) -> np.dtype[Any]:
    """The smallest type of the two that holds every id."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def ended(tokens: NDArray[Any], end_of_text: int | None) -> NDArray[Any]:
    """A document's tokens with its end-of-text."""
    return tokens if end_of_text is None else np.append(tokens, tokens.dtype.type(end_of_text))


class TokenFile(Tokens):
    """A folder of tokens, memory-mapped. Can be sent to other processes, which open the files when they read.

    Args:
        folder: What :class:`zoo.shared.text.token_writer.TokenWriter` wrote.
        tokenizer: The tokenizer that the model uses; it must be the one that wrote the file.

    Attributes:
        folder: The folder.
        index: The contents of ``index.json``.

    Raises:
        UserError: Not a token file, unfinished, truncated, or of another tokenizer.
    """

    def __init__(self, folder: str | Path, *, tokenizer: Tokenizer | None = None) -> None:
        self.folder = Path(folder).expanduser()
        self.index = read_index(self.folder)
        index = self.index
        dtype = np.dtype(index["dtype"])
        self._dtype = dtype
        if dtype != token_type(index["vocab_size"]):
            raise self._damaged(f"{index['vocab_size']:,} ids cannot be of type {dtype.name}")
        if tokenizer is not None and tokenizer.fingerprint != index["fingerprint"]:
            raise UserError(
                f"{folder} was written with another tokenizer; prepare the data again with this one, "
                f"or use the tokenizer in {folder}"
            )
        tables = [self._check_shard(number, shard) for number, shard in enumerate(index["shards"])]
        documents = np.concatenate(tables) if tables else np.zeros(0, dtype=ROW)
        self._ends = np.cumsum([shard["tokens"] for shard in index["shards"]], dtype=np.int64)
        counted = {"tokens": int(documents["tokens"].sum()), "documents": len(documents)}
        counted["bytes"] = int(documents["bytes"].sum())
        if any(counted[name] != index[name] for name in counted):
            raise self._damaged("its tables and its index differ")
        if not np.array_equal(documents["start"], np.cumsum(documents["tokens"]) - documents["tokens"]):
            raise self._damaged("its documents do not follow one another")
        if any(shard["largest"] >= index["vocab_size"] for shard in index["shards"]):
            raise self._damaged(f"it has ids beyond its vocabulary of {index['vocab_size']:,}")
        lengths = self._load("lengths.npy")
        if lengths.shape != (index["vocab_size"],):
            raise self._damaged("lengths.npy does not fit the vocabulary")
        self._maps: dict[int, NDArray[Any]] = {}
        self._ids: list[str] | None = None
        super().__init__(
            documents,
            vocab_size=index["vocab_size"],
            end_of_text=index["end_of_text"],
            lengths=lengths.astype(np.int64),
            fingerprint=index["fingerprint"],
        )

    def __len__(self) -> int:
        return int(self.index["tokens"])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    @property
    def ids(self) -> list[str]:
        """Names of the documents."""
        if self._ids is None:
            self._ids = []
            for number in range(len(self.index["shards"])):
                lines = (self.folder / part_name("ids", number)).read_text(encoding="utf-8").split("\n")[:-1]
                self._ids += [json.loads(line) for line in lines]
            if len(self._ids) != len(self.documents):
                raise self._damaged("its lists of ids do not fit its documents")
        return self._ids

    def read(self, start: int, stop: int) -> NDArray[np.int64]:
        """Tokens ``start`` to ``stop``."""
        out = np.empty(stop - start, dtype=np.int64)
        shard = int(np.searchsorted(self._ends, start, side="right"))
        done = 0
        while start < stop:
            begin = int(self._ends[shard - 1]) if shard else 0
            until = min(stop, int(self._ends[shard]))
            out[done : done + until - start] = self._map(shard)[start - begin : until - begin]
            done += until - start
            start, shard = until, shard + 1
        return out

    def _map(self, number: int) -> NDArray[Any]:
        if number not in self._maps:
            # A plain array over the map: indexing a memmap itself costs more than the copy.
            opened = np.memmap(self.folder / part_name("tokens", number), dtype=self._dtype, mode="r")
            self._maps[number] = np.asarray(opened)
        return self._maps[number]

    def _check_shard(self, number: int, shard: dict[str, int]) -> NDArray[Any]:
        path = self.folder / part_name("tokens", number)
        size, wanted = path.stat().st_size if path.is_file() else -1, shard["tokens"] * self._dtype.itemsize
        if size != wanted:
            found = f"{size:,} of {wanted:,} bytes" if size >= 0 else "missing"
            raise self._damaged(f"{path.name}: {found}")
        table = self._load(part_name("documents", number))
        if table.dtype != ROW or int(table["tokens"].sum()) != shard["tokens"]:
            raise self._damaged(f"{part_name('documents', number)} does not fit its tokens")
        return table

    def _load(self, name: str) -> NDArray[Any]:
        try:
            return np.load(self.folder / name, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise self._damaged(f"{name} cannot be read") from error

    def _damaged(self, reason: str) -> UserError:
        return UserError(f"{self.folder} is damaged ({reason}); delete it and run `zoo data prepare` again")


def part_name(kind: str, number: int) -> str:
    """Name of a shard's file of tokens, documents or ids."""
    ending = {"tokens": "bin", "documents": "npy", "ids": "txt"}[kind]
    return f"{kind}-{number:05d}.{ending}"


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a token file.

    Raises:
        UserError: There is none, or it is of another format.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; `zoo data prepare` makes one")
    if not (folder / "index.json").is_file():
        if (folder / "unfinished.json").is_file():
            raise UserError(f"{folder} is unfinished; run the same `zoo data prepare` again to go on with it")
        parts = [part for part in ("train", "held-out") if (folder / part / "index.json").is_file()]
        hint = f"; did you mean {folder / parts[0]}?" if parts else "; `zoo data prepare` makes one"
        raise UserError(f"{folder} is no token file{hint}")
    index = read_json(folder / "index.json")
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise UserError(f"{folder} is not in this version's format of token files; prepare the data again")
    return index
