"""Token ids made of documents: in memory, and as a view of some documents. Token files are the same, on disk.

Every document is followed by the tokenizer's end-of-text token, if it has one; a window may span several documents
and nothing is masked between them (GPT-3, arXiv:2005.14165, section 2 and appendix B).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zoo.shared.errors import UserError
from zoo.shared.text.documents import Document

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
