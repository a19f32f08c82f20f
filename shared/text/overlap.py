"""Overlap of training text with benchmarks, measured and cut out (GPT-3, arXiv:2005.14165, appendix C).

Words are lower-cased, without punctuation, between white space. *Analysis*: an example of a benchmark is dirty when one
of its N-grams occurs in the training text; N is the 5th percentile of the examples' lengths, but 8 at least and 13 at
most, and an example of fewer words counts as one n-gram. *Training filter*: 13-grams of the benchmark are cut out of
the training text with 200 characters on each side; pieces of fewer than 200 characters go, a document that falls into
more than 10 pieces goes as a whole, and a 13-gram that stands in more than 10 documents is common speech and stays.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.shared.text.bloom import BloomFilter, mix
from zoo.shared.text.documents import Document
from zoo.shared.text.quality import snippet

SHORTEST, LONGEST = 8, 13
WINDOW = 200  # characters that are cut on each side, and the length of the shortest piece that is kept
MOST_PIECES = 10
MOST_DOCUMENTS = 10
BLOOM_WORDS = 8
BLOOM_BOUND = 1e-8

_SHOWN = 10
_VISIBLE = re.compile(r"\S+")
_ALPHANUMERIC = re.compile(r"[^\W_]+")


@lru_cache(maxsize=1 << 20)
def _bare(word: str) -> str:
    return "".join(c for c in word.lower() if not unicodedata.category(c).startswith(("P", "S")))


@lru_cache(maxsize=1 << 20)
def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def clean_words(text: str) -> tuple[list[str], NDArray[np.int64]]:
    """Lower-cased words without punctuation, and their places in the text.

    Returns:
        Words (N) and spans ``(N, 2)``; what is punctuation alone is left out.
    """
    words, spans = [], []
    for match in _VISIBLE.finditer(text):
        if word := _bare(match.group()):
            words.append(word)
            spans.append(match.span())
    return words, np.array(spans, dtype=np.int64).reshape(-1, 2)


def alphanumeric_words(text: str) -> list[str]:
    """Lower-cased runs of letters and digits, as GPT-2's study has them."""
    return _ALPHANUMERIC.findall(text.lower())


def gram_hashes(words: Sequence[str], length: int) -> NDArray[np.uint64]:
    """A 64-bit hash of each n-gram, ``(max(N - length + 1, 0),)``."""
    count = len(words) - length + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    singles = np.fromiter(map(_hash, words), dtype=np.uint64, count=len(words))
    hashes = np.full(count, length, dtype=np.uint64)
    for shift in range(length):  # mixing after each word makes the order count
        hashes = mix(hashes * np.uint64(0x9E3779B97F4A7C15) + singles[shift : shift + count])
    return hashes


def analysis_length(lengths: Sequence[int]) -> int:
    """N of a benchmark: the 5th percentile of its examples' lengths in words, limited to 8 to 13."""
    return int(np.clip(int(np.percentile(lengths, 5)), SHORTEST, LONGEST))


def find_dirty(training: Iterable[Document], benchmark: Iterable[Document]) -> dict[str, Any]:
    """Which examples of a benchmark share an n-gram with the training text.

    Args:
        training: The training set; read once.
        benchmark: The examples.

    Returns:
        ``n``, ``examples``, ``dirty``, ``dirty_share``, ``shorter`` (examples of fewer than N words), ``dirty_ids``,
        and the first overlaps.
    """
    examples = [(example, *clean_words(example.text)) for example in benchmark]
    n = analysis_length([len(words) for _, words, _ in examples])
    owners: dict[int, dict[int, list[tuple[int, int]]]] = {}  # length -> hash -> (example, word)
    for number, (_, words, _) in enumerate(examples):
        length = min(n, len(words))
        for place, value in enumerate(gram_hashes(words, length).tolist() if length else ()):
            owners.setdefault(length, {}).setdefault(value, []).append((number, place))
    dirty: dict[int, dict[str, Any]] = {}
    keys = {length: np.fromiter(sorted(found), dtype=np.uint64, count=len(found)) for length, found in owners.items()}
    for document in training:
        words, _ = clean_words(document.text)
        for length, wanted in keys.items():
            hashes = gram_hashes(words, length)
            for value in np.unique(hashes[np.isin(hashes, wanted)]).tolist():
                for number, place in owners[length][value]:
                    if number not in dirty:
                        example, own, _ = examples[number]
                        gram = " ".join(own[place : place + length])
                        dirty[number] = {"example": example.id, "training": document.id, "overlap": gram}
    return {
        "method": "ngram",
        "n": n,
        "examples": len(examples),
        "dirty": len(dirty),
        "dirty_share": len(dirty) / max(len(examples), 1),
        "shorter": sum(len(words) < n for _, words, _ in examples),
        "dirty_ids": [examples[number][0].id for number in sorted(dirty)],
        "overlaps": [dirty[number] for number in sorted(dirty)[:_SHOWN]],
    }


