"""What one piece of speech says: the records that every source of speech gives. Imports no torch.

Times are in seconds. Whisper, arXiv:2212.04356, Sections 2.1 and 2.3.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from zoo.whisper.languages import LANGUAGES

WINDOW = 30.0
"""The longest piece that the model hears at once."""

Task = Literal["transcribe", "translate"]

TASKS: tuple[Task, ...] = get_args(Task)

_LEEWAY = 0.1  # by which times may lie outside the sound: people round them, and headers do


@dataclass(frozen=True)
class FileSound:
    """Sound in an encoded file, or in a part of an archive that is one.

    Attributes:
        path: The file or archive.
        offset: First byte of it in the archive.
        size: Its bytes in the archive; None for a whole file.
    """

    path: Path
    offset: int = 0
    size: int | None = None


@dataclass(frozen=True)
class StoredSound:
    """Sound in a :class:`zoo.whisper.speech.store.ClipStore`: 16-bit samples at 16 kHz.

    Attributes:
        path: The store's file of samples.
        first: First sample.
        count: Number of samples.
    """

    path: Path
    first: int
    count: int


@dataclass(frozen=True, eq=False)
class ArraySound:
    """Sound in memory.

    Attributes:
        samples: ``(n,)`` at 16 kHz: 16-bit integers, or floats in [-1, 1].
    """

    samples: NDArray[np.int16] | NDArray[np.float32]


Sound = FileSound | StoredSound | ArraySound


@dataclass(frozen=True)
class Segment:
    """A part of what is said, with its times.

    Attributes:
        start: When it begins, from the beginning of the utterance.
        end: When it ends; None for a last segment that the window cuts, of which only the beginning is told and
            ``text`` is empty (Section 2.3).
        text: What is said in it.
    """

    start: float
    end: float | None
    text: str


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One piece of speech and what the model is to write for it.

    Attributes:
        id: What a person recognises it by.
        sound: Where its sound is.
        text: What is written; empty where nothing is said.
        language: Code of the language that is spoken; None where nothing is said.
        task: ``transcribe``, or ``translate`` where the text is English and the speech is not.
        start: Where it begins in the sound.
        end: Where it ends in the sound; None is the sound's end.
        segments: Parts with times from the utterance's beginning; empty where times are not known.
        prompt: The text before it, which the model is told.
        voice: Who speaks, where that is known.
        source: What it belongs to, for reports and error rates by source.
        no_speech: Whether nothing is said: the model is to say so.
    """

    id: str
    sound: Sound
    text: str
    language: str | None
    task: Task = "transcribe"
    start: float = 0.0
    end: float | None = None
    segments: tuple[Segment, ...] = ()
    prompt: str = ""
    voice: str | None = None
    source: str = ""
    no_speech: bool = False


class SpeechSource(Protocol):
    """Utterances that can be read at random, in worker processes too."""

    @property
    def name(self) -> str:
        """What it is, for people."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Utterance: ...


@dataclass(frozen=True)
class SpeechList:
    """Utterances in memory.

    Attributes:
        name: What they are, for people.
        utterances: The utterances.
        left_out: Reason to number of those that are of no use.
        unreadable: Name of what is damaged or missing to the reason.
    """

    name: str
    utterances: tuple[Utterance, ...]
    left_out: dict[str, int]
    unreadable: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, i: int) -> Utterance:
        return self.utterances[i]

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.utterances)


def mistakes(utterance: Utterance, *, seconds: float | None = None) -> Iterator[str]:
    """What is wrong with an utterance: a line for each mistake, without the utterance's name.

    Args:
        utterance: The utterance.
        seconds: Length of its sound, where that is known.
    """
    yield from _mistakes_of_labels(utterance)
    if utterance.no_speech:
        return
    if not utterance.text.strip() and not utterance.segments:
        yield "it has no text; say `no_speech` where nothing is said"
    yield from _mistakes_of_times(utterance, seconds)


def _mistakes_of_labels(utterance: Utterance) -> Iterator[str]:
    language = utterance.language
    if utterance.no_speech:
        if utterance.text or utterance.segments:
            yield "it is marked `no_speech` but has text"
        if language is not None and language not in LANGUAGES:
            yield unknown_language(language)
        return
    if language is None:
        yield "it has no language; give the code of the language that is spoken, such as en"
    elif language not in LANGUAGES:
        yield unknown_language(language)
    if utterance.task not in TASKS:
        yield f"task {utterance.task!r} is unknown; choose transcribe or translate"
    elif utterance.task == "translate" and language == "en":
        yield "English speech is transcribed, not translated; leave out the task"


def unknown_language(language: object) -> str:
    """The line for a language that Whisper does not know."""
    names = {name: code for code, name in LANGUAGES.items()}
    text = str(language).lower()
    close = names.get(text) or next(iter(difflib.get_close_matches(text, [*LANGUAGES, *names], n=1, cutoff=0.6)), None)
    close = names.get(close or "", close)
    hint = f"; did you mean {close}?" if close else "; codes are such as en, de or zh"
    return f"language {language!r} is unknown{hint}"


def _mistakes_of_times(utterance: Utterance, seconds: float | None) -> Iterator[str]:
    start, end = utterance.start, utterance.end
    numbers = [start, *([] if end is None else [end])]
    numbers += [time for s in utterance.segments for time in (s.start, s.end) if time is not None]
    if not all(math.isfinite(number) for number in numbers):
        yield "its times must be numbers"
        return
    if start < 0:
        yield f"it starts at {start:g} s, before its sound does"
    if end is not None and end <= start:
        yield f"it ends at {end:g} s, which is not after its start at {start:g} s"
        return
    if seconds is not None:
        if start >= seconds:
            yield f"it starts at {start:g} s, but its sound lasts {seconds:.2f} s"
            return
        if end is not None and end > seconds + _LEEWAY:
            yield f"it ends at {end:g} s, but its sound lasts {seconds:.2f} s"
    last = seconds if end is None else end if seconds is None else min(end, seconds)
    yield from _mistakes_of_segments(utterance.segments, None if last is None else last - start)


def _mistakes_of_segments(segments: tuple[Segment, ...], length: float | None) -> Iterator[str]:
    before = 0.0
    for number, segment in enumerate(segments, 1):
        name = f"segment {number}"
        if segment.start < 0 or (length is not None and segment.start >= length + _LEEWAY):
            yield f"{name} starts at {segment.start:g} s, outside of the sound"
        if segment.end is None:
            if number < len(segments):
                yield f"{name} has no end, which only the last one may lack"
            continue
        if segment.end <= segment.start:
            yield f"{name} ends at {segment.end:g} s, which is not after its start at {segment.start:g} s"
        if length is not None and segment.end > length + _LEEWAY:
            yield f"{name} ends at {segment.end:g} s, outside of the sound, which lasts {length:.2f} s"
        if segment.start < before - 1e-6:
            yield f"{name} starts at {segment.start:g} s, before the one before it ends at {before:g} s"
        if not segment.text.strip():
            yield f"{name} has no text"
        before = max(before, segment.end)
