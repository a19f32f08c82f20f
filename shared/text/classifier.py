"""Documents as hashed n-grams, and a logistic regression that tells two collections of them apart."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.shared.errors import UserError
from zoo.shared.text.documents import Document

FEATURES = 1 << 18
SAMPLE = 20_000  # documents of each side that are learnt from, at most
FEWEST = 10  # documents of each side without which nothing is learnt


def uniform(*key: object) -> float:
    """A number in (0, 1) that depends on the key alone, so that the order of documents does not matter."""
    digest = hashlib.blake2b(repr(key).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return ((int.from_bytes(digest, "little") >> 11) + 0.5) / (1 << 53)


def lower_words(text: str) -> list[str]:
    """Lower-cased words between white space, as Spark's standard tokenizer has them."""
    return text.lower().split()


def hashing(longest: int) -> Any:
    """Counts of n-grams of up to ``longest`` words in :data:`FEATURES` buckets, scaled to unit length.

    Unit length takes the place of Spark's scaling by feature: the score must not grow with a document's length.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        n_features=FEATURES,
        tokenizer=lower_words,
        token_pattern=None,
        lowercase=False,
        alternate_sign=False,
        ngram_range=(1, longest),
    )


def sample(documents: Iterable[Document], *, seed: int, purpose: str, limit: int = SAMPLE) -> list[Document]:
    """Up to ``limit`` documents, chosen by their ids; all of them while there are no more."""
    share, kept = 1.0, []
    for document in documents:
        place = uniform(seed, purpose, document.id)
        if place < share:
            kept.append((place, document))
        while len(kept) > limit:
            share /= 2
            kept = [item for item in kept if item[0] < share]
    return [document for _, document in kept]


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a classifier tells documents apart that it has not seen.

    Attributes:
        accuracy: Mean of the two sides' shares that are recognised.
        auc: Area under the ROC curve.
        positives: Documents of the first side, learnt from and held out together.
        negatives: Documents of the second side.
    """

    accuracy: float
    auc: float
    positives: int
    negatives: int


class DocumentClassifier:
    """Logistic regressions on hashed n-grams, one per fold; a document is scored by one that did not learn from it.

    The two sides weigh the same, so a score does not depend on their sizes.

    Args:
        positives: Documents whose score should be near 1.
        negatives: Documents whose score should be near 0.
        longest: Longest n-gram, in words.
        inverse_penalty: Of the regression's squared weights: less copes with wrong labels, more brings scores nearer
            to 0 and 1.
        seed: Deals documents to folds.
        folds: Number of folds.

    Attributes:
        quality: Measured on documents that the regression in question had not seen.

    Raises:
        UserError: Too few documents on a side.
    """

    def __init__(
        self,
        positives: Sequence[Document],
        negatives: Sequence[Document],
        *,
        longest: int,
        inverse_penalty: float,
        seed: int = 0,
        folds: int = 5,
    ) -> None:
        from scipy.sparse import vstack
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import balanced_accuracy_score, roc_auc_score

        for name, side in (("good", positives), ("other", negatives)):
            if len(side) < FEWEST:
                raise UserError(
                    f"{len(side)} documents on the {name} side are too few to learn from, {FEWEST} are needed; "
                    "part long files with --split-on, or give more"
                )
        self._seed, self._folds = seed, folds
        self._hashing = hashing(longest)
        documents = [*positives, *negatives]
        features = vstack([self._hashing.transform([document.text]) for document in documents]).tocsr()
        labels = np.repeat([1, 0], [len(positives), len(negatives)])
        fold = np.array([self._fold(document) for document in documents])
        scores = np.zeros(len(documents))
        self._models = []
        for number in range(folds):
            learnt = fold != number
            if len(set(labels[learnt])) < 2:  # a few documents fell into one fold by chance
                learnt[:] = True
            model = LogisticRegression(C=inverse_penalty, class_weight="balanced", solver="liblinear")
            model.fit(features[learnt], labels[learnt])
            self._models.append(model)
            if (fold == number).any():
                scores[fold == number] = model.predict_proba(features[fold == number])[:, 1]
        self.quality = Quality(
            accuracy=float(balanced_accuracy_score(labels, scores > 0.5)),
            auc=float(roc_auc_score(labels, scores)),
            positives=len(positives),
            negatives=len(negatives),
        )

    def _fold(self, document: Document) -> int:
        return math.floor(uniform(self._seed, "fold", document.id) * self._folds)

    def score(self, documents: Sequence[Document]) -> NDArray[np.float64]:
        """Probability that each document is of the first side, ``(N,)``."""
        scores = np.zeros(len(documents))
        features = self._hashing.transform([document.text for document in documents])
        folds = np.array([self._fold(document) for document in documents], dtype=int)
        for number in set(folds.tolist()):
            rows = np.flatnonzero(folds == number)
            scores[rows] = self._models[number].predict_proba(features[rows])[:, 1]
        return scores