class OverlapCutter:
    """Cuts a benchmark's 13-grams out of a training set.

    Args:
        training: The training set; read once here, to count in how many documents a 13-gram stands.
        benchmark: The examples.
        length: Words per n-gram.
    """

    def __init__(self, training: Iterable[Document], benchmark: Iterable[Document], *, length: int = LONGEST) -> None:
        self.length = length
        grams = [gram_hashes(clean_words(example.text)[0], length) for example in benchmark]
        wanted = np.unique(np.concatenate(grams)) if grams else np.empty(0, dtype=np.uint64)
        documents = np.zeros(len(wanted), dtype=np.int64)
        for document in training:
            hashes = np.unique(gram_hashes(clean_words(document.text)[0], length))
            documents += np.isin(wanted, hashes, assume_unique=True)
        self.common = int((documents > MOST_DOCUMENTS).sum())
        self._wanted = wanted[(documents > 0) & (documents <= MOST_DOCUMENTS)]
        self._counts: Counter[str] = Counter()
        self._examples: list[dict[str, Any]] = []

    def __call__(self, documents: Iterable[Document]) -> Iterator[Document]:
        """What is left of the documents; a piece's id is the document's with ``#`` and the piece's number."""
        for document in documents:
            pieces = self.cut(document.text)
            if pieces is None:
                self._counts["untouched"] += 1
                yield document
                continue
            self._counts["cut" if pieces else "dropped"] += 1
            self._counts["pieces"] += len(pieces)
            kept = sum(map(len, pieces))
            self._counts["characters_removed"] += len(document.text) - kept
            if len(self._examples) < _SHOWN:
                entry = {"id": document.id, "pieces": len(pieces), "characters_removed": len(document.text) - kept}
                self._examples.append({**entry, "overlap": self._first_overlap(document.text)})
            for number, piece in enumerate(pieces):
                yield Document(piece, f"{document.id}#{number}", document.year)

    def cut(self, text: str) -> list[str] | None:
        """The pieces of a text that are kept; None when nothing in it overlaps."""
        spans = self._spans(text)
        if not len(spans):
            return None
        pieces, start = [], 0
        for first, last in spans.tolist():
            pieces.append(text[start : max(first - WINDOW, start)])
            start = max(start, last + WINDOW)
        pieces.append(text[start:])
        whole = [piece for piece in pieces if piece]  # neighbouring cuts leave nothing between them
        if len(whole) > MOST_PIECES:
            return []
        return [piece for piece in whole if len(piece) >= WINDOW]

    def _spans(self, text: str) -> NDArray[np.int64]:
        """First and last character of each 13-gram of the benchmark, ``(K, 2)``."""
        words, spans = clean_words(text)
        places = np.flatnonzero(np.isin(gram_hashes(words, self.length), self._wanted))
        return np.stack([spans[places, 0], spans[places + self.length - 1, 1]], axis=1)

    def _first_overlap(self, text: str) -> str:
        first, last = self._spans(text)[0]
        return snippet(text[first:last])

    def report(self) -> dict[str, Any]:
        """Counts and the first documents that were cut."""
        names = ("untouched", "cut", "dropped", "pieces", "characters_removed")
        counts = {name: self._counts[name] for name in names}
        return {"n": self.length, "common_ngrams_ignored": self.common, **counts, "examples": self._examples}


def bloom_overlap(training: Iterable[Document], benchmark: Iterable[Document]) -> dict[str, Any]:
    """GPT-2's study (section 4): the share of a test set's 8-grams that occur in the training text.

    Args:
        training: The training set; read twice, once to count.
        benchmark: The test set.

    Returns:
        ``ngrams``, ``found``, ``share`` (mean of the examples' shares is ``mean_share``), the size of the filter, and
        the examples with most overlap.
    """
    words = sum(len(alphanumeric_words(document.text)) for document in training)
    bloom = BloomFilter(words, bound=BLOOM_BOUND)
    for document in training:
        bloom.add(np.unique(gram_hashes(alphanumeric_words(document.text), BLOOM_WORDS)))
    total = found = short = 0
    shares: list[tuple[float, str, str]] = []
    for example in benchmark:
        own = alphanumeric_words(example.text)
        hits = bloom.has(gram_hashes(own, BLOOM_WORDS))
        if not len(hits):
            short += 1
            continue
        total, found = total + len(hits), found + int(hits.sum())
        first = int(hits.argmax())
        gram = " ".join(own[first : first + BLOOM_WORDS]) if hits.any() else ""
        shares.append((float(hits.mean()), example.id, gram))
    most = sorted((entry for entry in shares if entry[0] > 0), key=lambda entry: (-entry[0], entry[1]))[:_SHOWN]
    return {
        "method": "bloom8",
        "n": BLOOM_WORDS,
        "examples": len(shares) + short,
        "shorter": short,
        "ngrams": total,
        "found": found,
        "share": found / max(total, 1),
        "mean_share": float(np.mean([share for share, _, _ in shares])) if shares else 0.0,
        "filter_megabytes": bloom.bits / 8e6,
        "overlaps": [{"example": name, "share": share, "overlap": gram} for share, name, gram in most],
    }
