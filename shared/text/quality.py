"""GPT-3's quality filter (arXiv:2005.14165, appendix A): score documents by likeness to good ones, keep by chance.

A logistic regression on hashed words learns good documents from unfiltered ones. A document is kept when a draw from a
Pareto distribution exceeds one minus its score, so that most of what is kept scores high and some does not.
Differs from the paper in: feature vectors have unit length, both sides weigh the same, and a document is scored by a
regression that has not learnt from it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from zoo.shared.text.classifier import DocumentClassifier, sample, uniform
from zoo.shared.text.documents import Document, Documents

ALPHA = 9.0

_BATCH = 64
_BINS = 10
_SHOWN = 3


def pareto(alpha: float, *key: object) -> float:
    """A draw from the distribution of ``numpy.random.pareto`` (Lomax): P(X > x) = (1 + x) ** -alpha.

    Args:
        alpha: Shape.
        key: Decides the draw.
    """
    return uniform(*key) ** (-1 / alpha) - 1


def keep_probability(score: float, alpha: float = ALPHA) -> float:
    """Probability that a document with this score is kept."""
    return (2 - score) ** -alpha


def learn_quality(good: Iterable[Document], unfiltered: Iterable[Document], *, seed: int = 0) -> DocumentClassifier:
    """Learn good documents from unfiltered ones.

    Args:
        good: Documents as they should be.
        unfiltered: The documents that are to be filtered.
        seed: Chooses among more documents than are learnt from.

    Raises:
        UserError: Too few documents on a side.
    """
    return DocumentClassifier(
        sample(good, seed=seed, purpose="good"),
        sample(unfiltered, seed=seed, purpose="unfiltered"),
        longest=1,
        inverse_penalty=10.0,  # good documents are to score near 1: at 0.5 one in forty is kept
        seed=seed,
    )


class Examples:
    """The documents with the lowest and the highest scores, and a histogram of all."""

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        self.histogram = [0] * _BINS
        self._low: list[tuple[float, int, dict[str, Any]]] = []
        self._high: list[tuple[float, int, dict[str, Any]]] = []

    def add(self, document: Document, score: float) -> None:
        """Take note of a document."""
        self.count += 1
        self.bytes += len(document.text.encode())
        self.histogram[min(int(score * _BINS), _BINS - 1)] += 1
        entry = {"id": document.id, "score": score, "text": snippet(document.text)}
        for heap, key in ((self._low, -score), (self._high, score)):
            heapq.heappush(heap, (key, -self.count, entry))
            if len(heap) > _SHOWN:
                heapq.heappop(heap)

    def report(self) -> dict[str, Any]:
        """Counts, histogram over [0, 1], and examples."""
        return {
            "documents": self.count,
            "bytes": self.bytes,
            "histogram": self.histogram,
            "lowest": [entry for _, _, entry in sorted(self._low, reverse=True)],
            "highest": [entry for _, _, entry in sorted(self._high, reverse=True)],
        }


def snippet(text: str, length: int = 160) -> str:
    """The beginning of a text, on one line."""
    words = " ".join(text[: 4 * length].split())
    return words if len(words) <= length else words[:length] + "..."


def batches(documents: Iterable[Document], size: int = _BATCH) -> Iterator[list[Document]]:
    """Documents in lists of ``size``."""
    stream = iter(documents)
    while batch := list(islice(stream, size)):
        yield batch


class QualityFilter:
    """Keeps documents by their score and a draw.

    Args:
        classifier: From :func:`learn_quality`.
        alpha: Shape of the Pareto distribution; larger keeps less of what scores low.
        seed: Decides the draws, together with the documents' ids.
    """

    def __init__(self, classifier: DocumentClassifier, *, alpha: float = ALPHA, seed: int = 0) -> None:
        self.classifier, self.alpha, self.seed = classifier, alpha, seed
        self.kept, self.dropped = Examples(), Examples()

    def __call__(self, documents: Documents | Iterable[Document]) -> Iterator[Document]:
        """The documents that are kept, in their order."""
        for batch in batches(documents):
            for document, score in zip(batch, self.classifier.score(batch).tolist(), strict=True):
                keep = pareto(self.alpha, self.seed, "pareto", document.id) > 1 - score
                (self.kept if keep else self.dropped).add(document, score)
                if keep:
                    yield document

    def report(self) -> dict[str, Any]:
        """Counts, histograms, examples, and how good the classifier is."""
        quality = self.classifier.quality
        return {
            "alpha": self.alpha,
            "seed": self.seed,
            "classifier": {
                "accuracy": quality.accuracy,
                "auc": quality.auc,
                "good": quality.positives,
                "unfiltered": quality.negatives,
            },
            "kept": self.kept.report(),
            "dropped": self.dropped.report(),
        }
