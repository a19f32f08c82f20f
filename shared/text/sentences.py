"""Generated text for tests and smoke runs: short documents of sentences from a small grammar."""

from __future__ import annotations

import numpy as np

from zoo.shared.text.documents import Document

_NOUNS = ("king", "queen", "river", "horse", "captain", "letter", "garden", "tower", "daughter", "soldier")
_VERBS = ("sees", "loves", "follows", "forgets", "finds", "guards", "calls", "leaves")
_ADJECTIVES = ("old", "quiet", "brave", "golden", "lost", "gentle")
_ENDS = (".", ".", "!", "?")


def sentences(count: int, *, seed: int = 0, length: int = 12) -> list[Document]:
    """Documents of ``length`` sentences each; the years run from 1800 on.

    Args:
        count: Number of documents.
        seed: Chooses them.
        length: Sentences of a document.
    """
    draw = np.random.default_rng(seed)

    def noun() -> str:
        adjective = f"{draw.choice(_ADJECTIVES)} " if draw.random() < 0.4 else ""
        return f"the {adjective}{draw.choice(_NOUNS)}"

    def sentence() -> str:
        text = f"{noun()} {draw.choice(_VERBS)} {noun()}{draw.choice(_ENDS)}"
        return text[0].upper() + text[1:]

    return [
        Document(" ".join(sentence() for _ in range(length)) + "\n", f"generated-{number:05d}", 1800 + number % 200)
        for number in range(count)
    ]
