"""Speech to train on, and what is held out of it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from zoo.shared.data.samples import Progress
from zoo.shared.errors import UserError
from zoo.whisper.sources import GENERATED, TONES, read_speech
from zoo.whisper.speech.records import SpeechList, SpeechSource, Utterance
from zoo.whisper.speech.tones import DialledNumbers

UNSEEN_VOICE = "unseen voice"


@dataclass(frozen=True, kw_only=True)
class Speech:
    """Speech to train on and to measure with.

    Attributes:
        train: To train on.
        held_out: To measure with, by what it is; the first one is measured while training.
        unreadable: Name of what is damaged or missing to the reason.
    """

    train: SpeechSource
    held_out: dict[str, SpeechSource]
    unreadable: dict[str, str] = field(default_factory=dict)


def open_splits(
    source: str,
    *,
    held_out: float,
    language: str | None,
    languages: Sequence[str],
    utterances: int,
    seed: int,
    progress: Progress = lambda line: None,
) -> Speech:
    """Open a source.

    Args:
        source: As :class:`zoo.whisper.data.WhisperDataModule` takes it.
        held_out: Share of the utterances that is held out, where the source has no part of its own.
        language: Language of sources that do not say it.
        languages: Languages that are generated.
        utterances: Utterances that are generated to train on.
        seed: Chooses what is generated.
        progress: Called with a line where something is made or fetched.

    Raises:
        UserError: There is no such source, or it cannot be read.
    """
    if source == TONES:
        return Speech(
            train=DialledNumbers(count=utterances, seed=seed),
            held_out={TONES: DialledNumbers(count=max(20, utterances // 20), seed=seed, held_out=True)},
        )
    if source == GENERATED:
        return _generated(languages, utterances, seed, progress)
    found = read_speech(source, language=language, progress=progress)
    train, away = _split(found, held_out)
    if not len(train):
        raise UserError(f"{source} has no utterance to train on")
    return Speech(train=train, held_out={"held out": away} if len(away) else {}, unreadable=found.unreadable)


def _generated(languages: Sequence[str], utterances: int, seed: int, progress: Progress) -> Speech:
    from zoo.whisper.speech.corpus import CorpusSize, generated_speech

    size = CorpusSize(train=utterances, languages=tuple(languages))
    train, known, unseen = (
        generated_speech(part, size, seed=seed, progress=progress) for part in ("train", "held-out", "unseen-voice")
    )
    return Speech(train=train, held_out={"known voices": known, UNSEEN_VOICE: unseen})


def _split(found: SpeechList, share: float) -> tuple[SpeechList, SpeechList]:
    """By what is said, so that no held-out sentence is in training; the same for any order of the utterances."""

    def away(utterance: Utterance) -> bool:
        said = utterance.text.casefold() or utterance.id
        return zlib.crc32(said.encode("utf-8")) / 2**32 < share

    parts = [tuple(u for u in found if away(u) == wanted) for wanted in (False, True)]
    train, held_out = (replace(found, utterances=part) for part in parts)
    return train, held_out
