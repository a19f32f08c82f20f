"""Cutting long recordings with timed segments into the 30-second pieces that the model hears.

Whisper, arXiv:2212.04356, Sections 2.1 and 2.3: a piece has the segments that lie in it; of a last segment that the
window cuts only the beginning is told, and the next piece begins there; the text before a piece is its prompt; pieces
in which nobody speaks are kept for learning to detect speech, but only a share of them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from zoo.shared.data.images import BadSample
from zoo.whisper.speech.records import WINDOW, Segment, SpeechList, Utterance
from zoo.whisper.speech.sounds import seconds_of

TOO_LONG = "longer than the window, without segments"

_LEAST = 0.1  # seconds of sound that are worth a piece


def cut_all(
    name: str,
    utterances: Iterable[Utterance],
    *,
    window: float = WINDOW,
    silent_share: float = 1.0,
    left_out: dict[str, int] | None = None,
    unreadable: dict[str, str] | None = None,
) -> SpeechList:
    """Pieces of no more than a window of all utterances.

    Args:
        name: What they are, for people.
        utterances: Utterances of any length.
        window: Seconds that the model hears at once.
        silent_share: Share of the pieces without speech to keep; their ids decide which.
        left_out: Reasons and numbers of what was left out before.
        unreadable: Names and reasons of what could not be read before.
    """
    counts = Counter(left_out or {})
    damaged = dict(unreadable or {})
    found: list[Utterance] = []
    for utterance in utterances:
        try:
            seconds = _seconds(utterance)
        except BadSample as error:
            damaged[utterance.id] = str(error)
            continue
        if seconds > window and not utterance.segments and not utterance.no_speech:
            counts[TOO_LONG] += 1
            continue
        for piece in cut(utterance, seconds=seconds, window=window):
            if piece.no_speech and not _drawn(piece.id, silent_share):
                counts["without speech"] += 1
            else:
                found.append(piece)
    return SpeechList(name, tuple(found), dict(counts), damaged)


def cut(utterance: Utterance, *, seconds: float, window: float = WINDOW) -> Iterator[Utterance]:
    """Pieces of one utterance, in order; the utterance itself where it fits into the window.

    A segment that is itself longer than the window is in no piece.

    Args:
        utterance: With segments, where it is longer than the window.
        seconds: How long it lasts.
        window: Seconds that the model hears at once.
    """
    if seconds <= window:
        yield utterance
        return
    segments = [s for s in utterance.segments if s.end is not None and s.end - s.start <= window]
    at, number, begun = 0.0, 0, 0
    told = utterance.prompt
    while seconds - at > _LEAST:
        end = min(at + window, seconds)
        inside: list[Segment] = []
        following = end
        while begun < len(segments) and segments[begun].start < end:
            segment = segments[begun]
            assert segment.end is not None
            if segment.end > end + 1e-6:
                following = segment.start
                inside.append(Segment(max(segment.start - at, 0.0), None, ""))
                break
            inside.append(Segment(max(segment.start - at, 0.0), segment.end - at, segment.text.strip()))
            begun += 1
        text = " ".join(segment.text for segment in inside if segment.end is not None)
        long = _covered_by_long(utterance.segments, at, following, window)
        if not long:
            yield replace(
                utterance, id=f"{utterance.id}#{number}", start=utterance.start + at, end=utterance.start + end,
                text=text, segments=tuple(inside), prompt=told, no_speech=not inside,
                language=utterance.language if inside else None, task=utterance.task if inside else "transcribe",
            )  # fmt: skip
        told = " ".join(part for part in (told, text) if part)
        number += 1
        at = following if following > at else end


def _covered_by_long(segments: Iterable[Segment], start: float, end: float, window: float) -> bool:
    """Whether a segment that is in no piece speaks between two times."""
    return any(s.end is not None and s.end - s.start > window and s.start < end and s.end > start for s in segments)


def _seconds(utterance: Utterance) -> float:
    if utterance.end is not None:
        return utterance.end - utterance.start
    return seconds_of(utterance.sound) - utterance.start


def _drawn(name: str, share: float) -> bool:
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
