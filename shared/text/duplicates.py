"""Fuzzy de-duplication by MinHash (GPT-3, arXiv:2005.14165, appendix A: Spark's MinHashLSH with 10 hashes).

Documents are sets of words or n-grams. The default layout is the paper's: ten bands of one hash each propose pairs
that agree in any hash, and the exact Jaccard similarity of their sets decides. Bands of more hashes propose far fewer
pairs and are faster on large corpora. The first of several similar documents is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.shared.errors import UserError
from zoo.shared.text.classifier import lower_words
from zoo.shared.text.documents import Document
from zoo.shared.text.quality import snippet

HASHES = 10
THRESHOLD = 0.7

_SHOWN = 10


@lru_cache(maxsize=1 << 20)
def _hash(gram: str) -> int:
    return int.from_bytes(hashlib.blake2b(gram.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "little")


def features(text: str, ngram: int = 1) -> NDArray[np.uint32]:
    """The set of a text's n-grams of lower-cased words as sorted 32-bit hashes; a shorter text is one n-gram."""
    words = lower_words(text)
    if ngram > 1:
        words = [" ".join(words[start : start + ngram]) for start in range(max(len(words) - ngram + 1, 1))]
    return np.unique(np.fromiter(map(_hash, words), dtype=np.uint32, count=len(words)))


def jaccard(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> float:
    """Size of the intersection over size of the union of two sorted sets."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / max(len(a) + len(b) - common, 1)


class Deduplicator:
    """Lets the first of several similar documents through.

    Args:
        threshold: Jaccard similarity from which on two documents are the same.
        hashes: MinHash values per document.
        rows: Hashes per band; a pair is compared when all hashes of a band agree.
        ngram: Words per element of a document's set.

    Raises:
        UserError: Values that do not fit together, or datasketch is missing.
    """

    def __init__(self, *, threshold: float = THRESHOLD, hashes: int = HASHES, rows: int = 1, ngram: int = 1) -> None:
        if not 0 < threshold <= 1:
            raise UserError(f"--threshold {threshold:g}: choose a similarity above 0 and up to 1")
        if rows < 1 or hashes < 2 * rows or hashes % rows:
            raise UserError(f"--hashes {hashes} cannot be cut into two or more bands of --rows {rows}")
        if ngram < 1:
            raise UserError(f"--ngram {ngram}: choose 1 or more")
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError as error:
            raise UserError("finding duplicates needs datasketch: pip install 'paper-zoo[data]'") from error
        self.threshold, self.hashes, self.rows, self.ngram = threshold, hashes, rows, ngram
        self._empty = MinHash(num_perm=hashes, hashfunc=int)  # the features are hashes already
        self._index = MinHashLSH(num_perm=hashes, params=(hashes // rows, rows))
        self._sets: list[NDArray[np.uint32]] = []
        self._kept: list[tuple[str, str]] = []
        self.dropped = 0
        self.bytes_dropped = 0
        self.compared = 0
        self._pairs: list[dict[str, Any]] = []

    def __call__(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents that are kept, in their order."""
        for document in documents:
            if self._keeps(document):
                yield document

    def _keeps(self, document: Document) -> bool:
        found = features(document.text, self.ngram)
        sketch = self._empty.copy()
        sketch.update_batch(found)
        near = sorted(self._index.query(sketch))
        self.compared += len(near)
        for place in near:
            # Sets whose sizes differ too much cannot be that similar.
            small, large = sorted((len(found), len(self._sets[place])))
            if small < self.threshold * large:
                continue
            similarity = jaccard(found, self._sets[place])
            if similarity >= self.threshold:
                self._drop(document, place, similarity)
                return False
        self._index.insert(len(self._sets), sketch)
        self._sets.append(found)
        self._kept.append((document.id, snippet(document.text)))
        return True

    def _drop(self, document: Document, place: int, similarity: float) -> None:
        self.dropped += 1
        self.bytes_dropped += len(document.text.encode())
        if len(self._pairs) < _SHOWN:
            kept_id, kept_text = self._kept[place]
            self._pairs.append(
                {
                    "kept": kept_id,
                    "dropped": document.id,
                    "jaccard": similarity,
                    "kept_text": kept_text,
                    "dropped_text": snippet(document.text),
                }
            )

    def report(self) -> dict[str, Any]:
        """Counts, settings and the first pairs."""
        total = len(self._sets) + self.dropped
        return {
            "documents": total,
            "kept": len(self._sets),
            "dropped": self.dropped,
            "dropped_share": self.dropped / max(total, 1),
            "bytes_dropped": self.bytes_dropped,
            "pairs_compared": self.compared,
            "threshold": self.threshold,
            "hashes": self.hashes,
            "bands": self.hashes // self.rows,
            "ngram": self.ngram,
            "examples": self._pairs,
        }
