"""A window's text, cut at its times (Radford et al. 2022, arXiv:2212.04356, section 4.5). Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

FRAMES_PER_SECOND = 100
FRAMES_PER_STATE = 2
SECONDS_PER_STATE = 0.02


@dataclass(frozen=True, kw_only=True)
class Window:
    """What the model hears at once.

    Attributes:
        start: Its first frame.
        frames: How many frames hold sound that is to be transcribed.
        length: How many frames it has.
    """

    start: int
    frames: int
    length: int

    @property
    def offset(self) -> float:
        """When it starts, in seconds of the recording."""
        return self.start / FRAMES_PER_SECOND

    @property
    def heard_end(self) -> float:
        """When its sound ends."""
        return self.offset + self.frames / FRAMES_PER_SECOND

    @property
    def end(self) -> float:
        """When it would end if it were full of sound."""
        return (self.start + self.length) / FRAMES_PER_SECOND


@dataclass(kw_only=True)
class Word:
    """A word with its times.

    Attributes:
        text: With the space before it and the punctuation around it.
        tokens: Its ids.
        start: Seconds.
        end: Seconds.
        probability: Mean of its tokens', each among all text.
    """

    text: str
    tokens: list[int]
    start: float
    end: float
    probability: float


@dataclass(kw_only=True)
class Segment:
    """A phrase with its times, and how its window was decoded.

    Attributes:
        seek: First frame of the window.
        start: Seconds from the start of the recording.
        end: The same.
        text: Without timestamps.
        tokens: Ids, timestamps included.
        temperature: At which the window was decoded.
        avg_logprob: Of the window's text, a token on average.
        compression_ratio: Of the window's text.
        no_speech_prob: Of the window.
        words: Where word times were asked for.
    """

    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: list[Word] | None = field(default=None)

    @property
    def empty(self) -> bool:
        """Whether it says nothing, or takes no time."""
        return self.start == self.end or not self.text.strip()

    def clear(self) -> None:
        """Say nothing."""
        self.text, self.tokens = "", []
        if self.words is not None:
            self.words = []

    def as_dict(self, index: int) -> dict[str, Any]:
        """As the reference writes it, with its number."""
        result: dict[str, Any] = {
            "id": index,
            "seek": self.seek,
            "start": self.start,
            "end": self.end,
            "text": self.text,
            "tokens": self.tokens,
            "temperature": self.temperature,
            "avg_logprob": self.avg_logprob,
            "compression_ratio": self.compression_ratio,
            "no_speech_prob": self.no_speech_prob,
        }
        if self.words is not None:
            result["words"] = [
                {"word": word.text, "start": word.start, "end": word.end, "probability": word.probability}
                for word in self.words
            ]
        return result


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A window's text in pieces.

    Attributes:
        pieces: Start and end in seconds from the start of the window, and ids.
        advance: Frames to the start of the next window.
        closed: Whether the text ends with the end of a phrase: no other one begins in the window.
    """

    pieces: list[tuple[float, float, list[int]]]
    advance: int
    closed: bool


def cut_window(tokens: Sequence[int], *, frames: int, timestamp_begin: int) -> Cut:
    """Cut a window's text where one phrase's end stands right before the start of the next one.

    A phrase that only begins in the window is left to the next one, which starts where its last finished phrase ends.
    Without any such place all of the window is one phrase.

    Args:
        tokens: What the decoder wrote.
        frames: Frames of the window that hold sound.
        timestamp_begin: The id of 0.00 s.
    """
    ids = list(tokens)
    timed = [token >= timestamp_begin for token in ids]
    closed = timed[-2:] == [False, True]
    ends = [place for place in range(1, len(ids)) if timed[place - 1] and timed[place]]
    if not ends:
        times = [token - timestamp_begin for token in ids if token >= timestamp_begin]
        seconds = times[-1] * SECONDS_PER_STATE if times and times[-1] else frames / FRAMES_PER_SECOND
        return Cut(pieces=[(0.0, seconds, ids)], advance=frames, closed=closed)
    if closed:
        ends.append(len(ids))
    pieces = []
    for start, end in zip([0, *ends], ends, strict=False):
        piece = ids[start:end]
        first, last = ((token - timestamp_begin) * SECONDS_PER_STATE for token in (piece[0], piece[-1]))
        pieces.append((first, last, piece))
    reached = (ids[ends[-1] - 1] - timestamp_begin) * FRAMES_PER_STATE
    return Cut(pieces=pieces, advance=frames if closed else reached, closed=closed)
