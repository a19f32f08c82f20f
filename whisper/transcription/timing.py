"""Mending the times of words, and giving them to the segments that they are of. Imports no torch.

Alignment stretches words over the pauses beside them. What is done about it is the reference's, figures included, so
that times agree with its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from zoo.whisper.transcription.segments import FRAMES_PER_SECOND, Segment, Word

SENTENCE_ENDS = ".。!！?？"
_LONGEST_MEDIAN = 0.7
_LONG_PAUSE = 4  # median words
_SLACK = 0.5  # seconds that a word may reach beyond its segment


def typical_seconds(words: Sequence[Word]) -> float:
    """Median duration of the words that take any time, at most 0.7 s."""
    durations = [seconds for word in words if (seconds := word.end - word.start)]
    return min(_LONGEST_MEDIAN, median(durations)) if durations else 0.0


def shorten_sentence_ends(words: Sequence[Word], longest: float) -> None:
    """Cut the pause off a sentence's last sign, or off the word after it."""
    for before, word in pairwise(words):
        if word.end - word.start > longest:
            if word.text in SENTENCE_ENDS:
                word.end = word.start + longest
            elif before.text in SENTENCE_ENDS:
                word.start = word.end - longest


def merge_punctuation(words: list[Word], *, prepended: str, appended: str) -> None:
    """Join signs to the word after or before them; what is left of a joined sign is an empty word.

    Args:
        words: Changed in place.
        prepended: Signs that belong to the next word.
        appended: Signs that belong to the word before.
    """
    after = len(words) - 1
    for place in range(len(words) - 2, -1, -1):
        sign, word = words[place], words[after]
        if sign.text.startswith(" ") and sign.text.strip() in prepended:
            word.text, word.tokens = sign.text + word.text, sign.tokens + word.tokens
            sign.text, sign.tokens = "", []
        else:
            after = place
    before = 0
    for place in range(1, len(words)):
        word, sign = words[before], words[place]
        if not word.text.endswith(" ") and sign.text in appended:
            word.text, word.tokens = word.text + sign.text, word.tokens + sign.tokens
            sign.text, sign.tokens = "", []
        else:
            before = place


def hand_out(segments: Sequence[Segment], words: Sequence[Word], texts: Sequence[Sequence[int]]) -> None:
    """Give every segment its words, with times in the recording, in hundredths of a second.

    Args:
        segments: Of one window.
        words: Theirs.
        texts: Ids of each segment's text, without timestamps.
    """
    rest = iter(words)
    for segment, text in zip(segments, texts, strict=True):
        offset = segment.seek / FRAMES_PER_SECOND
        segment.words, taken = [], 0
        while taken < len(text) and (word := next(rest, None)) is not None:
            taken += len(word.tokens)
            if word.text:
                word.start, word.end = round(offset + word.start, 2), round(offset + word.end, 2)
                segment.words.append(word)


def fit_segments(segments: Sequence[Segment], *, typical: float, last_speech: float) -> None:
    """Make words and segments begin and end together, believing a segment where its outer word is too long.

    Args:
        segments: Of one window, with their words.
        typical: Median duration of a word.
        last_speech: When the last word before ended.
    """
    longest = 2 * typical
    for segment in segments:
        words = segment.words
        if not words:
            continue
        first, last = words[0], words[-1]
        if first.end - last_speech > _LONG_PAUSE * typical:
            _shorten_after_pause(words, longest)
        if segment.start < first.end and segment.start - _SLACK > first.start:
            first.start = max(0.0, min(first.end - typical, segment.start))
        else:
            segment.start = first.start
        if segment.end > last.start and segment.end + _SLACK < last.end:
            last.end = max(last.start + typical, segment.end)
        else:
            segment.end = last.end
        last_speech = segment.end


def _shorten_after_pause(words: Sequence[Word], longest: float) -> None:
    """Cut a pause off the first word after it, or off the first two."""
    first, second = words[0], words[1] if len(words) > 1 else None
    stretched = second is not None and second.end - first.start > 2 * longest
    if first.end - first.start > longest or stretched:
        if second is not None and second.end - second.start > longest:
            first.end = second.start = max(second.end / 2, second.end - longest)
        first.start = max(0.0, first.end - longest)


def time_segments(
    segments: Sequence[Segment],
    words: list[Word],
    texts: Sequence[Sequence[int]],
    *,
    last_speech: float,
    prepended: str,
    appended: str,
) -> None:
    """Mend the times of a window's words and hand them to its segments, which get their times.

    Args:
        segments: Of one window.
        words: Theirs, with times in the window.
        texts: Ids of each segment's text, without timestamps.
        last_speech: When the last word before the window ended, in seconds of the recording.
        prepended: Signs that belong to the next word.
        appended: Signs that belong to the word before.
    """
    typical = typical_seconds(words)
    if typical:
        shorten_sentence_ends(words, 2 * typical)
    merge_punctuation(words, prepended=prepended, appended=appended)
    hand_out(segments, words, texts)
    fit_segments(segments, typical=typical, last_speech=last_speech)


def last_word_end(segments: Sequence[Segment]) -> float | None:
    """When the last word ends; the last segment, where there is no word at all; None without segments."""
    for segment in reversed(segments):
        if segment.words:
            return segment.words[-1].end
    return segments[-1].end if segments else None
