"""The default recipe's speech: sentences of a bounded domain, spoken by a synthesiser in five languages.

Shares of tasks are those of the paper's 680,000 hours (Whisper, arXiv:2212.04356, Section 2.1): 65 % English, 18 %
other languages into English, 17 % transcripts of other languages; the latter two share their clips here. One voice of
the engine is never in training and speaks held-out sentences only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from zoo.shared.data.samples import Progress
from zoo.shared.errors import UserError
from zoo.whisper.speech import accents, sentences
from zoo.whisper.speech.noise import COLOURS, noise
from zoo.whisper.speech.records import ArraySound, Segment, SpeechList, StoredSound, Task, Utterance
from zoo.whisper.speech.speaking import MARGIN_SECONDS, Speaker
from zoo.whisper.speech.store import SAMPLE_RATE
from zoo.whisper.speech.synthesis import Job, speak_all

VOICES = {"en": "en-US", "de": "de-DE", "es": "es-ES", "fr": "fr-FR", "it": "it-IT"}
HELD_OUT_VOICE = "en-GB"

ENGLISH, TRANSLATED = 0.65, 0.18
ACCENTED = 0.5
"""Share of the English training sentences that voices of other languages speak, so that a voice is no language."""

NAME = "generated speech"

_PITCH, _SPEED = (0.75, 1.4), (0.85, 1.25)
_STEP = 20  # pitch and speed come in twentieths
_PACE = {"es-ES": 1.1, "it-IT": 1.25}  # of voices that are slower than the others
_SECONDS = (1.0, 3.5)  # of clips without speech
_STREAMS = {"train": 0, "held-out": 1, "unseen-voice": 2}
_QUIETEST, _LOUDEST = 0.0003, 0.05  # root mean square of noise, of full scale


@dataclass(frozen=True, kw_only=True)
class CorpusSize:
    """How much is spoken.

    Attributes:
        train: Utterances to train on.
        held_out: Held-out sentences of each language, spoken by known voices as they are.
        unseen_voice: Held-out English sentences that the held-out voice speaks.
        languages: Languages that are spoken; English must be among them.
        silent: Share of training and held-out utterances without speech, beside the others.
    """

    train: int = 8000
    held_out: int = 200
    unseen_voice: int = 200
    languages: tuple[str, ...] = ("en", "de", "es", "fr", "it")
    silent: float = 0.03

    def __post_init__(self) -> None:
        unknown = [language for language in self.languages if language not in VOICES]
        if unknown or "en" not in self.languages:
            what = f"not {', '.join(unknown)}" if unknown else "and en must be one of them"
            raise UserError(f"generated speech has the languages {', '.join(VOICES)}, {what}")
        if min(self.train, self.held_out, self.unseen_voice) < 1:
            raise UserError("each part of the generated speech needs at least one sentence")
        if not 0 <= self.silent < 1:
            raise UserError(f"a share of {self.silent:g} without speech is none; choose from 0 to less than 1")


def generated_speech(
    part: str,
    size: CorpusSize | None = None,
    *,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress = lambda line: None,
) -> SpeechList:
    """A part of the corpus; it is spoken where the user's cache has none of it.

    Args:
        part: ``train``; ``held-out``: held-out sentences, known voices; ``unseen-voice``: held-out sentences, the voice
            that is never trained on.
        size: How much.
        seed: Chooses sentences and speakers; which sentences are held out does not depend on it.
        workers: Processes that speak; the number of cores by default.
        progress: Called with a line when speaking begins.

    Raises:
        UserError: The engine is not installed.
    """
    size = size or CorpusSize()
    plan = list(_PARTS[part](size, seed))
    jobs = [job for job, _ in plan]
    store = speak_all(jobs, workers=workers, progress=progress)
    found: list[Utterance] = []
    for number, ((_, speaker), targets) in enumerate(plan):
        sound = StoredSound(store.path, *store.place(number))
        for task, language, written in targets:
            times = (Segment(MARGIN_SECONDS, sound.count / SAMPLE_RATE - MARGIN_SECONDS, written),)
            name = f"{part}-{number:05d}" + (f"-{task}" if len(targets) > 1 else "")
            found.append(
                Utterance(
                    id=name, sound=sound, text=written, language=language, task=task, segments=times,
                    voice=speaker.voice, source=f"{NAME}/{speaker.voice}",
                )
            )  # fmt: skip
    if part != "unseen-voice":
        found += silent_clips(part, round(size.silent * len(found)), seed=seed)
    return SpeechList(f"{NAME}, {part}", tuple(found), {})


Targets = list[tuple[Task, str, str]]
"""Task, spoken language and text of each utterance that a clip gives."""


def _train(size: CorpusSize, seed: int) -> Iterator[tuple[Job, Targets]]:
    others = [language for language in size.languages if language != "en"]
    translated = round(size.train * TRANSLATED) if others else 0
    transcribed = round(size.train * (1 - ENGLISH - TRANSLATED)) if others else 0
    english = size.train - translated - transcribed
    for number in range(english + max(translated, transcribed)):
        rng = _rng(seed, "train", number)
        meaning = sentences.sentence(seed, "train", number)
        foreign = number - english
        language = "en" if foreign < 0 else others[foreign % len(others)]
        pitch, speed = (round(_STEP * rng.uniform(*span)) / _STEP for span in (_PITCH, _SPEED))
        text = meaning.text(language)
        targets: Targets = []
        if foreign < transcribed:
            targets.append(("transcribe", language, text))
        if 0 <= foreign < translated:
            targets.append(("translate", language, meaning.text("en")))
        voice = VOICES[language]
        if foreign < 0 and rng.random() < ACCENTED:
            voice = accents.VOICES[int(rng.integers(len(accents.VOICES)))]
            text = accents.accented(text, voice, british=rng.random() < 0.5)
        yield (text, Speaker(voice, pitch, round(speed * _PACE.get(voice, 1.0), 4))), targets


def _held_out(size: CorpusSize, seed: int) -> Iterator[tuple[Job, Targets]]:
    for meaning in islice(sentences.different_sentences(seed, "held-out"), size.held_out):
        for language in size.languages:
            text = meaning.text(language)
            targets: Targets = [("transcribe", language, text)]
            if language != "en":
                targets.append(("translate", language, meaning.text("en")))
            yield (text, Speaker(VOICES[language])), targets


def _unseen_voice(size: CorpusSize, seed: int) -> Iterator[tuple[Job, Targets]]:
    for meaning in islice(sentences.different_sentences(seed, "held-out"), size.unseen_voice):
        text = meaning.text("en")
        yield (text, Speaker(HELD_OUT_VOICE)), [("transcribe", "en", text)]


_PARTS: dict[str, Callable[[CorpusSize, int], Iterator[tuple[Job, Targets]]]] = {
    "train": _train,
    "held-out": _held_out,
    "unseen-voice": _unseen_voice,
}


def silent_clips(part: str, count: int, *, seed: int) -> list[Utterance]:
    """Clips in which nobody speaks: noise of several colours and loudnesses, or next to nothing."""
    clips = []
    for number in range(count):
        rng = _rng(seed, part, number, silent=True)
        samples = round(rng.uniform(*_SECONDS) * SAMPLE_RATE)
        level = float(np.exp(rng.uniform(np.log(_QUIETEST), np.log(_LOUDEST))))
        colour = COLOURS[int(rng.integers(len(COLOURS)))]
        sound = ArraySound((noise(rng, samples, colour=colour) * level * 32767).clip(-32768, 32767).astype(np.int16))
        clips.append(
            Utterance(
                id=f"{part}-silent-{number:04d}", sound=sound, text="", language=None, no_speech=True,
                source=f"{NAME}/no speech",
            )
        )  # fmt: skip
    return clips


def _rng(seed: int, part: str, number: int, *, silent: bool = False) -> np.random.Generator:
    key = np.array([seed % 2**64, 0x5BEA], dtype=np.uint64)
    counter = np.array([0, number, _STREAMS[part], silent], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
