"""Where two transcripts of one recording say different words, and when. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zoo.whisper.evaluation.edits import align
from zoo.whisper.evaluation.scores import normaliser


@dataclass(frozen=True, kw_only=True)
class TimedWord:
    """A word of a transcript.

    Attributes:
        text: As it is compared: normalised word by word.
        start: Seconds.
        end: Seconds.
    """

    text: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Words that two transcripts do not share.

    Attributes:
        start: Seconds.
        end: Seconds.
        expected: The words of the first one.
        found: The words of the second one.
    """

    start: float
    end: float
    expected: str
    found: str


def timed_words(result: Mapping[str, Any]) -> list[TimedWord]:
    """The words of a transcript.

    Args:
        result: The reference's dictionary. Where it has no times of words, they share their segment's by their letters.
    """
    normalise = normaliser(result.get("language"))
    found = []
    for segment in result["segments"]:
        for text, start, end in _words(segment):
            parts = normalise(text).split()
            for number, part in enumerate(parts):
                step = (end - start) / len(parts)
                found.append(TimedWord(text=part, start=start + number * step, end=start + (number + 1) * step))
    return found


def _words(segment: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    if segment.get("words"):
        yield from ((word["word"], word["start"], word["end"]) for word in segment["words"])
        return
    words = segment["text"].split()
    letters = sum(map(len, words))
    start, rate = segment["start"], (segment["end"] - segment["start"]) / max(1, letters)
    for word in words:
        yield word, start, start + len(word) * rate
        start += len(word) * rate


def word_differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[Difference]:
    """Where two transcripts of one recording differ, by the fewest edits; what error rates do not count is none.

    Args:
        expected: The reference's dictionary.
        found: Another one of the same recording.

    Returns:
        In the order of time; words that differ side by side are one difference.
    """
    left, right = timed_words(expected), timed_words(found)
    differences: list[Difference] = []
    here: tuple[list[TimedWord], list[TimedWord]] = ([], [])
    for edit in [*align([word.text for word in left], [word.text for word in right]), None]:
        if edit is not None and edit.kind != "hit":
            if edit.reference is not None:
                here[0].append(left[edit.reference])
            if edit.hypothesis is not None:
                here[1].append(right[edit.hypothesis])
            continue
        if words := [*here[0], *here[1]]:
            differences.append(
                Difference(
                    start=round(min(word.start for word in words), 2),
                    end=round(max(word.end for word in words), 2),
                    expected=" ".join(word.text for word in here[0]),
                    found=" ".join(word.text for word in here[1]),
                )
            )
            here = ([], [])
    return differences
