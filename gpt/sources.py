"""Named corpora for ``--data.source``: their names, and mixtures of them joined by ``+``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from zoo.registry import resolve
from zoo.shared.errors import UserError
from zoo.shared.text.documents import Document
from zoo.shared.text.sentences import sentences

Split = tuple[Sequence[Document], Sequence[Document]]

# Name -> (function that gives the documents to train on and those that are held out, the corpus in words).
SOURCES: dict[str, tuple[str, str]] = {
    "shakespeare": ("zoo.shared.text.plays:split", "Shakespeare's plays"),
    "webster-1913": ("zoo.shared.text.webster:split", "Webster's dictionary of 1913"),
    "verse": ("zoo.shared.text.verse:split", "verse printed by 1922"),
    "film-reviews": ("zoo.shared.text.film_reviews:split", "film reviews"),
    "python-docs": ("zoo.shared.text.python_docs:split", "Python's documentation of itself"),
    "sentences": ("zoo.gpt.sources:generated", "generated sentences"),
}

_LEAST_HELD_OUT = 2000  # characters

_NAMES = re.compile(r"[\w-]+(\+[\w-]+)*")


def generated() -> Split:
    """Generated sentences, for tests."""
    found = sentences(240)
    return found[:-24], found[-24:]


def is_named(source: str) -> bool:
    """Whether a source is written as names are, and no file is called so."""
    return _NAMES.fullmatch(source) is not None and not Path(source).exists()


def named(source: str) -> Split:
    """Documents of a named corpus or of a mixture, one corpus after another.

    Args:
        source: A name of :data:`SOURCES`, or several joined by ``+``.

    Raises:
        UserError: Unknown or repeated name, or a pack that cannot be fetched.
    """
    names = source.split("+")
    if unknown := [name for name in names if name not in SOURCES]:
        close = difflib.get_close_matches(unknown[0], SOURCES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(SOURCES)}, and files"
        raise UserError(f"no such file and no such source: {unknown[0]}; {hint}")
    if len(set(names)) < len(names):
        raise UserError(f"{source} names a source twice; name it once")
    found = [resolve(SOURCES[name][0])() for name in names]
    train = [document for part, _ in found for document in part]
    return train, [document for _, part in found for document in part]


def end_apart(documents: Sequence[Document], share: float) -> Split:
    """Hold out the end of the longest of a few documents, from a line on.

    Args:
        documents: The documents.
        share: Of all their characters.

    Returns:
        What is left, and the end; nothing is held out where it would be too short to measure on.
    """
    size = int(share * sum(len(document.text) for document in documents))
    place = max(range(len(documents)), key=lambda number: len(documents[number].text), default=0)
    if size < _LEAST_HELD_OUT or 2 * size > len(documents[place].text):
        return list(documents), []
    longest = documents[place]
    cut = longest.text.rfind("\n", 0, -size) + 1 or len(longest.text) - size
    begin, end = (Document(text, longest.id, longest.year) for text in (longest.text[:cut], longest.text[cut:]))
    return [*documents[:place], begin, *documents[place + 1 :]], [end]


def in_words(source: str) -> str | None:
    """A named source for people; None where it is none."""
    names = source.split("+")
    return " and ".join(SOURCES[name][1] for name in names) if all(name in SOURCES for name in names) else None


def equal_shares(parts: Sequence[Sequence[Document]]) -> list[str]:
    """Texts of several corpora, of each about as many bytes as the smallest has, evenly spread over it.

    A tokenizer that is learnt from them favours none of the models that use it.
    """
    sizes = [sum(len(document.text.encode()) for document in part) for part in parts]
    texts = []
    for part, size in zip(parts, sizes, strict=True):
        share, taken = min(sizes) / max(size, 1), 0.0
        for document in part:
            taken += share
            if taken >= 1 - 1e-9:
                taken -= 1
                texts.append(document.text)
    return texts
