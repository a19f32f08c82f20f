"""Leaving out words that were invented about silence. Imports no torch.

Invented words are improbable, very short or very long, and silence or more of them lies on both sides. The rules and
their figures are those of ``whisper.transcribe``.
"""

from __future__ import annotations

from dataclasses import dataclass

from zoo.whisper.transcription.options import APPENDED, PREPENDED
from zoo.whisper.transcription.segments import FRAMES_PER_SECOND, Segment, Window, Word

_IMPROBABLE = 0.15
_SHORT, _LONG = 0.133, 2.0
_JUDGED = 8  # words of a segment
_MANY = 3.0
_EDGE = 2.0  # seconds from the edge of a window that count as silence


def strangeness(word: Word) -> float:
    """How much a word looks invented; an ordinary one does not at all."""
    seconds = word.end - word.start
    score = float(word.probability < _IMPROBABLE)
    if seconds < _SHORT:
        score += (_SHORT - seconds) * 15
    if seconds > _LONG:
        score += seconds - _LONG
    return score


def looks_invented(segment: Segment | None) -> bool:
    """Whether the first words of a segment are strange enough."""
    if segment is None or not segment.words:
        return False
    words = [word for word in segment.words if word.text not in PREPENDED + APPENDED][:_JUDGED]
    score = sum(strangeness(word) for word in words)
    return score >= _MANY or score + 0.01 >= len(words)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is left of a window.

    Attributes:
        kept: Its segments that are believed.
        seek: First frame of the next window.
        again: Whether the window begins with silence and is to be decoded anew from its end, as if it had not been.
    """

    kept: list[Segment]
    seek: int
    again: bool = False


def judge(
    segments: list[Segment],
    window: Window,
    *,
    seek: int,
    threshold: float,
    last_speech: float,
    recording_frames: int,
) -> Verdict:
    """Look for invented segments between silences.

    Args:
        segments: Of the window, with words.
        window: Where it lies.
        seek: First frame of the next window so far.
        threshold: Seconds without words that are silence.
        last_speech: When the last word before the window ended.
        recording_frames: Frames of the whole recording.
    """
    spoken = [segment for segment in segments if segment.words]
    if spoken and looks_invented(spoken[0]):
        gap = spoken[0].start - window.offset
        if gap > threshold:
            return Verdict(kept=[], seek=window.start + round(gap * FRAMES_PER_SECOND), again=True)
    for number, segment in enumerate(spoken):
        following = spoken[number + 1] if number + 1 < len(spoken) else None
        if looks_invented(segment) and (
            _silence_before(segment, window, threshold, last_speech)
            and _silence_after(segment, following, window, threshold)
        ):
            seek = round(max(window.offset + 1, segment.start) * FRAMES_PER_SECOND)
            if recording_frames / FRAMES_PER_SECOND - segment.end < threshold:
                seek = recording_frames
            kept = next(place for place, other in enumerate(segments) if other is segment)
            return Verdict(kept=segments[:kept], seek=seek)
        last_speech = segment.end
    return Verdict(kept=segments, seek=seek)


def _silence_before(segment: Segment, window: Window, threshold: float, last_speech: float) -> bool:
    start = segment.start
    return start - last_speech > threshold or start < threshold or start - window.offset < _EDGE


def _silence_after(segment: Segment, following: Segment | None, window: Window, threshold: float) -> bool:
    next_start = window.heard_end
    if following is not None:
        assert following.words
        next_start = following.words[0].start
    if next_start - segment.end > threshold or looks_invented(following):
        return True
    return window.end - segment.end < _EDGE
